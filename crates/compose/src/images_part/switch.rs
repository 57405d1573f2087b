use std::collections::BTreeMap;

use backstay_model::RunId;
use backstay_part::{Captured, Standing, Token};
use backstay_repository::SnapshotWriter;
use backstay_run::Context;

use super::ImagesPart;
use super::live::{Live, live};
use super::stage::{Activated, Staged, hold};
use crate::Error;
use crate::keep::{keep_repository, keep_tags, release};
use crate::live_names::LiveNames;
use crate::pins::{Before, Pin, Pins, Replaced};

/// What the images that a run replaced are kept under.
pub(super) fn before(run: &str) -> String {
    format!("before-{run}")
}

fn meant(run: &str) -> String {
    format!("names-{run}")
}

pub(super) async fn activate(part: &ImagesPart, context: &Context, staged: &Token) -> Result<Token, Error> {
    let staged: Staged = staged.read().map_err(Error::Token)?;
    let folder = ImagesPart::pins(context);
    if folder.replaced(&staged.run)?.is_none() {
        let replaced = keep_replaced(part, context, &staged).await?;
        folder.keep_replaced(&staged.run, &replaced)?;
    }
    let names = LiveNames::read(part.engine(), part.project.name()).await?;
    for (service, target) in &staged.targets {
        let Some(name) = &target.name else { continue };
        if !names.may_move(name) {
            context.warn(format!(
                "`{name}` is left as it is: a plain `docker compose up` would start {service} with what it means now"
            ));
            continue;
        }
        match &target.name_id {
            Some(id) => part.engine().tag(id, name).await?,
            None => part.engine().untag(name).await?,
        }
    }
    folder.set(Some(&pins_of(part, &staged)))?;
    Token::new(&Activated { run: staged.run.clone(), staged }).map_err(Error::Token)
}

fn pins_of(part: &ImagesPart, staged: &Staged) -> Pins {
    let pin = |target: &super::stage::Target| Pin {
        id: target.id.clone(),
        tag: target.tag.clone(),
        built: target.built,
        running: target.running,
    };
    Pins {
        run: staged.run.clone(),
        project: part.project.name().to_owned(),
        services: staged.targets.iter().map(|(service, target)| (service.clone(), pin(target))).collect(),
    }
}

/// Notes what runs and what the names mean, and holds both, before anything is switched.
async fn keep_replaced(part: &ImagesPart, context: &Context, staged: &Staged) -> Result<Replaced, Error> {
    let live = live(&part.project).await?;
    let mut services = BTreeMap::new();
    for (service, target) in &staged.targets {
        let live = live.get(service);
        let image = live.and_then(Live::image).cloned();
        if let Some(id) = &image
            && part.engine().image(id).await?.is_some()
        {
            hold(part, &before(&staged.run), service, id).await?;
        }
        let name_meant = match &target.name {
            Some(name) => part.engine().image_id(name).await?,
            None => None,
        };
        if let Some(id) = name_meant.as_ref().filter(|id| Some(*id) != image.as_ref()) {
            hold(part, &meant(&staged.run), service, id).await?;
        }
        services.insert(
            service.clone(),
            Before {
                image,
                running: live.map_or(0, |live| live.running),
                built: target.built,
                name: target.name.clone(),
                name_meant,
            },
        );
    }
    Ok(Replaced { pins: ImagesPart::pins(context).pins()?, services })
}

pub(super) async fn revert(part: &ImagesPart, context: &Context, staged: &Token) -> Result<(), Error> {
    let staged: Staged = staged.read().map_err(Error::Token)?;
    let folder = ImagesPart::pins(context);
    let Some(replaced) = folder.replaced(&staged.run)? else { return Ok(()) };
    let names = LiveNames::read(part.engine(), part.project.name()).await?;
    for before in replaced.services.values() {
        let Some(name) = before.name.as_ref().filter(|name| names.may_move(name)) else { continue };
        match &before.name_meant {
            Some(id) => part.engine().tag(id, name).await?,
            None => part.engine().untag(name).await?,
        }
    }
    folder.set(replaced.pins.as_ref())?;
    folder.forget_replaced(&staged.run)
}

