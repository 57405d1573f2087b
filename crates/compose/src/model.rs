use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use crate::Error;

/// What the Compose files say once everything in them is resolved. It holds secrets and stays in
/// memory: `Debug` names the services alone.
#[derive(Clone, Deserialize)]
pub struct Model {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) services: BTreeMap<String, ServiceModel>,
    #[serde(default)]
    secrets: BTreeMap<String, Source>,
    #[serde(default)]
    configs: BTreeMap<String, Source>,
}

#[derive(Clone, Deserialize)]
pub(crate) struct ServiceModel {
    pub image: Option<String>,
    pub build: Option<serde_json::Value>,
    #[serde(default)]
    environment: BTreeMap<String, Option<String>>,
}

#[derive(Clone, Deserialize)]
struct Source {
    file: Option<PathBuf>,
}

impl Model {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(json).map_err(|source| Error::ComposeAnswer { action: "config", source })
    }

    /// The names of the services, of every profile.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(String::as_str)
    }

    /// The name under which Compose looks for a service's image.
    pub(crate) fn image_name(&self, service: &str) -> Option<String> {
        let found = self.services.get(service)?;
        Some(found.image.clone().unwrap_or_else(|| format!("{}-{service}", self.name)))
    }

    pub(crate) fn is_built(&self, service: &str) -> bool {
        self.services.get(service).is_some_and(|found| found.build.is_some())
    }

    /// A service's variables, with `$` as it is written in the environment.
    pub(crate) fn environment(&self, service: &str) -> BTreeMap<String, String> {
        let Some(found) = self.services.get(service) else { return BTreeMap::new() };
        let plain =
            |(name, value): (&String, &Option<String>)| Some((name.clone(), value.as_ref()?.replace("$$", "$")));
        found.environment.iter().filter_map(plain).collect()
    }

    /// The files that secrets and configs are read from.
    pub(crate) fn mounted_files(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.secrets.values().chain(self.configs.values()).filter_map(|source| source.file.clone())
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("services", &self.services.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_service_has_the_name_that_compose_gives_it() {
        let json = br#"{"name":"shop","services":{"api":{"build":{"context":"/s"},"environment":{"A":"x$$y","B":null}},
            "db":{"image":"postgres:15","depends_on":{"api":{"condition":"service_started"}}}},
            "secrets":{"s":{"name":"shop_s","file":"/s/s.txt"}},"configs":{"c":{"content":"x"}}}"#;
        let model = Model::parse(json).unwrap();
        assert_eq!(model.image_name("api").as_deref(), Some("shop-api"));
        assert_eq!(model.image_name("db").as_deref(), Some("postgres:15"));
        assert!(model.is_built("api") && !model.is_built("db"));
        assert_eq!(model.environment("api"), BTreeMap::from([("A".to_owned(), "x$y".to_owned())]));
        assert_eq!(model.mounted_files().collect::<Vec<_>>(), [PathBuf::from("/s/s.txt")]);
        assert!(!format!("{model:?}").contains("x$"));
    }
}
