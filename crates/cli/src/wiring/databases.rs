use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use backstay_config::DatabaseSource;
use backstay_model::PartName;
use backstay_postgres::{Database, LocalTools, Options, ServerPart, Settings, Tools};

use super::Project;
use crate::exit::Exit;
use crate::report::Failure;
use crate::surroundings::Surroundings;

/// Every configured database, by its name in the configuration, with how it is reached.
pub async fn database_settings(project: &Project) -> Result<BTreeMap<String, Settings>, Failure> {
    let libpq = libpq();
    let mut found = BTreeMap::new();
    for (name, database) in &project.settings.databases {
        let key = format!("database.{name}.url");
        let settings = match &database.source {
            DatabaseSource::Url(address) => {
                let url = address.resolve(&key, project.references().get())?;
                Settings::parse(&url, &libpq)?
            }
            DatabaseSource::Service { .. } => return Err(Failure::new(Exit::Environment, "not yet")),
        };
        found.insert(name.to_string(), settings);
    }
    Ok(found)
}

/// One part for each server: its databases swap in one transaction.
pub async fn parts(project: &Project) -> Result<Vec<ServerPart>, Failure> {
    let mut servers: BTreeMap<String, Vec<Database>> = BTreeMap::new();
    for (label, settings) in database_settings(project).await? {
        let exclude_rows = project
            .settings
            .databases
            .iter()
            .find(|(name, _)| name.as_str() == label)
            .map(|(_, database)| database.exclude_rows.clone());
        let database = Database { label, exclude_rows: exclude_rows.unwrap_or_default(), settings };
        servers.entry(database.settings.server()).or_default().push(database);
    }
    let scratch = match &project.settings.scratch {
        Some(address) => Some(Settings::parse(&address.resolve("scratch.url", project.references().get())?, &libpq())?),
        None => None,
    };
    let tools: Arc<dyn Tools> = Arc::new(LocalTools::new(tool_folders()));
    let single = servers.len() == 1;
    let mut parts = Vec::new();
    for databases in servers.into_values() {
        let name = if single { "database".to_owned() } else { format!("database-{}", databases[0].label) };
        let options = Options { scratch: scratch.clone(), ..Options::default() };
        parts.push(ServerPart::new(part_name(&name)?, databases, Arc::clone(&tools), options));
    }
    Ok(parts)
}

pub fn part_name(name: &str) -> Result<PartName, Failure> {
    name.parse().map_err(|error| Failure::new(Exit::Environment, format!("{error}")))
}

/// What libpq would read, read once.
fn libpq() -> backstay_postgres::Surroundings {
    backstay_postgres::Surroundings {
        variables: std::env::vars().filter(|(name, _)| name.starts_with("PG")).collect(),
        home: Surroundings::variable("HOME").map(PathBuf::from),
        login: Surroundings::variable("USER").or_else(|| Surroundings::variable("LOGNAME")),
    }
}

/// Where client programs may be: where the lab or a person says, then the search path.
fn tool_folders() -> Vec<PathBuf> {
    let named = std::env::var_os("BACKSTAY_PG_BIN_DIRS").unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&named).chain(std::env::split_paths(&path)).collect()
}
