use std::collections::{BTreeMap, BTreeSet};

use crate::keep::is_keep_tag;
use crate::{Container, Error, Model, Project};

/// What a service runs now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Live {
    /// The images of its containers: more than one while somebody is rolling it over.
    pub images: BTreeSet<String>,
    pub running: u32,
    pub name: Option<String>,
    pub built: bool,
}

impl Live {
    pub fn image(&self) -> Option<&String> {
        self.images.first()
    }
}

/// What every service of the project runs, by containers; names come from the files where they can
/// be read, because a container that was pinned before tells only of its keep-tag.
pub(super) async fn live(project: &Project) -> Result<BTreeMap<String, Live>, Error> {
    let containers = project.containers().await?;
    let model = match project.origin(&containers) {
        Ok(origin) => Some(project.model_from(&origin).await?),
        Err(Error::NoFiles { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(by_service(&containers, model.as_ref(), &|one| project.counts_as_up(one)))
}

fn by_service(
    containers: &[Container],
    model: Option<&Model>,
    is_up: &dyn Fn(&Container) -> bool,
) -> BTreeMap<String, Live> {
    let mut services: BTreeMap<String, Live> = BTreeMap::new();
    for container in containers {
        let named = model.and_then(|model| model.image_name(&container.service));
        let typed =
            Some(container.image_name.clone()).filter(|name| !is_keep_tag(name) && !name.starts_with("sha256:"));
        let live = services.entry(container.service.clone()).or_insert_with(|| Live {
            images: BTreeSet::new(),
            running: 0,
            name: named.or(typed),
            built: model.is_some_and(|model| model.is_built(&container.service)),
        });
        live.images.insert(container.image.clone());
        live.running += u32::from(is_up(container));
    }
    // What runs decides; containers that ended count only where nothing runs.
    for (service, live) in services.iter_mut().filter(|(_, live)| live.running > 0) {
        let up = containers.iter().filter(|one| one.service == *service && is_up(one));
        live.images = up.map(|one| one.image.clone()).collect();
    }
    services
}
