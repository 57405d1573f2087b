use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backstay_config::{HeaderValue, Health, Probe as Settings, Span};
use backstay_health::{ContainerAsk, DatabaseAsk, Expectation, Kind, Probe, Rule, SteadyAsk, at_capture, look_once};

use super::databases::settings_through;
use super::{Containers, Project, Release};
use crate::exit::Exit;
use crate::report::Failure;

const DAY: Duration = Duration::from_secs(86_400);
const RESTARTS_MAX: i64 = 3;

/// Every configured probe; without any, what can be looked at without being told.
pub async fn probes(project: &Project, containers: &Containers) -> Result<(Vec<Probe>, Rule), Failure> {
    let (probes, rule) = configured(project, containers).await?;
    let probes = if probes.is_empty() { found(project, containers).await? } else { probes };
    Ok((probes, rule))
}

/// How healthy the release is at this moment, for the snapshot that is taken of it. Where nobody can look there is a
/// snapshot all the same.
pub async fn health_at_capture(release: &Release) -> Option<String> {
    match probes(&release.project, &release.containers).await {
        Ok((probes, _)) => at_capture(&probes, &look_once(&probes).await),
        Err(_) => Some("unknown".to_owned()),
    }
}

/// What guard looks at whatever is configured: that nothing which a deploy makes dies unseen between two looks.
pub fn steady(containers: &Containers) -> Option<Probe> {
    let Containers::Reached(compose) = containers else { return None };
    let kind = Kind::Asked(Arc::new(SteadyAsk::new(compose.clone())));
    Some(Probe { name: "containers".to_owned(), service: None, timeout: Duration::from_secs(10), kind })
}

/// Every configured probe, and how patient they want to be asked.
pub async fn configured(project: &Project, containers: &Containers) -> Result<(Vec<Probe>, Rule), Failure> {
    let configured = &project.settings.health;
    let mut probes = Vec::new();
    for health in configured {
        let service = match &health.probe {
            Settings::Container { service, .. } | Settings::Log { service, .. } => Some(service.clone()),
            _ => None,
        };
        let kind = kind(project, containers, health).await?;
        probes.push(Probe { name: health.name.clone(), service, timeout: health.timeout.duration(), kind });
    }
    let mut rule = Rule::default();
    if let Some(slowest) = configured.iter().map(|health| health.interval.duration()).max() {
        rule.interval = slowest.min(rule.interval);
        rule.successes = configured.iter().map(|health| health.successes as usize).max().unwrap_or(rule.successes);
    }
    if let Some(patience) = configured.iter().map(|health| health.timeout.duration() * 6).max() {
        rule.timeout = rule.timeout.max(patience);
    }
    Ok((probes, rule))
}

/// Each service's containers and each database.
async fn found(project: &Project, containers: &Containers) -> Result<Vec<Probe>, Failure> {
    let timeout = Duration::from_secs(10);
    let mut probes = Vec::new();
    if let Containers::Reached(compose) = containers {
        let mut services: Vec<String> =
            compose.containers().await?.into_iter().map(|container| container.service).collect();
        services.dedup();
        for service in services {
            let kind = Kind::Asked(Arc::new(ContainerAsk {
                project: compose.clone(),
                service: service.clone(),
                restarts_max: RESTARTS_MAX,
            }));
            probes.push(Probe { name: format!("container {service}"), service: Some(service), timeout, kind });
        }
    }
    for (name, settings) in settings_through(project, containers).await? {
        let kind = Kind::Asked(Arc::new(DatabaseAsk { settings, query: None, lag_max: None }));
        probes.push(Probe { name: format!("database {name}"), service: None, timeout, kind });
    }
    Ok(probes)
}

async fn kind(project: &Project, containers: &Containers, health: &Health) -> Result<Kind, Failure> {
    let key = format!("health.{}", health.name);
    let references = project.references();
    Ok(match &health.probe {
        Settings::Http { url, statuses, contains, json, headers } => {
            let sent = resolved(project, &key, headers)?;
            let expect = Expectation {
                status: statuses.clone(),
                contains: contains.clone(),
                json: json
                    .iter()
                    .map(|(path, value)| (format!("/{}", path.replace('.', "/")), value.clone()))
                    .collect(),
                latency_max: health.latency.map(Span::duration),
            };
            Kind::Http { url: url.clone(), headers: sent, expect }
        }
        Settings::Tcp { address } => Kind::Tcp { address: address.clone() },
        Settings::Postgres { database, query, max_lag } => {
            let settings = settings_through(project, containers).await?.remove(database);
            let settings = settings.ok_or_else(|| {
                Failure::new(
                    Exit::Environment,
                    format!("`{key}` names the database `{database}`, which is not configured"),
                )
            })?;
            Kind::Asked(Arc::new(DatabaseAsk { settings, query: query.clone(), lag_max: max_lag.map(Span::duration) }))
        }
        Settings::Redis { address, password } => {
            let url = address.resolve(&format!("{key}.redis"), references.get())?;
            let password = match password {
                Some(reference) => Some(reference.resolve(&format!("{key}.password"), references.get())?.to_string()),
                None => None,
            };
            Kind::Redis { url: url.to_string(), password }
        }
        Settings::Command { words } => Kind::Command { words: words.clone(), folder: project.settings.folder.clone() },
        Settings::Tls { address, valid_for } => {
            let server_name = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host).to_owned();
            let days_min = i64::try_from(valid_for.duration().as_secs() / DAY.as_secs()).unwrap_or(i64::MAX);
            Kind::Tls { address: address.clone(), server_name, days_min }
        }
        Settings::Oidc { issuer, client_id, client_secret } => {
            let secret = client_secret.resolve(&format!("{key}.client_secret"), references.get())?.to_string();
            Kind::Oidc { issuer: issuer.clone(), client: client_id.clone(), secret }
        }
        Settings::Container { service, max_restarts } => Kind::Asked(Arc::new(ContainerAsk {
            project: reached(containers, &key)?.clone(),
            service: service.clone(),
            restarts_max: i64::from(*max_restarts),
        })),
        Settings::Log { service, patterns } => Kind::Asked(Arc::new(backstay_health::LogAsk::new(
            reached(containers, &key)?.clone(),
            service.clone(),
            patterns.clone(),
            project.surroundings.clock.now(),
        ))),
    })
}

/// Headers as they are sent; secret ones are read now.
fn resolved(
    project: &Project,
    key: &str,
    headers: &BTreeMap<String, HeaderValue>,
) -> Result<Vec<(String, String)>, Failure> {
    let references = project.references();
    let mut sent = Vec::new();
    for (name, value) in headers {
        let value = match value {
            HeaderValue::Plain(text) => text.clone(),
            HeaderValue::Reference(reference) => {
                reference.resolve(&format!("{key}.headers.{name}"), references.get())?.to_string()
            }
        };
        sent.push((name.clone(), value));
    }
    Ok(sent)
}

fn reached<'a>(containers: &'a Containers, key: &str) -> Result<&'a backstay_compose::Project, Failure> {
    match containers {
        Containers::Reached(compose) => Ok(compose),
        Containers::OutOfReach(failure) => Err(failure.clone()),
        Containers::NotConfigured => Err(Failure::new(
            Exit::Environment,
            format!("`{key}` looks at a container, and no [compose] is configured"),
        )),
    }
}
