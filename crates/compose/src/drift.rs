use std::collections::BTreeSet;

use crate::keep::is_keep_tag;
use crate::{Container, Error, Model, Project};

impl Project {
    /// Where what runs is not what the files on disk say: names of services and of variables, never
    /// a value. Empty where the files are not there to compare with.
    pub async fn drift(&self) -> Result<Vec<String>, Error> {
        let containers = self.containers().await?;
        let origin = match self.origin(&containers) {
            Ok(origin) => origin,
            Err(Error::NoFiles { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let model = self.model_from(&origin).await?;
        let mut found = Vec::new();
        for container in containers.iter().filter(|container| container.state.is_up()) {
            let service = &container.service;
            let Some(name) = model.image_name(service) else {
                found.push(format!("service {service} runs and is not in the files"));
                continue;
            };
            let meant = self.engine.image_id(&name).await?;
            if meant.as_ref().is_some_and(|meant| *meant != container.image) {
                found.push(format!("service {service} runs another image than `{name}` means now"));
            }
            if container.image_name != name && !is_keep_tag(&container.image_name) {
                found.push(format!(
                    "service {service} was started from `{}`, the files say `{name}`",
                    container.image_name
                ));
            }
            found.extend(variables(&model, container));
        }
        found.sort();
        found.dedup();
        Ok(found)
    }
}

/// Variables that the files set and the container has not, or has with another value. What only the
/// container has may come from its image.
fn variables(model: &Model, container: &Container) -> Vec<String> {
    let wanted = model.environment(&container.service);
    let differing: BTreeSet<&String> = wanted
        .iter()
        .filter(|(name, value)| container.environment.get(*name) != Some(value))
        .map(|(name, _)| name)
        .collect();
    let said = |name| format!("service {} runs with another value of {name} than the files say", container.service);
    differing.into_iter().map(said).collect()
}
