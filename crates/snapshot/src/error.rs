use backstay_model::{Finding, PartName, SnapshotId};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum Error {
    #[error("{}", not_ready(.findings))]
    NotReady { findings: Vec<Finding> },
    #[error(transparent)]
    Part(#[from] backstay_part::Error),
    #[error(transparent)]
    Recorded(Box<backstay_part::RecordedError>),
    #[error(transparent)]
    Run(Box<backstay_run::Error>),
    #[error("cannot {action} the repository")]
    Repository {
        action: &'static str,
        #[source]
        source: backstay_repository::Error,
    },
    #[error("cannot export {snapshot}")]
    Export {
        snapshot: SnapshotId,
        #[source]
        source: backstay_repository::Error,
    },
    #[error("{part} keeps changing while the snapshot is taken")]
    Changing { part: PartName },
    #[error("snapshot {snapshot} holds {part}, which is not configured here")]
    PartNotHere { snapshot: SnapshotId, part: PartName },
    /// The snapshot stands; that it restores is not known.
    #[error("snapshot {snapshot} is taken, and could not be proven")]
    Unproven {
        snapshot: SnapshotId,
        #[source]
        source: Box<Error>,
    },
    /// No manifest was written.
    #[error("the snapshot was interrupted")]
    Interrupted,
    /// Staged copies may be left; `recover` removes them.
    #[error("cannot remove the scratch copy of {part}")]
    Abandon {
        part: PartName,
        #[source]
        source: backstay_part::Error,
    },
}

impl From<backstay_run::Error> for Error {
    fn from(error: backstay_run::Error) -> Self {
        Self::Run(Box::new(error))
    }
}

impl From<backstay_part::RecordedError> for Error {
    fn from(error: backstay_part::RecordedError) -> Self {
        Self::Recorded(Box::new(error))
    }
}

fn not_ready(findings: &[Finding]) -> String {
    let texts: Vec<String> = findings.iter().map(|finding| format!("{}: {}", finding.subject, finding.text)).collect();
    format!("not ready to take a snapshot: {}", texts.join("; "))
}
