use backstay_part::Recorded;

use super::ImagesPart;
use crate::keep::keep_tag;
use crate::{Error, ImageFacts, ImagesFacts, ServiceFacts, anchors};

/// From where a recorded image could be brought back now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Availability {
    pub service: String,
    /// `this machine (anchored)`, `the registry`, `the repository`. Empty where it is lost.
    pub from: Vec<&'static str>,
}

pub(super) const ANCHORED: &str = "this machine (anchored)";
pub(super) const HERE: &str = "this machine (not anchored)";
pub(super) const REGISTRY: &str = "the registry";
pub(super) const REPOSITORY: &str = "the repository";

impl ImagesPart {
    /// Whether the images of a snapshot could be brought back now, service by service.
    pub async fn available(&self, recorded: &Recorded) -> Result<Vec<Availability>, Error> {
        let facts: ImagesFacts = recorded.facts().map_err(Error::Token)?;
        let mut found = Vec::new();
        for service in &facts.services {
            let mut from = Vec::new();
            if let Some(image) = facts.images.get(&service.image) {
                let anchored = anchors::is_anchored(self.engine(), &facts.project, &facts.kept_for, &service.service);
                if self.local(image, service, &facts).await?.is_some() {
                    from.push(if anchored.await? { ANCHORED } else { HERE });
                }
                for digest in &image.registry {
                    if self.is_at_registry(digest).await {
                        from.push(REGISTRY);
                        break;
                    }
                }
                if image.archive.is_some() {
                    from.push(REPOSITORY);
                }
            }
            found.push(Availability { service: service.service.clone(), from });
        }
        Ok(found)
    }

    /// The id by which this engine knows a recorded image, if it has it.
    pub(super) async fn local(
        &self,
        image: &ImageFacts,
        service: &ServiceFacts,
        facts: &ImagesFacts,
    ) -> Result<Option<String>, Error> {
        let here = keep_tag(self.project.name(), &facts.kept_for, &service.service);
        let names = [&image.id, &service.keep_tag, &here].into_iter().chain(&image.repo_digests);
        for name in names {
            if let Some(live) = self.engine().image(name).await?
                && image.is(&live)
            {
                return Ok(live.id);
            }
        }
        Ok(None)
    }
}
