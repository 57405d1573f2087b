use std::collections::BTreeMap;

use backstay_part::{Proof, Recorded, Token};
use backstay_run::Context;
use serde::{Deserialize, Serialize};

use super::ImagesPart;
use crate::archive::load;
use crate::keep::keep_tag;
use crate::{Error, ImageFacts, ImagesFacts, Keep, ServiceFacts, anchors};

/// What an activation is to make live. It holds ids and names alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Staged {
    pub run: String,
    /// What the tags are named after.
    pub kept_for: String,
    pub targets: BTreeMap<String, Target>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Target {
    /// The image, by the id it has on this engine.
    pub id: String,
    pub tag: String,
    pub name: Option<String>,
    /// What the name is to mean.
    pub name_id: Option<String>,
    pub built: bool,
    pub running: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Activated {
    pub run: String,
    pub staged: Staged,
}

pub(super) async fn stage(part: &ImagesPart, context: &Context, recorded: &Recorded) -> Result<Token, Error> {
    let facts: ImagesFacts = recorded.facts().map_err(Error::Token)?;
    let mut targets = BTreeMap::new();
    for service in &facts.services {
        if service.database || part.project.is_database(&service.service) {
            continue;
        }
        if context.interrupt.is_requested() {
            return Err(Error::Interrupted);
        }
        let id = bring(part, recorded, &facts, service).await?;
        let tag = hold(part, &facts.kept_for, &service.service, &id).await?;
        targets.insert(
            service.service.clone(),
            Target {
                tag,
                name: service.name.clone(),
                name_id: Some(id.clone()),
                built: service.built,
                running: service.running,
                id,
            },
        );
    }
    let staged = Staged { run: context.run.as_str().to_owned(), kept_for: facts.kept_for, targets };
    Token::new(&staged).map_err(Error::Token)
}

/// Gives an image a keep-tag and an anchor.
pub(super) async fn hold(part: &ImagesPart, kept_for: &str, service: &str, id: &str) -> Result<String, Error> {
    let project = part.project.name();
    let tag = keep_tag(project, kept_for, service);
    if part.engine().image_id(&tag).await?.as_deref() != Some(id) {
        part.engine().tag(id, &tag).await?;
    }
    if part.keep != Keep::Tag {
        anchors::anchor(part.engine(), project, kept_for, service, &tag).await?;
    }
    Ok(tag)
}

/// Makes sure that this engine has the image: it has it already, or the registry does, or the
/// repository. Returns the id it has here.
async fn bring(
    part: &ImagesPart,
    recorded: &Recorded,
    facts: &ImagesFacts,
    service: &ServiceFacts,
) -> Result<String, Error> {
    let name = &service.service;
    let not_available = |why: &str| Error::NotAvailable { service: name.clone(), why: why.to_owned() };
    let image = facts.images.get(&service.image).ok_or_else(|| not_available("the snapshot does not describe it"))?;
    if let Some(id) = part.local(image, service, facts).await? {
        return Ok(id);
    }
    let mut refused = None;
    for digest in &image.registry {
        match pull(part, image, digest).await {
            Ok(Some(id)) => return Ok(id),
            Ok(None) => {}
            Err(error) => refused = Some(error),
        }
    }
    let Some(archive) = &image.archive else {
        return Err(
            refused.unwrap_or_else(|| not_available("it is neither here, nor at a registry, nor in the repository"))
        );
    };
    load(part.engine(), &image.id, archive, &recorded.contents, &recorded.repository).await?;
    for candidate in [&image.id, &archive.name] {
        if let Some(live) = part.engine().image(candidate).await?
            && image.is(&live)
        {
            return live.id.ok_or_else(|| not_available("the engine gives it no id"));
        }
    }
    Err(Error::Archive { image: image.id.clone(), why: "what the engine loaded is another image".to_owned() })
}

async fn pull(part: &ImagesPart, image: &ImageFacts, digest: &str) -> Result<Option<String>, Error> {
    part.engine().pull(digest, &image.platform, part.credentials_for(digest)).await?;
    let live = part.engine().image(digest).await?;
    Ok(live.filter(|live| image.is(live)).and_then(|live| live.id))
}

/// For undo: what an earlier activation replaced becomes what the next one makes live.
pub(super) async fn stage_kept(part: &ImagesPart, context: &Context, activated: &Token) -> Result<Token, Error> {
    let activated: Activated = activated.read().map_err(Error::Token)?;
    let replaced = ImagesPart::pins(context).replaced(&activated.run)?.ok_or(Error::LetGo)?;
    let kept_for = super::switch::before(&activated.run);
    let mut targets = BTreeMap::new();
    for (service, before) in replaced.services {
        let Some(id) = before.image else { continue };
        if part.engine().image(&id).await?.is_none() {
            return Err(Error::ImageGone { service, image: id });
        }
        let tag = hold(part, &kept_for, &service, &id).await?;
        let target = Target {
            id,
            tag,
            name: before.name,
            name_id: before.name_meant,
            built: before.built,
            running: before.running,
        };
        targets.insert(service, target);
    }
    Token::new(&Staged { run: context.run.as_str().to_owned(), kept_for, targets }).map_err(Error::Token)
}

/// Whether what the tags mean is what was recorded.
pub(super) async fn prove(part: &ImagesPart, recorded: &Recorded, staged: &Token) -> Result<Proof, Error> {
    let facts: ImagesFacts = recorded.facts().map_err(Error::Token)?;
    let staged: Staged = staged.read().map_err(Error::Token)?;
    let mut findings = Vec::new();
    for (service, target) in &staged.targets {
        let wanted = facts.services.iter().find(|one| one.service == *service);
        let wanted = wanted.and_then(|one| facts.images.get(&one.image));
        match (part.engine().image(&target.id).await?, wanted) {
            (Some(live), Some(image)) if image.is(&live) => {}
            (Some(_), _) => findings.push(format!("what is staged for {service} is not the recorded image")),
            (None, _) => findings.push(format!("the image staged for {service} is gone")),
        }
    }
    let compared = format!("{} images by id, platform and layers", staged.targets.len());
    Ok(Proof { findings, compared })
}