pub(super) async fn standing(part: &ImagesPart, context: &Context, staged: &Token) -> Result<Standing, Error> {
    let staged: Staged = staged.read().map_err(Error::Token)?;
    let folder = ImagesPart::pins(context);
    let pins = folder.pins()?;
    let ours = pins.as_ref().is_some_and(|pins| pins.run == staged.run);
    let Some(replaced) = folder.replaced(&staged.run)? else {
        return Ok(if ours { Standing::Settled } else { Standing::NotSwitched });
    };
    if !ours {
        return Ok(match pins {
            pins if pins == replaced.pins => Standing::Half("names may have moved, the pins have not".to_owned()),
            Some(pins) => Standing::Unclear(format!("run {} switched the images since", pins.run)),
            None => Standing::Unclear("the pins are gone".to_owned()),
        });
    }
    // An engine that cleans up takes tags and leaves the image to its anchor: the id counts.
    for (service, target) in &staged.targets {
        if part.engine().image(&target.id).await?.is_none() {
            return Ok(Standing::Unclear(format!("the image kept for {service} is gone")));
        }
    }
    Ok(Standing::Switched)
}

pub(super) async fn capture_kept(
    part: &ImagesPart,
    context: &Context,
    activated: &Token,
    writer: &SnapshotWriter,
) -> Result<Option<Captured>, Error> {
    let activated: Activated = activated.read().map_err(Error::Token)?;
    let Some(replaced) = ImagesPart::pins(context).replaced(&activated.run)? else { return Ok(None) };
    let kept: BTreeMap<String, Live> = replaced
        .services
        .into_iter()
        .filter_map(|(service, before)| {
            let images = std::iter::once(before.image?).collect();
            Some((service, Live { images, running: before.running, name: before.name, built: before.built }))
        })
        .collect();
    if kept.is_empty() {
        return Ok(None);
    }
    super::capture::keep_all(part, context, writer, &kept).await.map(Some)
}

pub(super) async fn settle(part: &ImagesPart, context: &Context, activated: &Token) -> Result<(), Error> {
    let activated: Activated = activated.read().map_err(Error::Token)?;
    let folder = ImagesPart::pins(context);
    folder.forget_replaced(&activated.run)?;
    release(part.engine(), part.project.name(), &meant(&activated.run)).await?;
    // After an undo the pins name these very tags; then they stay for as long as the pins do.
    let prefix = format!("{}:{}-", keep_repository(part.project.name()), before(&activated.run));
    let pinned = folder.pins()?.is_some_and(|pins| pins.services.values().any(|pin| pin.tag.starts_with(&prefix)));
    if !pinned {
        release(part.engine(), part.project.name(), &before(&activated.run)).await?;
    }
    Ok(())
}

/// Tags and anchors of what was to be replaced go, unless they are the last that holds an image.
pub(super) async fn abandon(part: &ImagesPart, context: &Context, run: &RunId) -> Result<(), Error> {
    if ImagesPart::pins(context).replaced(run.as_str())?.is_some() {
        return Ok(());
    }
    let names = LiveNames::read(part.engine(), part.project.name()).await?;
    for kept_for in [before(run.as_str()), meant(run.as_str())] {
        let prefix = format!("{}:{kept_for}-", keep_repository(part.project.name()));
        let mut all_held_elsewhere = true;
        for tag in keep_tags(part.engine(), part.project.name()).await?.iter().filter(|tag| tag.starts_with(&prefix)) {
            let Some(image) = part.engine().image(tag).await? else { continue };
            let used = image.id.as_deref().is_some_and(|id| names.is_used(id));
            let named = image.repo_tags.unwrap_or_default().iter().any(|name| !name.starts_with(&prefix));
            all_held_elsewhere &= used || named;
        }
        if all_held_elsewhere {
            release(part.engine(), part.project.name(), &kept_for).await?;
        }
    }
    Ok(())
}
