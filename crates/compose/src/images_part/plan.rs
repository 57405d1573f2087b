use backstay_model::{Difference, PartKind, PartPlan};
use backstay_part::Recorded;

use super::ImagesPart;
use super::live::live;
use crate::live_names::LiveNames;
use crate::{Error, ImageFacts, ImagesFacts};

const SHOWN: usize = 19;

pub(super) async fn plan(part: &ImagesPart, recorded: &Recorded) -> Result<PartPlan, Error> {
    let facts: ImagesFacts = recorded.facts().map_err(Error::Token)?;
    let live = live(&part.project).await?;
    let names = LiveNames::read(part.engine(), part.project.name()).await?;
    let basis = serde_json::to_value(part.image_ids().await?).map_err(Error::Token)?;
    let mut plan = PartPlan::new(part.name.clone(), PartKind::Images, basis);
    let mut bytes_needed = 0;
    for service in &facts.services {
        let recorded = &service.image;
        let runs = live.get(&service.service);
        let image = runs.and_then(|live| live.image());
        let local = match facts.images.get(recorded) {
            Some(image) => part.local(image, service, &facts).await?,
            None => None,
        };
        let same = image.is_some_and(|image| Some(image) == local.as_ref() || image == recorded);
        let holds_data = service.database || part.project.is_database(&service.service);
        if same {
            let stopped = service.running > 0 && runs.is_none_or(|live| live.running == 0);
            if stopped && !holds_data {
                plan.differences.push(Difference {
                    subject: service.service.clone(),
                    recorded: "runs".to_owned(),
                    live: "stopped".to_owned(),
                });
                plan.steps.push(format!("start {}, which does not run", service.service));
            }
            continue;
        }
        plan.differences.push(Difference {
            subject: service.service.clone(),
            recorded: short(recorded),
            live: image.map_or_else(|| "nothing".to_owned(), |image| short(image)),
        });
        if holds_data {
            let text = format!("the image of {}, which holds data, is left as it is", service.service);
            plan.warnings.push(text);
            continue;
        }
        let available = part.available_one(recorded, service, &facts, local.is_some()).await?;
        match available {
            Some(from) => plan.steps.push(format!("run {} with {}, from {from}", service.service, short(recorded))),
            None => {
                let why = facts
                    .images
                    .get(recorded)
                    .map_or_else(|| "nothing is known of it".to_owned(), ImageFacts::where_it_was_last);
                plan.refusals.push(format!("the image of {} is nowhere: {why}", service.service));
            }
        }
        if local.is_none() {
            bytes_needed += facts.images.get(recorded).map_or(0, |image| image.bytes);
        }
        if let Some(name) = service.name.as_deref().filter(|name| names.is_shared(name)) {
            let text = format!(
                "`{name}` is used outside this project too and is not moved: a plain `docker compose up` of {} would use what it means now",
                service.service
            );
            plan.warnings.push(text);
        }
    }
    for service in live.keys().filter(|service| facts.services.iter().all(|one| one.service != **service)) {
        plan.warnings.push(format!("service {service} is not in the snapshot; its image is left as it is"));
    }
    plan.unchanged = plan.steps.is_empty() && plan.refusals.is_empty();
    plan.bytes_needed = (bytes_needed > 0).then_some(bytes_needed);
    plan.not_covered = super::capture::uncovered(part, &part.name).await?;
    Ok(plan)
}

impl ImagesPart {
    async fn available_one(
        &self,
        id: &str,
        service: &crate::ServiceFacts,
        facts: &ImagesFacts,
        local: bool,
    ) -> Result<Option<&'static str>, Error> {
        let Some(image) = facts.images.get(id) else { return Ok(None) };
        if local {
            return Ok(Some("this machine"));
        }
        for digest in &image.registry {
            if self.is_at_registry(digest).await {
                return Ok(Some(super::available::REGISTRY));
            }
        }
        let _ = service;
        Ok(image.archive.as_ref().map(|_| super::available::REPOSITORY))
    }
}

/// `sha256:` and the first twelve digits.
fn short(id: &str) -> String {
    id.get(..SHOWN).unwrap_or(id).to_owned()
}
