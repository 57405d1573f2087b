use std::path::PathBuf;

use backstay_model::PartName;
use backstay_part::ErrorKind;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot use the Docker address `{host}`: {why}")]
    Address { host: String, why: String },
    #[error("cannot read the Docker settings in {}", path.display())]
    Settings {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("no Docker context is called `{0}`")]
    NoContext(String),
    #[error("cannot reach the Docker engine at `{host}`")]
    Unreachable {
        host: String,
        #[source]
        source: bollard::errors::Error,
    },
    #[error("the Docker engine cannot {action} {subject}")]
    Engine {
        action: &'static str,
        subject: String,
        #[source]
        source: bollard::errors::Error,
    },
    #[error("Docker Compose is not installed: neither `docker compose` nor `docker-compose` runs")]
    NoCompose,
    #[error("only Docker Compose {version} is installed, which has reached its end of life")]
    ComposeTooOld { version: String },
    #[error("cannot run {program}")]
    Spawn {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("`docker compose {action}` {ended}{said}")]
    Compose { action: String, ended: String, said: String },
    #[error("`docker compose {action}` does not answer in JSON")]
    ComposeAnswer {
        action: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("none of the Compose files of `{project}` is there: {}", list(files))]
    NoFiles { project: String, files: Vec<PathBuf> },
    #[error("cannot {action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is not readable as a Compose file", path.display())]
    Yaml { path: PathBuf },
    #[error("the image {image} that {service} runs is no longer on this machine")]
    ImageGone { service: String, image: String },
    #[error("the image of {service} cannot be brought back: {why}")]
    NotAvailable { service: String, why: String },
    #[error("the registry does not hold the image of {service} by any of its digests")]
    NotAtRegistry { service: String },
    #[error("the archive of image {image} is not readable: {why}")]
    Archive { image: String, why: String },
    #[error("cannot read or write the archive of image {image} in the repository")]
    Repository {
        image: String,
        #[source]
        source: backstay_repository::Error,
    },
    #[error("{service} runs image {live} and not {wanted}")]
    WrongImage { service: String, live: String, wanted: String },
    #[error("{} did not stop", .services.join(", "))]
    StillRunning { services: Vec<String> },
    #[error("{} not running as it should: {}", .services.join(", "), .failures.join("; "))]
    NotReady { services: Vec<String>, failures: Vec<String> },
    #[error("no container of service `{0}` runs")]
    NoContainer(String),
    #[error(
        "the container of {service} has no address that answers here, and no bash within it reaches its port {port}"
    )]
    NoWayIn { service: String, port: u16 },
    #[error("cannot listen on the socket {}", path.display())]
    Relay {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{command}` in the container of {service} {ended}")]
    Exec { service: String, command: String, ended: String },
    #[error("what was written down by an earlier phase is not readable")]
    Token(#[source] serde_json::Error),
    #[error("what an earlier run kept of the images was let go")]
    LetGo,
    #[error("the run was asked to stop")]
    Interrupted,
}

impl Error {
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Address { .. }
            | Self::Settings { .. }
            | Self::NoContext(_)
            | Self::Unreachable { .. }
            | Self::NoCompose
            | Self::ComposeTooOld { .. }
            | Self::NoFiles { .. } => ErrorKind::Environment,
            Self::LetGo | Self::NotAvailable { .. } => ErrorKind::Refused,
            Self::Archive { .. } | Self::Repository { .. } => ErrorKind::Damaged,
            Self::Interrupted => ErrorKind::Interrupted,
            _ => ErrorKind::Failed,
        }
    }

    pub(crate) fn in_part(self, part: &PartName, action: &'static str) -> backstay_part::Error {
        backstay_part::Error { part: part.clone(), action, kind: self.kind(), source: Box::new(self) }
    }
}

pub(crate) fn is_absent(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 404, .. })
}

/// Something else needs what was to go.
pub(crate) fn is_conflict(error: &bollard::errors::Error) -> bool {
    matches!(error, bollard::errors::Error::DockerResponseServerError { status_code: 409, .. })
}

fn list(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}
