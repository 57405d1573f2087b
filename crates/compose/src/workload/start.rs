use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backstay_run::Context;

use super::{ComposeWorkload, Observed, ObservedService};
use crate::engine::failed;
use crate::keep::keep_tag;
use crate::pins::{Pin, Pins, PinsFolder};
use crate::watch::watch;
use crate::{Container, Error, Model, Project, Rule, Settled};

const UP_MAX: Duration = Duration::from_secs(900);

/// What is to run: of each service so many containers of one image.
struct Wanted {
    image: String,
    tag: Option<String>,
    count: usize,
}

/// Containers whose image and files are as they were are started as they are; the others are made
/// anew by Compose, from the files that now are there, with their images pinned. It returns once they run and their
/// health checks pass; whether they go on to is what looking afterwards is for.
pub(super) async fn start(workload: &ComposeWorkload, context: &Context, observed: &Observed) -> Result<(), Error> {
    let folder = PinsFolder(Project::state(context));
    let pins = folder.pins()?.filter(|pins| pins.run == context.run.as_str());
    let containers = workload.project.containers().await?;
    stop_what_we_added(workload, observed, pins.as_ref(), &containers).await?;
    let wanted = wanted(observed, pins.as_ref());
    let same_files = workload.project.sources_digest().await? == observed.sources;
    let (mut as_they_are, mut anew) = (Vec::new(), BTreeMap::new());
    for (service, wanted) in wanted {
        match observed.services.get(&service).filter(|_| same_files) {
            Some(before) if is_untouched(before, &wanted, &containers) => as_they_are.push(service),
            _ => {
                anew.insert(service, wanted);
            }
        }
    }
    start_again(workload, observed, &as_they_are).await?;
    let anew = up(workload, context, &folder, anew, &containers).await?;
    // What was not well when it was stopped, and is as it was, need not be well: looking says how it is.
    let was_unwell = |service: &String| observed.services.get(service).is_some_and(ObservedService::was_unwell);
    let (unwell, well): (Vec<_>, Vec<_>) = as_they_are.into_iter().partition(was_unwell);
    let mut services: BTreeSet<String> = well.into_iter().chain(anew.keys().cloned()).collect();
    settle(workload, context, &services).await?;
    workload.started().clone_from(&services);
    services.extend(unwell);
    let expected = expected(observed, &anew);
    verify(workload, &services, &expected).await?;
    workload.project.runs_again();
    Ok(())
}

fn wanted(observed: &Observed, pins: Option<&Pins>) -> BTreeMap<String, Wanted> {
    let mut wanted = BTreeMap::new();
    for (service, before) in observed.services.iter().filter(|(_, before)| !before.one_shot) {
        let Some(first) = before.containers.first() else { continue };
        let pin = pins.and_then(|pins| pins.services.get(service));
        wanted.insert(
            service.clone(),
            Wanted {
                image: pin.map_or_else(|| first.image.clone(), |pin| pin.id.clone()),
                tag: pin.map(|pin| pin.tag.clone()),
                count: before.containers.len(),
            },
        );
    }
    // What ran in the release that comes back and does not run in the one that goes.
    for (service, pin) in pins.into_iter().flat_map(|pins| &pins.services) {
        if pin.running > 0 && !observed.services.contains_key(service) {
            let count = usize::try_from(pin.running).unwrap_or(1);
            wanted.insert(service.clone(), Wanted { image: pin.id.clone(), tag: Some(pin.tag.clone()), count });
        }
    }
    wanted
}

fn is_untouched(before: &ObservedService, wanted: &Wanted, containers: &[Container]) -> bool {
    before.containers.iter().all(|old| {
        containers.iter().any(|live| live.id == old.id && live.image == old.image) && old.image == wanted.image
    })
}

/// After a switch back: services that only the other release had, and that our override started.
async fn stop_what_we_added(
    workload: &ComposeWorkload,
    observed: &Observed,
    pins: Option<&Pins>,
    containers: &[Container],
) -> Result<(), Error> {
    let ours = |one: &&Container| one.files.iter().any(|file| file.ends_with(crate::pins::OVERRIDE));
    let added = containers.iter().filter(|one| one.state.is_up() && !workload.project.is_database(&one.service));
    for container in added.filter(ours) {
        let pinned = pins.is_some_and(|pins| pins.services.contains_key(&container.service));
        if !pinned && !observed.services.contains_key(&container.service) {
            super::stop::stop_one(workload, container).await?;
        }
    }
    Ok(())
}

async fn start_again(workload: &ComposeWorkload, observed: &Observed, services: &[String]) -> Result<(), Error> {
    let graph = observed.services.iter().map(|(name, service)| (name.clone(), service.depends_on.clone())).collect();
    for service in super::order::dependencies_first(&graph) {
        let Some(before) = observed.services.get(&service).filter(|_| services.contains(&service)) else { continue };
        for container in &before.containers {
            let options = None::<bollard::query_parameters::StartContainerOptions>;
            let docker = &workload.project.engine().docker;
            docker.start_container(&container.id, options).await.map_err(failed("start", &container.name))?;
        }
    }
    Ok(())
}

