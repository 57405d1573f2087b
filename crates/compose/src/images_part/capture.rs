use std::collections::BTreeMap;
use std::time::Duration;

use backstay_model::{Event, PartName};
use backstay_part::{Captured, Contents};
use backstay_repository::SnapshotWriter;
use backstay_run::Context;

use super::ImagesPart;
use super::live::{Live, live};
use crate::archive::save;
use crate::keep::{keep_tag, release};
use crate::{Error, ImageFacts, ImagesFacts, Keep, ServiceFacts, anchors};

const REGISTRY_MAX: Duration = Duration::from_secs(30);

pub(super) async fn capture(part: &ImagesPart, context: &Context, writer: &SnapshotWriter) -> Result<Captured, Error> {
    let live = live(&part.project).await?;
    keep_all(part, context, writer, &live).await
}

/// Keeps what is given under the snapshot's name; where that fails, nothing stays kept under it.
pub(super) async fn keep_all(
    part: &ImagesPart,
    context: &Context,
    writer: &SnapshotWriter,
    live: &BTreeMap<String, Live>,
) -> Result<Captured, Error> {
    let mut keeping = Keeping {
        part,
        context,
        writer,
        kept_for: writer.id().as_str(),
        contents: Contents::new(),
        images: BTreeMap::new(),
        services: Vec::new(),
        not_covered: Vec::new(),
    };
    let kept = keeping.keep_services(live).await;
    if let Err(error) = kept {
        // The failure counts, not whether tidying up after it worked.
        let _ = release(part.engine(), part.project.name(), keeping.kept_for).await;
        return Err(error);
    }
    keeping.captured()
}

struct Keeping<'a> {
    part: &'a ImagesPart,
    context: &'a Context,
    writer: &'a SnapshotWriter,
    kept_for: &'a str,
    contents: Contents,
    images: BTreeMap<String, ImageFacts>,
    services: Vec<ServiceFacts>,
    not_covered: Vec<String>,
}

impl Keeping<'_> {
    async fn keep_services(&mut self, live: &BTreeMap<String, Live>) -> Result<(), Error> {
        for (service, live) in live {
            if self.context.interrupt.is_requested() {
                return Err(Error::Interrupted);
            }
            self.keep_service(service, live).await?;
        }
        Ok(())
    }

    async fn keep_service(&mut self, service: &str, live: &Live) -> Result<(), Error> {
        let engine = self.part.engine();
        let Some(id) = live.image() else { return Ok(()) };
        if live.images.len() > 1 {
            let text = format!("service {service} runs {} images side by side; one of them is kept", live.images.len());
            self.not_covered.push(text);
        }
        let Some(image) = engine.image(id).await? else {
            if live.running > 0 {
                return Err(Error::ImageGone { service: service.to_owned(), image: id.clone() });
            }
            self.not_covered.push(format!("the image of {service}, which does not run, is no longer on this machine"));
            return Ok(());
        };
        let project = self.part.project.name();
        let tag = keep_tag(project, self.kept_for, service);
        engine.tag(id, &tag).await?;
        if self.part.keep != Keep::Tag {
            anchors::anchor(engine, project, self.kept_for, service, &tag).await?;
        }
        if !self.images.contains_key(id) {
            let mut facts = ImageFacts::observe(image, engine.store());
            self.secure(service, &tag, &mut facts).await?;
            self.images.insert(id.clone(), facts);
        }
        self.services.push(ServiceFacts {
            service: service.to_owned(),
            image: id.clone(),
            name: live.name.clone(),
            built: live.built,
            database: self.part.project.is_database(service),
            running: live.running,
            keep_tag: tag,
        });
        Ok(())
    }

    /// The upper rungs: what survives this machine.
    async fn secure(&mut self, service: &str, tag: &str, facts: &mut ImageFacts) -> Result<(), Error> {
        if matches!(self.part.keep, Keep::Auto | Keep::Registry) {
            for digest in &facts.repo_digests {
                if self.part.is_at_registry(digest).await {
                    facts.registry.push(digest.clone());
                }
            }
        }
        match self.part.keep {
            Keep::Registry if facts.registry.is_empty() => {
                return Err(Error::NotAtRegistry { service: service.to_owned() });
            }
            Keep::Auto if facts.registry.is_empty() => {}
            Keep::Archive => {}
            _ => return Ok(()),
        }
        let subject = format!("image of {service}");
        let part = self.part.name.clone();
        self.context.hear(Event::TransferBegan {
            part: part.clone(),
            subject: subject.clone(),
            bytes_expected: Some(facts.bytes),
        });
        facts.archive = Some(save(self.part.engine(), tag, self.writer, &mut self.contents).await?);
        self.context.hear(Event::TransferEnded { part, subject });
        Ok(())
    }

    fn captured(self) -> Result<Captured, Error> {
        let summary = summary(&self.services, &self.images);
        let engine = self.part.engine();
        let facts = ImagesFacts {
            project: self.part.project.name().to_owned(),
            kept_for: self.kept_for.to_owned(),
            engine: engine.id().to_owned(),
            engine_version: engine.version().to_owned(),
            store: engine.store(),
            services: self.services,
            images: self.images,
        };
        let mut captured = Captured::new(self.contents, &facts, summary).map_err(Error::Token)?;
        captured.not_covered = self.not_covered;
        Ok(captured)
    }
}

impl ImagesPart {
    /// Whether the registry hands out exactly this digest now. That an image has repository digests
    /// proves nothing: some engines give them to images that were never pushed.
    pub(super) async fn is_at_registry(&self, digest: &str) -> bool {
        let docker = &self.engine().docker;
        let asked = docker.inspect_registry_image(digest, self.credentials_for(digest));
        let Ok(Ok(found)) = tokio::time::timeout(REGISTRY_MAX, asked).await else { return false };
        let wanted = digest.rsplit_once('@').map(|(_, wanted)| wanted);
        found.descriptor.digest.as_deref() == wanted
    }
}

fn summary(services: &[ServiceFacts], images: &BTreeMap<String, ImageFacts>) -> String {
    let archived = images.values().filter(|image| image.archive.is_some()).count();
    let registry = images.values().filter(|image| !image.registry.is_empty()).count();
    let count = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    format!(
        "{} of {}, {archived} archived, {registry} at a registry",
        count(images.len(), "image"),
        count(services.len(), "service")
    )
}

/// What of the project's containers no part takes back.
pub(super) async fn uncovered(part: &ImagesPart, name: &PartName) -> Result<Vec<String>, Error> {
    let mut found = Vec::new();
    for container in part.project.containers().await? {
        for mount in container.mounts.iter().filter(|mount| mount.kind == "volume") {
            let what = match &mount.name {
                _ if mount.is_anonymous() => "an anonymous volume".to_owned(),
                Some(volume) if !part.project.is_database(&container.service) => format!("volume {volume}"),
                _ => continue,
            };
            found.push(format!(
                "{what} of {} at {} is in no part ({name} holds images alone)",
                container.service, mount.destination
            ));
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}
