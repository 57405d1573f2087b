use backstay_model::SnapshotId;
use thiserror::Error;

/// Why a deploy was not begun, or could not be taken back.
#[derive(Debug, Error)]
pub enum Error {
    #[error("the snapshot {snapshot} does not prove, so the deploy was not begun")]
    NotProven { snapshot: SnapshotId },
    #[error(transparent)]
    Snapshot(#[from] Box<backstay_snapshot::Error>),
    #[error(transparent)]
    Restore(#[from] Box<backstay_restore::Error>),
    #[error(transparent)]
    Part(#[from] backstay_part::Error),
    #[error(transparent)]
    Run(Box<backstay_run::Error>),
    #[error("cannot {action} the repository")]
    Repository {
        action: &'static str,
        #[source]
        source: backstay_repository::Error,
    },
}

impl From<backstay_run::Error> for Error {
    fn from(error: backstay_run::Error) -> Self {
        Self::Run(Box::new(error))
    }
}

impl From<backstay_restore::Error> for Error {
    fn from(error: backstay_restore::Error) -> Self {
        Self::Restore(Box::new(error))
    }
}