/// Lets Compose make containers of these services, and no other. Returns those it made.
async fn up(
    workload: &ComposeWorkload,
    context: &Context,
    folder: &PinsFolder,
    mut wanted: BTreeMap<String, Wanted>,
    containers: &[Container],
) -> Result<BTreeMap<String, Wanted>, Error> {
    if wanted.is_empty() {
        return Ok(wanted);
    }
    let project = &workload.project;
    let mut origin = project.origin(containers)?;
    let model = project.model_from(&origin).await?;
    wanted.retain(|service, _| {
        let known = model.services().any(|one| one == service);
        if !known {
            context.warn(format!("service {service} is not in the files that now are live and stays stopped"));
        }
        known
    });
    if wanted.is_empty() {
        return Ok(wanted);
    }
    origin.files.push(write_override(workload, context, folder, &wanted, &model).await?);
    let mut arguments: Vec<String> =
        ["--profile", "*", "up", "-d", "--no-deps", "--no-build"].iter().map(|word| (*word).to_owned()).collect();
    for (service, wanted) in &wanted {
        arguments.extend(["--scale".to_owned(), format!("{service}={}", wanted.count)]);
    }
    arguments.extend(wanted.keys().cloned());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mask = Project::mask(containers);
    let started = project.compose.run(Some(project.name()), &origin, &arguments, UP_MAX, &mask);
    tokio::select! {
        started = started => started?,
        () = context.interrupt.requested() => return Err(Error::Interrupted),
    };
    Ok(wanted)
}

/// Pins every service that Compose is about to start; each image gets a tag that it can be named by.
async fn write_override(
    workload: &ComposeWorkload,
    context: &Context,
    folder: &PinsFolder,
    wanted: &BTreeMap<String, Wanted>,
    model: &Model,
) -> Result<std::path::PathBuf, Error> {
    let engine = workload.project.engine();
    let mut services = folder.pins()?.map(|pins| pins.services).unwrap_or_default();
    services.retain(|service, _| model.services().any(|one| one == service));
    for (service, wanted) in wanted {
        let run = format!("run-{}", context.run);
        let tag = wanted.tag.clone().unwrap_or_else(|| keep_tag(workload.project.name(), &run, service));
        if engine.image_id(&tag).await?.as_ref() != Some(&wanted.image) {
            if engine.image(&wanted.image).await?.is_none() {
                return Err(Error::ImageGone { service: service.clone(), image: wanted.image.clone() });
            }
            engine.tag(&wanted.image, &tag).await?;
        }
        let pin = Pin { id: wanted.image.clone(), tag, built: model.is_built(service), running: 0 };
        services.insert(service.clone(), pin);
    }
    let (run, project) = (context.run.as_str().to_owned(), workload.project.name().to_owned());
    folder.write_override(&Pins { run, project, services })
}

async fn settle(workload: &ComposeWorkload, context: &Context, services: &BTreeSet<String>) -> Result<(), Error> {
    let is_ours = |container: &Container| services.contains(&container.service);
    let at_once = Rule { window: Duration::ZERO, ..workload.rule.clone() };
    let judged = watch(&workload.project, context, &at_once, workload.limit, is_ours).await?;
    let failures = workload.failures(&judged).await?;
    if !failures.is_empty() {
        let failed = judged.iter().filter(|(_, settled)| matches!(settled, Settled::Failed(_)));
        return Err(Error::NotReady { services: failed.map(|(name, _)| name.clone()).collect(), failures });
    }
    for (name, settled) in &judged {
        if let Settled::NotYet(why) = settled {
            context.warn(format!("{name} is not ready yet: {why}"));
        }
    }
    Ok(())
}

/// The images that each service may run after the start.
fn expected(observed: &Observed, anew: &BTreeMap<String, Wanted>) -> BTreeMap<String, BTreeSet<String>> {
    let before = observed.services.iter().map(|(name, service)| {
        (name.clone(), service.containers.iter().map(|one| one.image.clone()).collect::<BTreeSet<_>>())
    });
    let mut expected: BTreeMap<_, _> = before.collect();
    for (service, wanted) in anew {
        expected.insert(service.clone(), BTreeSet::from([wanted.image.clone()]));
    }
    expected
}

async fn verify(
    workload: &ComposeWorkload,
    services: &BTreeSet<String>,
    expected: &BTreeMap<String, BTreeSet<String>>,
) -> Result<(), Error> {
    let containers = workload.project.containers().await?;
    for service in services {
        let mut up = containers.iter().filter(|one| one.service == *service && one.state.is_up()).peekable();
        if up.peek().is_none() {
            return Err(Error::NoContainer(service.clone()));
        }
        let allowed = expected.get(service).cloned().unwrap_or_default();
        if let Some(wrong) = up.find(|one| !allowed.contains(&one.image)) {
            let wanted = allowed.into_iter().collect::<Vec<_>>().join(" or ");
            return Err(Error::WrongImage { service: service.clone(), live: wrong.image.clone(), wanted });
        }
    }
    Ok(())
}
