use std::io;

use backstay_part::ErrorKind;
use thiserror::Error;

/// Why configuration files cannot be recorded or put back. A path names the file; contents are never
/// shown.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot {action} `{path}`")]
    Io {
        action: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` leads out of the project: `{through}` is not a folder of its own")]
    Escapes { path: String, through: String },
    #[error("`{path}` is no path that a file can be recorded under")]
    Path { path: String },
    #[error("the name of a file in `{folder}` is not UTF-8: {name}")]
    Name { folder: String, name: String },
    #[error("`{pattern}` is no pattern within the project")]
    Pattern {
        pattern: String,
        #[source]
        source: Option<globset::Error>,
    },
    #[error("`{path}` changes as fast as it is read")]
    Changing { path: String },
    #[error("there are more than {most} files to record; the last one seen is `{path}`")]
    TooMany { most: u32, path: String },
    #[error("there are more than {most} bytes to record; they do not fit from `{path}` on")]
    TooLarge { most: u64, path: String },
    #[error("`{path}` is a {kind}, where a {wanted} has to go")]
    InTheWay { path: String, kind: &'static str, wanted: &'static str },
    #[error("`{path}` is not in the snapshot as it was recorded: {what}")]
    Damaged { path: String, what: &'static str },
    #[error("nothing is staged for run {run}")]
    NotStaged { run: String },
    #[error("what run {run} replaced was let go, or it replaced nothing")]
    NothingKept { run: String },
    #[error("the files of run {run} are neither all old nor all new: {}", paths.join(", "))]
    Half { run: String, paths: Vec<String> },
    #[error("cannot read or write {what} as JSON")]
    Json {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot {action} the recorded files")]
    Repository {
        action: &'static str,
        #[source]
        source: backstay_repository::Error,
    },
    #[error("the work on files ended before its time")]
    Ended,
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Pattern { .. } => ErrorKind::Environment,
            Self::Escapes { .. }
            | Self::Path { .. }
            | Self::TooMany { .. }
            | Self::TooLarge { .. }
            | Self::InTheWay { .. }
            | Self::Half { .. }
            | Self::NothingKept { .. } => ErrorKind::Refused,
            Self::Damaged { .. } => ErrorKind::Damaged,
            Self::Interrupted => ErrorKind::Interrupted,
            _ => ErrorKind::Failed,
        }
    }
}
