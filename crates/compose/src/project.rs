use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use backstay_run::Context;

use crate::compose_command::Origin;
use crate::containers::PROJECT;
use crate::mask::Mask;
use crate::pins::OVERRIDE;
use crate::sources::inputs_digest;
use crate::{ComposeCommand, Container, Engine, Error, Model, State};

/// What the caller knows of a project.
#[derive(Debug, Clone, Default)]
pub struct ProjectSettings {
    /// Nothing where the Compose files decide.
    pub name: Option<String>,
    pub files: Vec<PathBuf>,
    pub directory: Option<PathBuf>,
    pub environment_files: Vec<PathBuf>,
    pub profiles: Vec<String>,
    /// Services that hold the data: they are never stopped, and their images never switched.
    pub database_services: Vec<String>,
}

/// One Compose project on one engine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Project {
    pub(crate) engine: Engine,
    pub(crate) compose: ComposeCommand,
    name: String,
    settings: ProjectSettings,
    /// Containers that this process has made quiet for a while, by id: they belong to what runs.
    quiet: Arc<Mutex<BTreeSet<String>>>,
    /// What Compose made of files, by a digest of all of them: it is asked a dozen times in a run, and is slow.
    models: Arc<Mutex<HashMap<String, Model>>>,
}

impl Project {
    /// Finds out the project's name where the caller does not know it.
    pub async fn open(engine: Engine, compose: ComposeCommand, settings: ProjectSettings) -> Result<Self, Error> {
        let name = match settings.name.clone() {
            Some(name) => name,
            None => Model::parse(&compose.config(None, &origin_of(&settings)).await?)?.name,
        };
        Ok(Self { engine, compose, name, settings, quiet: Arc::default(), models: Arc::default() })
    }

    /// The same project, where these services hold data as well.
    #[must_use]
    pub fn with_database_services(mut self, services: impl IntoIterator<Item = String>) -> Self {
        self.settings.database_services.extend(services);
        self
    }

    /// The name that Compose knows it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The containers of the project's services, running or not, by service and number.
    pub async fn containers(&self) -> Result<Vec<Container>, Error> {
        let found = self.engine.labelled(&[format!("{PROJECT}={}", self.name)]).await?;
        let mut containers: Vec<Container> = found.into_iter().filter_map(Container::of_service).collect();
        containers.sort_by(|a, b| (&a.service, a.number).cmp(&(&b.service, b.number)));
        Ok(containers)
    }

    /// Whether it runs, or would if this process had not stopped it to start it again.
    pub(crate) fn counts_as_up(&self, container: &Container) -> bool {
        let quiet = || self.quiet.lock().unwrap_or_else(PoisonError::into_inner).contains(&container.id);
        container.state.is_up() || (container.state == State::Exited && quiet())
    }

    pub(crate) fn made_quiet(&self, container: &Container) {
        self.quiet.lock().unwrap_or_else(PoisonError::into_inner).insert(container.id.clone());
    }

    pub(crate) fn runs_again(&self) {
        self.quiet.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Everything the files say, of every profile. It holds secrets.
    pub async fn model(&self) -> Result<Model, Error> {
        let origin = self.origin(&self.containers().await?)?;
        self.model_from(&origin).await
    }

    pub(crate) async fn model_from(&self, origin: &Origin) -> Result<Model, Error> {
        let models = || self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = inputs_digest(origin);
        if let Some(known) = digest.as_ref().and_then(|digest| models().get(digest).cloned()) {
            return Ok(known);
        }
        let model = Model::parse(&self.compose.config(Some(&self.name), origin).await?)?;
        // What changed while Compose read it has another digest than what was there before.
        if let Some(digest) = digest.filter(|digest| inputs_digest(origin).as_ref() == Some(digest)) {
            models().insert(digest, model.clone());
        }
        Ok(model)
    }

    pub(crate) fn is_database(&self, service: &str) -> bool {
        self.settings.database_services.iter().any(|name| name == service)
    }

    /// Where the project was started from, as its containers say; where those files are no longer
    /// there (a pipeline's checkout, a standard input), where the caller says it is.
    pub(crate) fn origin(&self, containers: &[Container]) -> Result<Origin, Error> {
        let settings = origin_of(&self.settings);
        for container in containers {
            let files: Vec<PathBuf> = container.files.iter().filter(|file| !is_override(file)).cloned().collect();
            if files.is_empty() || !files.iter().all(|file| file.is_file()) {
                continue;
            }
            return Ok(Origin {
                files,
                directory: container.directory.clone(),
                environment_files: container.environment_files.clone(),
                profiles: settings.profiles,
            });
        }
        if settings.files.is_empty() || !settings.files.iter().all(|file| file.is_file()) {
            return Err(Error::NoFiles { project: self.name.clone(), files: settings.files });
        }
        Ok(settings)
    }

    pub(crate) fn mask(containers: &[Container]) -> Mask {
        Mask::of(containers.iter().map(|container| &container.environment))
    }

    /// The folder of this project's pins and overrides on this machine.
    pub(crate) fn state(context: &Context) -> PathBuf {
        context.state.join("compose")
    }
}

fn is_override(file: &std::path::Path) -> bool {
    file.file_name().is_some_and(|name| name == OVERRIDE)
}

/// The names that Compose looks for itself, and for each the one that it adds.
const DEFAULT_FILES: [(&str, [&str; 2]); 4] = [
    ("compose.yaml", ["compose.override.yaml", "compose.override.yml"]),
    ("compose.yml", ["compose.override.yml", "compose.override.yaml"]),
    ("docker-compose.yml", ["docker-compose.override.yml", "docker-compose.override.yaml"]),
    ("docker-compose.yaml", ["docker-compose.override.yml", "docker-compose.override.yaml"]),
];

fn default_files(directory: &std::path::Path) -> Vec<PathBuf> {
    let found = DEFAULT_FILES.iter().find(|(name, _)| directory.join(name).is_file());
    let Some((name, overrides)) = found else { return Vec::new() };
    let added = overrides.iter().map(|name| directory.join(name)).find(|path| path.is_file());
    std::iter::once(directory.join(name)).chain(added).collect()
}

fn origin_of(settings: &ProjectSettings) -> Origin {
    let found = || settings.directory.as_deref().map(default_files).unwrap_or_default();
    Origin {
        files: if settings.files.is_empty() { found() } else { settings.files.clone() },
        directory: settings.directory.clone(),
        environment_files: settings.environment_files.clone(),
        profiles: settings.profiles.clone(),
    }
}
