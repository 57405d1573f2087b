use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Host, Settings, Surroundings, bad};
use crate::Error;

/// The password that the password file holds for these settings, if there is such a file and it does.
/// A file that others may read is refused, where libpq would pass over it without a word.
pub(super) fn look_up(
    settings: &Settings,
    given: Option<&Path>,
    surroundings: &Surroundings,
) -> Result<Option<Zeroizing<String>>, Error> {
    let usual = || Some(surroundings.home.as_ref()?.join(".pgpass"));
    let Some(path) = given.map(PathBuf::from).or_else(usual) else { return Ok(None) };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::ReadFile { path, source }),
    };
    if is_open_to_others(&path)? {
        return Err(bad("passfile", format!("{} can be read by others; give it mode 0600", path.display())));
    }
    let host = match &settings.host {
        Host::Name(name) => name.clone(),
        Host::Socket(_) => "localhost".to_owned(),
    };
    let port = settings.port.to_string();
    let wanted = [host.as_str(), &port, &settings.database, &settings.user];
    Ok(text.lines().filter(|line| !line.starts_with('#')).find_map(|line| password(line, &wanted)))
}

fn password(line: &str, wanted: &[&str; 4]) -> Option<Zeroizing<String>> {
    let fields = fields(line);
    let (pattern, password) = (fields.get(..4)?, fields.get(4)?);
    let matches = pattern.iter().zip(wanted).all(|(field, wanted)| field.as_str() == "*" || field.as_str() == *wanted);
    matches.then(|| password.clone())
}

/// Splits at colons; a backslash keeps the character after it.
fn fields(line: &str) -> Vec<Zeroizing<String>> {
    let mut fields = vec![Zeroizing::new(String::new())];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == ':' && fields.len() < 5 {
            fields.push(Zeroizing::new(String::new()));
            continue;
        }
        let kept = if character == '\\' { characters.next() } else { Some(character) };
        if let (Some(kept), Some(field)) = (kept, fields.last_mut()) {
            field.push(kept);
        }
    }
    fields
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> Result<bool, Error> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path).map_err(|source| Error::ReadFile { path: path.to_owned(), source })?;
    Ok(metadata.is_file() && metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_path: &Path) -> Result<bool, Error> {
    Ok(false)
}
