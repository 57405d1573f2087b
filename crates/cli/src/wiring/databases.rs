use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use backstay_config::{Address, DatabaseSource};
use backstay_model::PartName;
use backstay_postgres::{Database, LocalTools, Options, ServerPart, Settings, Tools};

use super::service_database::{Given, Ways};
use super::service_tools::ServiceTools;
use super::{Containers, Project};

use crate::exit::Exit;
use crate::report::Failure;
use crate::surroundings::Surroundings;

/// Every configured database, by its name in the configuration, with how it is reached.
pub async fn database_settings(project: &Project) -> Result<BTreeMap<String, Settings>, Failure> {
    settings_through(project, &reach_if_needed(project).await).await
}

/// The parts of databases alone, for what is done beside the release.
pub async fn server_parts(project: &Project) -> Result<Vec<ServerPart>, Failure> {
    parts(project, &reach_if_needed(project).await, Scratch::Beside).await
}

async fn reach_if_needed(project: &Project) -> Containers {
    let in_service = |database: &backstay_config::Database| matches!(database.source, DatabaseSource::Service { .. });
    match project.settings.databases.values().any(in_service) {
        true => Containers::reach(project).await,
        false => Containers::NotConfigured,
    }
}

/// The same, where the Compose project was reached already.
pub async fn settings_through(
    project: &Project,
    containers: &Containers,
) -> Result<BTreeMap<String, Settings>, Failure> {
    let libpq = libpq();
    let mut ways = Ways::default();
    let mut found = BTreeMap::new();
    for (name, database) in &project.settings.databases {
        let text = match &database.source {
            DatabaseSource::Url(address) => {
                found.insert(name.to_string(), address_in(name.as_str(), address, project.references().get())?);
                continue;
            }
            DatabaseSource::Service { service, dbname, user, password } => {
                let password = match password {
                    Some(reference) => {
                        Some(reference.resolve(&format!("database.{name}.password"), project.references().get())?)
                    }
                    None => None,
                };
                let given = Given { dbname: dbname.clone(), user: user.clone(), password };
                ways.keywords(containers, service, given).await?
            }
        };
        found.insert(name.to_string(), Settings::parse(&text, &libpq)?);
    }
    Ok(found)
}

fn standbys(project: &Project, name: &str, addresses: &[Address]) -> Result<Vec<Settings>, Failure> {
    let settings = addresses.iter().enumerate().map(|(index, address)| {
        let text = address.resolve(&format!("database.{name}.standbys[{index}]"), project.references().get())?;
        Ok(Settings::parse(&text, &libpq())?)
    });
    settings.collect()
}

/// The address of a configured database, as the files in some place have it.
pub fn address_in(
    name: &str,
    address: &Address,
    surroundings: backstay_config::Surroundings<'_>,
) -> Result<Settings, Failure> {
    let text = address.resolve(&format!("database.{name}.url"), surroundings)?;
    Ok(Settings::parse(&text, &libpq())?)
}

/// Whether staged copies may lie on another server. What is to go live must lie beside what is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scratch {
    Allowed,
    Beside,
}

/// One part for each server: its databases swap in one transaction.
pub async fn parts(project: &Project, containers: &Containers, scratch: Scratch) -> Result<Vec<ServerPart>, Failure> {
    let mut servers: BTreeMap<String, Vec<Database>> = BTreeMap::new();
    let mut reached = settings_through(project, containers).await?;
    for (name, database) in &project.settings.databases {
        let Some(settings) = reached.remove(name.as_str()) else { continue };
        let server = servers.entry(settings.server()).or_default();
        let standbys = standbys(project, name.as_str(), &database.standbys)?;
        server.push(Database {
            label: name.to_string(),
            settings,
            standbys,
            exclude_rows: database.exclude_rows.clone(),
            assertions: database.assertions.clone(),
        });
    }
    let scratch = match &project.settings.scratch {
        Some(address) if scratch == Scratch::Allowed => {
            Some(Settings::parse(&address.resolve("scratch.url", project.references().get())?, &libpq())?)
        }
        _ => None,
    };
    let single = servers.len() == 1;
    let mut parts = Vec::new();
    for (server, databases) in servers {
        let tools = tools_for(project, containers, server, &databases);
        let name = if single { "database".to_owned() } else { format!("database-{}", databases[0].label) };
        let options = Options { scratch: scratch.clone(), ..Options::default() };
        parts.push(ServerPart::new(part_name(&name)?, databases, tools, options));
    }
    Ok(parts)
}

/// The programs of PostgreSQL on this host.
pub fn tools() -> Arc<dyn Tools> {
    Arc::new(LocalTools::new(tool_folders()))
}

/// For a server in a container that this host reaches, the programs in there count as well.
fn tools_for(project: &Project, containers: &Containers, server: String, databases: &[Database]) -> Arc<dyn Tools> {
    let local = LocalTools::new(tool_folders());
    let service = databases.iter().find_map(|database| {
        match &project.settings.databases.iter().find(|(name, _)| name.as_str() == database.label)?.1.source {
            DatabaseSource::Service { service, .. } => Some(service.clone()),
            DatabaseSource::Url(_) => None,
        }
    });
    match (service, containers) {
        (Some(service), Containers::Reached(compose)) => {
            Arc::new(ServiceTools::new(local, compose.clone(), service, server))
        }
        _ => Arc::new(local),
    }
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
