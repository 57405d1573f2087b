use backstay_compose::{ComposeCommand, ConnectionSettings, Engine, Project as Compose, ProjectSettings};
use backstay_config::{Compose as Settings, DatabaseSource, Runtime};

use super::Project;
use crate::report::Failure;
use crate::surroundings::Surroundings;

/// The Compose project that the settings name, or why it cannot be reached from here.
#[expect(clippy::large_enum_variant, reason = "a run has one of it, and it is never moved about")]
pub enum Containers {
    NotConfigured,
    Reached(Compose),
    /// There is no engine here. Databases and files are recorded all the same, and the rest is said.
    OutOfReach(Failure),
}

impl Containers {
    pub async fn reach(project: &Project) -> Self {
        let Runtime::Compose(settings) = &project.settings.runtime else { return Self::NotConfigured };
        match open(project, settings).await {
            Ok(compose) => Self::Reached(compose),
            Err(error) => Self::OutOfReach(error.into()),
        }
    }
}

async fn open(project: &Project, settings: &Settings) -> Result<Compose, backstay_compose::Error> {
    let folder = &project.settings.folder;
    let engine = connection().resolve()?;
    let compose = ComposeCommand::find(&engine).await?;
    let engine = Engine::connect(&engine).await?;
    let services = project.settings.databases.values().filter_map(|database| match &database.source {
        DatabaseSource::Service { service, .. } => Some(service.clone()),
        DatabaseSource::Url(_) => None,
    });
    let absolute = |path: &std::path::PathBuf| folder.join(path);
    let settings = ProjectSettings {
        name: settings.project.clone(),
        files: settings.files.iter().map(absolute).collect(),
        directory: Some(settings.project_folder.as_ref().map_or_else(|| folder.clone(), absolute)),
        environment_files: settings.env_files.iter().map(absolute).collect(),
        profiles: settings.profiles.clone(),
        database_services: services.chain(settings.keep_running.iter().cloned()).collect(),
    };
    let opened = Compose::open(engine, compose, settings).await?;
    // What looks like a database is never stopped, named or not.
    let found = opened.postgres_services().await?.into_iter().map(|found| found.service);
    Ok(opened.with_database_services(found))
}

/// The services in a Compose file that look like PostgreSQL servers.
pub async fn look(folder: &std::path::Path, file: &str) -> Result<Vec<String>, backstay_compose::Error> {
    let engine = connection().resolve()?;
    let compose = ComposeCommand::find(&engine).await?;
    let engine = Engine::connect(&engine).await?;
    let settings = ProjectSettings {
        files: vec![folder.join(file)],
        directory: Some(folder.to_owned()),
        ..ProjectSettings::default()
    };
    let project = Compose::open(engine, compose, settings).await?;
    Ok(project.postgres_services().await?.into_iter().map(|found| found.service).collect())
}

/// What the `docker` command would read.
pub fn connection() -> ConnectionSettings {
    let home = || Surroundings::variable("HOME").map(|home| std::path::Path::new(&home).join(".docker"));
    ConnectionSettings {
        host: Surroundings::variable("DOCKER_HOST"),
        context: Surroundings::variable("DOCKER_CONTEXT"),
        tls: Surroundings::variable("DOCKER_TLS_VERIFY").is_some(),
        certificates: Surroundings::variable("DOCKER_CERT_PATH").map(Into::into),
        folder: Surroundings::variable("DOCKER_CONFIG").map(Into::into).or_else(home),
    }
}
