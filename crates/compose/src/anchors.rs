use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};

use crate::engine::failed;
use crate::error::is_absent;
use crate::{Engine, Error};

const PROJECT: &str = "io.backstay.keep.project";
const KEPT_FOR: &str = "io.backstay.keep.for";

/// Makes a container that is never started: as long as it exists, the engine's own cleaning up of
/// images leaves the image alone.
pub(crate) async fn anchor(
    engine: &Engine,
    project: &str,
    kept_for: &str,
    service: &str,
    tag: &str,
) -> Result<(), Error> {
    let name = format!("backstay-keep-{project}-{kept_for}-{service}");
    if engine.container(&name).await?.is_some() {
        return Ok(());
    }
    let volumes = engine.image(tag).await?.and_then(|image| image.config).and_then(|config| config.volumes);
    // An image's declared volumes would be made for real; memory in their place is never used.
    let tmpfs = volumes.unwrap_or_default().into_iter().map(|path| (path, String::new())).collect();
    let labels = [(PROJECT, project), (KEPT_FOR, kept_for)];
    let body = ContainerCreateBody {
        image: Some(tag.to_owned()),
        cmd: Some(vec!["never-started".to_owned()]),
        labels: Some(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()),
        network_disabled: Some(true),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            tmpfs: Some(tmpfs),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(&name).build();
    engine.docker.create_container(Some(options), body).await.map_err(failed("create", &name))?;
    Ok(())
}

/// The names that this project's anchors on this engine are kept for.
pub(crate) async fn kept_for(engine: &Engine, project: &str) -> Result<Vec<String>, Error> {
    let anchors = engine.labelled(&[format!("{PROJECT}={project}")]).await?;
    let labels = anchors.into_iter().filter_map(|anchor| anchor.config?.labels?.remove(KEPT_FOR));
    Ok(labels.collect())
}

pub(crate) async fn is_anchored(engine: &Engine, project: &str, kept_for: &str, service: &str) -> Result<bool, Error> {
    let name = format!("backstay-keep-{project}-{kept_for}-{service}");
    Ok(engine.container(&name).await?.is_some())
}

pub(crate) async fn remove(engine: &Engine, project: &str, kept_for: &str) -> Result<(), Error> {
    let labels = [format!("{PROJECT}={project}"), format!("{KEPT_FOR}={kept_for}")];
    for anchor in engine.labelled(&labels).await? {
        let Some(id) = anchor.id else { continue };
        let options = RemoveContainerOptionsBuilder::default().v(true).build();
        match engine.docker.remove_container(&id, Some(options)).await {
            Err(error) if !is_absent(&error) => return Err(failed("remove", &id)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// What containers that are no anchors were made from, by image id and by the name typed, each with
/// its project.
pub(crate) async fn users_of_images(engine: &Engine) -> Result<HashMap<String, Vec<Option<String>>>, Error> {
    let mut users: HashMap<String, Vec<Option<String>>> = HashMap::new();
    for container in engine.labelled(&[]).await? {
        let Some(config) = container.config else { continue };
        let labels = config.labels.unwrap_or_default();
        if labels.contains_key(PROJECT) {
            continue;
        }
        let project = labels.get(crate::containers::PROJECT).cloned();
        for image in [container.image, config.image].into_iter().flatten() {
            users.entry(image).or_default().push(project.clone());
        }
    }
    Ok(users)
}
