use std::fmt;
use std::path::PathBuf;

use backstay_model::Environment;
use thiserror::Error;

/// Why there are no settings. No `Display` here repeats a value that may be a secret.
#[derive(Debug, Error)]
pub enum Error {
    #[error("there is no backstay.toml in {} or above it", from.display())]
    NotFound { from: PathBuf },
    #[error("cannot read {}", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is larger than a configuration can be", path.display())]
    TooLarge { path: PathBuf },
    #[error("{} is not TOML: line {line}, column {column}: {what}", path.display())]
    Syntax { path: PathBuf, line: usize, column: usize, what: String },
    #[error("{} is not valid: {}", path.display(), sentence(problems))]
    Invalid { path: PathBuf, problems: Vec<Problem> },
    /// A wrong use of the command rather than a wrong configuration.
    #[error("no environment was chosen; there are {}", listed(names))]
    EnvironmentNeeded { names: Vec<Environment> },
    /// A wrong use of the command rather than a wrong configuration.
    #[error("there is no environment `{name}`{}", known(names))]
    EnvironmentUnknown { name: String, names: Vec<Environment>, suggestion: Option<String> },
    #[error("`{key}` refers to the environment variable {name}, which is not set")]
    VariableUnset { key: String, name: String },
    #[error("`{key}` refers to {}, which cannot be read", path.display())]
    SecretUnreadable {
        key: String,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{key}` refers to {}, which is larger than a secret can be", path.display())]
    SecretTooLarge { key: String, path: PathBuf },
    #[error("`{key}` refers to {name} in {}, which has no such entry", path.display())]
    SecretMissing { key: String, path: PathBuf, name: String },
    #[error("`{key}` refers to {}, which is not written as an env file: line {line}", path.display())]
    SecretMalformed { key: String, path: PathBuf, line: usize },
    #[error("`{key}` refers to {reference}, which is empty")]
    SecretEmpty { key: String, reference: String },
    #[error("`{key}` refers to {reference}, which is not UTF-8")]
    SecretNotText { key: String, reference: String },
    #[error("there is no folder for the state of this host: neither a state folder nor a home is known")]
    NoStateFolder,
}

impl Error {
    /// Whether the command was used wrongly, rather than configured wrongly.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::EnvironmentNeeded { .. } | Self::EnvironmentUnknown { .. })
    }
}

/// One thing in a configuration that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key's full path: `environment.production.retention.keep_last`.
    pub key: String,
    /// The line it stands on, where it stands anywhere.
    pub line: Option<usize>,
    /// Continues the key: `is not known here`.
    pub what: String,
    /// The key or word that probably was meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "`{}` {}", self.key, self.what)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean `{suggestion}`?"),
            None => Ok(()),
        }
    }
}

fn sentence(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ")
}

fn listed(names: &[Environment]) -> String {
    names.iter().map(Environment::as_str).collect::<Vec<_>>().join(", ")
}

fn known(names: &[Environment]) -> String {
    if names.is_empty() { ", and none is configured".to_owned() } else { format!("; there are {}", listed(names)) }
}
