use std::fs;
use std::path::{Path, PathBuf};

use backstay_config::{Found, FoundCompose, FoundDatabase, FoundMigrations, FoundSource};
use backstay_model::Project as Name;

use super::containers;
use crate::arguments::Init;
use crate::report::Failure;
use crate::surroundings::Surroundings;

const COMPOSE_FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
const MIGRATION_FOLDERS: [&str; 2] = ["migrations", "db/migrations"];

/// What `init` sees in a folder. Nothing is changed, and no value of an env file is read.
pub async fn found(surroundings: &Surroundings, folder: &Path, arguments: &Init) -> Result<Found, Failure> {
    let project = project_name(folder, arguments)?;
    let base = base(surroundings, &project);
    let repository = arguments.repository.clone().unwrap_or_else(|| base.join("repository").display().to_string());
    let key = if arguments.unsealed { "none".to_owned() } else { format!("file:{}", base.join("key").display()) };
    let mut found = Found::new(project, repository, key);
    if let Some(source) = database_url(folder) {
        found.databases.push(FoundDatabase { name: "main".to_owned(), source: FoundSource::Url(source) });
    }
    if let Some(name) = COMPOSE_FILES.iter().find(|name| folder.join(name).is_file()) {
        found.compose = Some(FoundCompose { files: vec![(*name).to_owned()], project: None });
        if found.databases.is_empty() {
            found.databases = in_services(surroundings, folder, name).await;
        }
    }
    found.files = [(".env", ".env"), ("config", "config/**")]
        .into_iter()
        .filter(|(name, _)| folder.join(name).exists())
        .map(|(_, pattern)| pattern.to_owned())
        .collect();
    let migrations = MIGRATION_FOLDERS.iter().find(|name| folder.join(name).is_dir());
    found.migrations = migrations.map(|name| FoundMigrations::Folder((*name).to_owned()));
    Ok(found)
}

/// The services of the Compose project that look like PostgreSQL. Without an engine there are none to see.
async fn in_services(surroundings: &Surroundings, folder: &Path, file: &str) -> Vec<FoundDatabase> {
    let services = match containers::look(folder, file).await {
        Ok(services) => services,
        Err(error) => {
            surroundings.printer.note(&format!("note: the services of {file} were not looked at: {error}"));
            Vec::new()
        }
    };
    let named = |service: String| {
        let plain: String = service
            .to_lowercase()
            .chars()
            .map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' })
            .collect();
        FoundDatabase { name: plain, source: FoundSource::Service(service) }
    };
    services.into_iter().map(named).collect()
}

fn project_name(folder: &Path, arguments: &Init) -> Result<Name, Failure> {
    let folder = folder.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let plain: String =
        folder.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    let plain = plain.trim_matches('-');
    let name = arguments.project.as_deref().unwrap_or(if plain.is_empty() { "project" } else { plain });
    name.parse().map_err(|error| Failure::usage(format!("{error}")).hint("name the project with `--project NAME`"))
}

/// Where repository and key go when nobody says otherwise: beside the state of this host.
fn base(surroundings: &Surroundings, project: &Name) -> PathBuf {
    match Surroundings::variable("BACKSTAY_STATE") {
        Some(state) => surroundings.folder.join(state).join(project.as_str()),
        None => super::project::project_folder(project).unwrap_or_else(|| surroundings.folder.join(".backstay")),
    }
}

/// A reference to where the database's URL already stands.
fn database_url(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join(".env")).unwrap_or_default();
    let named = |line: &str| {
        let line = line.trim_start().trim_start_matches("export ");
        line.split_once('=').is_some_and(|(name, _)| name.trim() == "DATABASE_URL")
    };
    if text.lines().any(named) {
        Some("file:.env#DATABASE_URL".to_owned())
    } else {
        Surroundings::variable("DATABASE_URL").map(|_| "env:DATABASE_URL".to_owned())
    }
}
