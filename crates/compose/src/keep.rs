use std::collections::BTreeSet;
use std::collections::HashMap;

use bollard::query_parameters::ListImagesOptionsBuilder;
use serde::Deserialize;

use crate::engine::{failed, split_tag};
use crate::{Engine, Error};

/// How far up the ladder images are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Anchored here, and besides at a registry that was seen to hold it or else in the repository.
    #[default]
    Auto,
    /// A tag of our own: `image prune -a` takes it.
    Tag,
    /// A tag and a container that never starts: `system prune -a` takes it.
    Anchor,
    /// Anchored, and refused where no registry holds it.
    Registry,
    /// Anchored, and always in the repository.
    Archive,
}

/// The repository of a project's keep-tags on its engine.
pub(crate) fn keep_repository(project: &str) -> String {
    format!("backstay/keep/{}", project.trim_end_matches(['-', '_', '.']))
}

pub(crate) fn keep_tag(project: &str, kept_for: &str, service: &str) -> String {
    format!("{}:{kept_for}-{service}", keep_repository(project))
}

pub(crate) fn is_keep_tag(name: &str) -> bool {
    name.starts_with("backstay/keep/")
}

/// Every keep-tag of a project.
pub(crate) async fn keep_tags(engine: &Engine, project: &str) -> Result<BTreeSet<String>, Error> {
    let repository = keep_repository(project);
    let filters = HashMap::from([("reference", vec![repository.as_str()])]);
    let options = ListImagesOptionsBuilder::default().all(true).filters(&filters).build();
    let images = engine.docker.list_images(Some(options)).await.map_err(failed("list", "images"))?;
    let tags = images.into_iter().flat_map(|image| image.repo_tags);
    Ok(tags.filter(|tag| split_tag(tag).0 == repository).collect())
}

/// Lets go of everything kept under one name. What is already gone is no error, and the last name of an image that a
/// container runs stays with it. How many names went.
pub(crate) async fn release(engine: &Engine, project: &str, kept_for: &str) -> Result<usize, Error> {
    crate::anchors::remove(engine, project, kept_for).await?;
    let prefix = format!("{}:{kept_for}-", keep_repository(project));
    let tags = keep_tags(engine, project).await?;
    let mut released = 0;
    for tag in tags.iter().filter(|tag| tag.starts_with(&prefix)) {
        released += usize::from(engine.untag_unless_used(tag).await?);
    }
    Ok(released)
}
