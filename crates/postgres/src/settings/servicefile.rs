use std::path::PathBuf;

use zeroize::Zeroizing;

use super::{Keywords, Surroundings, bad};
use crate::Error;

/// What the service files say of `service`: the user's own first, then the one of the system's folder.
pub(super) fn read(service: &str, surroundings: &Surroundings) -> Result<Keywords, Error> {
    let variable = |name: &str| surroundings.variables.get(name).map(PathBuf::from);
    let own = variable("PGSERVICEFILE").or_else(|| Some(surroundings.home.as_ref()?.join(".pg_service.conf")));
    let system = variable("PGSYSCONFDIR").map(|folder| folder.join("pg_service.conf"));
    for path in own.into_iter().chain(system) {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(Error::ReadFile { path, source }),
        };
        if let Some(found) = section(&text, service) {
            return Ok(found);
        }
    }
    Err(bad("service", format!("`{service}` stands in no service file")))
}

fn section(text: &str, service: &str) -> Option<Keywords> {
    let mut within = false;
    let mut found = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            if within {
                break;
            }
            within = name == service;
            if within {
                found = Some(Keywords::new());
            }
        } else if let (Some(found), Some((key, value))) = (found.as_mut(), line.split_once('=')) {
            found.insert(key.trim().to_owned(), Zeroizing::new(value.trim().to_owned()));
        }
    }
    found
}
