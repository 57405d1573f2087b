use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{Error, dotenv};

/// Larger than any key, password or env file.
const SECRET_BYTES_MAX: u64 = 1 << 20;

/// Where a secret is to be had. The configuration holds these and never the secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Reference {
    /// `env:NAME`
    Variable(String),
    /// `file:PATH`: the whole file, without the line end it closes with.
    File(PathBuf),
    /// `file:PATH#NAME`: one entry of an env file.
    Entry { path: PathBuf, name: String },
}

/// What references are resolved in. Whoever calls decides what the environment is.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The folder that relative paths begin in: the one of backstay.toml.
    pub folder: &'a Path,
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Reference {
    /// The secret as text. `key` is the setting that holds the reference, for errors.
    pub fn resolve(&self, key: &str, surroundings: Surroundings<'_>) -> Result<Zeroizing<String>, Error> {
        let text = match self {
            Self::Variable(name) => {
                let value = (surroundings.variable)(name);
                Zeroizing::new(value.ok_or_else(|| Error::VariableUnset { key: key.to_owned(), name: name.clone() })?)
            }
            Self::File(path) => {
                let mut text = self.text_of(key, path, surroundings)?;
                let trimmed = text.trim_end_matches(['\n', '\r']).len();
                text.truncate(trimmed);
                text
            }
            Self::Entry { path, name } => self.entry(key, path, name, surroundings)?,
        };
        if text.is_empty() {
            return Err(Error::SecretEmpty { key: key.to_owned(), reference: self.to_string() });
        }
        Ok(text)
    }

    /// The secret as it stands, byte for byte: for key files.
    pub fn resolve_bytes(&self, key: &str, surroundings: Surroundings<'_>) -> Result<Zeroizing<Vec<u8>>, Error> {
        match self {
            Self::File(path) => read(key, &surroundings.folder.join(path)),
            _ => Ok(Zeroizing::new(self.resolve(key, surroundings)?.as_bytes().to_vec())),
        }
    }

    /// The file it is read from, where it is one.
    pub fn path(&self, folder: &Path) -> Option<PathBuf> {
        match self {
            Self::Variable(_) => None,
            Self::File(path) | Self::Entry { path, .. } => Some(folder.join(path)),
        }
    }

    fn text_of(&self, key: &str, path: &Path, surroundings: Surroundings<'_>) -> Result<Zeroizing<String>, Error> {
        let bytes = read(key, &surroundings.folder.join(path))?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| Error::SecretNotText { key: key.to_owned(), reference: self.to_string() })?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    fn entry(
        &self,
        key: &str,
        path: &Path,
        name: &str,
        surroundings: Surroundings<'_>,
    ) -> Result<Zeroizing<String>, Error> {
        let text = self.text_of(key, path, surroundings)?;
        let full = || surroundings.folder.join(path);
        let found = dotenv::find(&text, name, surroundings.variable).map_err(|malformed| Error::SecretMalformed {
            key: key.to_owned(),
            path: full(),
            line: malformed.line,
        })?;
        found.ok_or_else(|| Error::SecretMissing { key: key.to_owned(), path: full(), name: name.to_owned() })
    }
}

fn read(key: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let unreadable = |source| Error::SecretUnreadable { key: key.to_owned(), path: path.to_owned(), source };
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(unreadable)?;
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(Error::SecretTooLarge { key: key.to_owned(), path: path.to_owned() });
    }
    Ok(bytes)
}

impl FromStr for Reference {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if let Some(name) = text.strip_prefix("env:") {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            return match name.bytes().all(plain) && !name.is_empty() {
                true => Ok(Self::Variable(name.to_owned())),
                false => Err("names no environment variable after `env:`"),
            };
        }
        let Some(rest) = text.strip_prefix("file:") else {
            return Err("may hold a secret and so wants a reference: env:NAME, file:PATH or file:PATH#NAME");
        };
        let (path, name) = match rest.rsplit_once('#') {
            Some((path, name)) => (path, Some(name)),
            None => (rest, None),
        };
        if path.is_empty() {
            return Err("names no file after `file:`");
        }
        if path.starts_with("~/") {
            return Err("begins with `~`, which is not replaced: write the whole path, or one from this file's folder");
        }
        match name {
            Some("") => Err("names no entry after `#`"),
            Some(name) => Ok(Self::Entry { path: PathBuf::from(path), name: name.to_owned() }),
            None => Ok(Self::File(PathBuf::from(path))),
        }
    }
}

impl TryFrom<String> for Reference {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Entry { path, name } => write!(f, "file:{}#{name}", path.display()),
        }
    }
}

impl JsonSchema for Reference {
    fn schema_name() -> Cow<'static, str> {
        "Reference".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "title": "reference",
            "description": "Where a secret is to be had: `env:NAME`, `file:PATH` or `file:PATH#NAME` (an entry of an env file).",
            "pattern": "^(env:[A-Za-z0-9_]+|file:.+)$",
        })
    }
}

/// A reference, or an address in clear that holds no password.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Address {
    Plain(String),
    Reference(Reference),
}

impl Address {
    pub fn resolve(&self, key: &str, surroundings: Surroundings<'_>) -> Result<Zeroizing<String>, Error> {
        match self {
            Self::Plain(text) => Ok(Zeroizing::new(text.clone())),
            Self::Reference(reference) => reference.resolve(key, surroundings),
        }
    }
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text.starts_with("env:") || text.starts_with("file:") {
            return text.parse().map(Self::Reference);
        }
        if holds_password(text) {
            return Err("holds a password: write a reference instead, env:NAME, file:PATH or file:PATH#NAME");
        }
        match text.split_once("://") {
            Some((scheme, rest)) if !scheme.is_empty() && !rest.is_empty() => Ok(Self::Plain(text.to_owned())),
            _ => Err("wants an address without a password, or a reference: env:NAME, file:PATH or file:PATH#NAME"),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse()
    }
}

impl JsonSchema for Address {
    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "title": "address or reference",
            "description": "A reference (`env:NAME`, `file:PATH`, `file:PATH#NAME`), or an address that holds no password.",
        })
    }
}

/// Whether an address carries a password in clear. It rather says yes once too often.
pub(crate) fn holds_password(address: &str) -> bool {
    let after_scheme = address.split_once("://").map_or(address, |(_, rest)| rest);
    // The last `@`: passwords that should have been encoded hold `/`, `?` and `@` themselves.
    let in_front = after_scheme.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    let lower = address.to_ascii_lowercase();
    in_front || ["password=", "passwd=", "pwd=", "secret=", "token="].iter().any(|word| lower.contains(word))
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
