//! Probes that make sense, out of the tables that describe them.

use std::collections::BTreeMap;

use backstay_model::PartName;

use crate::probe::{HeaderValue, Health, HealthTable, Probe, is_secret_header};
use crate::reference::holds_password;
use crate::settings::Database;
use crate::validate::Problems;
use crate::{Address, Span};

pub(crate) fn probes(
    tables: BTreeMap<String, HealthTable>,
    databases: &BTreeMap<PartName, Database>,
    has_compose: bool,
    problems: &mut Problems,
) -> Vec<Health> {
    let mut probes = Vec::new();
    for (name, table) in tables {
        let key = format!("health.{}", crate::shape::quoted(&name));
        if table.successes == Some(0) {
            problems.add(format!("{key}.successes"), "is at least 1");
        }
        if table.interval.is_some_and(|interval| interval.duration().is_zero()) {
            problems.add(format!("{key}.interval"), "is longer than nothing");
        }
        let (interval, timeout) = (table.interval, table.timeout);
        let (latency, successes) = (table.latency, table.successes.unwrap_or(3));
        match probe(&key, table) {
            Ok(probe) => {
                sensible(&key, &probe, databases, has_compose, problems);
                probes.push(Health {
                    name,
                    probe,
                    interval: interval.unwrap_or(Span::from_secs(2)),
                    timeout: timeout.unwrap_or(Span::from_secs(10)),
                    latency,
                    successes,
                });
            }
            Err((key, what)) => problems.add(key, what),
        }
    }
    probes
}

type Missing = (String, &'static str);

fn probe(key: &str, table: HealthTable) -> Result<Probe, Missing> {
    if let Some(url) = table.http {
        return Ok(Probe::Http {
            url,
            statuses: table.status.map(|status| status.all()).unwrap_or_default(),
            contains: table.contains,
            json: table.json.unwrap_or_default(),
            headers: table.headers.unwrap_or_default(),
        });
    }
    if let Some(address) = table.tcp {
        return Ok(Probe::Tcp { address });
    }
    if let Some(database) = table.postgres {
        return Ok(Probe::Postgres { database, query: table.query, max_lag: table.max_lag });
    }
    if let Some(address) = table.redis {
        return Ok(Probe::Redis { address, password: table.password });
    }
    if let Some(words) = table.command {
        return Ok(Probe::Command { words });
    }
    if let Some(address) = table.tls {
        return Ok(Probe::Tls { address, valid_for: table.valid_for.unwrap_or(Span::from_days(14)) });
    }
    if let Some(issuer) = table.oidc {
        let missing = |name: &str| (format!("{key}.{name}"), "is missing: a token is asked for as a client");
        return Ok(Probe::Oidc {
            issuer,
            client_id: table.client_id.ok_or_else(|| missing("client_id"))?,
            client_secret: table.client_secret.ok_or_else(|| missing("client_secret"))?,
        });
    }
    if let Some(service) = table.container {
        return Ok(Probe::Container { service, max_restarts: table.max_restarts.unwrap_or(0) });
    }
    if let Some(service) = table.log {
        return Ok(Probe::Log { service, patterns: table.patterns.unwrap_or_default() });
    }
    Err((
        key.to_owned(),
        "says not what to look at: give it one of `http`, `tcp`, `postgres`, `redis`, `command`, `tls`, `oidc`, `container` or `log`",
    ))
}

fn sensible(
    key: &str,
    probe: &Probe,
    databases: &BTreeMap<PartName, Database>,
    has_compose: bool,
    problems: &mut Problems,
) {
    match probe {
        Probe::Http { url, headers, statuses, .. } => {
            web(&format!("{key}.http"), url, problems);
            for (name, value) in headers {
                if matches!(value, HeaderValue::Plain(_)) && is_secret_header(name) {
                    let header = format!("{key}.headers.{}", crate::shape::quoted(name));
                    problems.add(header, "may hold a secret and so wants a reference: env:NAME or file:PATH");
                }
            }
            if statuses.iter().any(|status| !(100..=599).contains(status)) {
                problems.add(format!("{key}.status"), "wants numbers from 100 to 599");
            }
        }
        Probe::Oidc { issuer, .. } => web(&format!("{key}.oidc"), issuer, problems),
        Probe::Tcp { address } => host_and_port(&format!("{key}.tcp"), address, problems),
        Probe::Tls { address, .. } => host_and_port(&format!("{key}.tls"), address, problems),
        Probe::Redis { address: Address::Plain(address), .. }
            if !address.starts_with("redis://") && !address.starts_with("rediss://") =>
        {
            problems.add(format!("{key}.redis"), "wants redis://HOST:PORT or rediss://HOST:PORT");
        }
        Probe::Postgres { database, .. } if !databases.keys().any(|known| known.as_str() == database) => {
            problems.add(format!("{key}.postgres"), "names no database of this file");
        }
        Probe::Command { words } if words.is_empty() => {
            problems.add(format!("{key}.command"), "wants a list of words");
        }
        Probe::Container { .. } | Probe::Log { .. } if !has_compose => {
            problems.add(key, "looks at a service and so wants a `[compose]` project");
        }
        _ => {}
    }
}

fn web(key: &str, url: &str, problems: &mut Problems) {
    if !url.starts_with("http://") && !url.starts_with("https://") {
        problems.add(key, "wants an address that begins with http:// or https://");
    }
    if holds_password(url) {
        problems.add(key, "holds a password or token: send it as a header that is a reference");
    }
}

fn host_and_port(key: &str, address: &str, problems: &mut Problems) {
    let fits = address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !fits || address.contains('/') {
        problems.add(key, "wants host:port");
    }
}
