use backstay_model::{PartName, RunId, SnapshotId};
use thiserror::Error;

use crate::InTheWay;

/// Why nothing was restored. All of these leave what runs as it was; what ends otherwise after the
/// fence is told by [`crate::Restored`].
#[derive(Debug, Error)]
pub enum Error {
    #[error("the plan cannot be carried out: {}", .refusals.join("; "))]
    Refused { refusals: Vec<String> },
    #[error("what the plan was made for has changed since: {}", names(.parts))]
    Moved { parts: Vec<PartName> },
    #[error("the restore would lose {rows} rows, and at most {max} were allowed")]
    TooMuchLoss { rows: u64, max: u64 },
    #[error("nobody can say how many rows the restore would lose, and at most {max} were allowed")]
    LossUnknown { max: u64 },
    #[error("the staged copy of {part} is not what was captured: {}", .findings.join("; "))]
    NotProven { snapshot: SnapshotId, part: PartName, findings: Vec<String> },
    #[error("snapshot {snapshot} holds {part}, which is not configured here")]
    PartNotHere { snapshot: SnapshotId, part: PartName },
    #[error("{0}")]
    InTheWay(Box<InTheWay>),
    #[error("the lease was lost while the copy was staged")]
    LeaseLost,
    #[error("interrupted before anything was switched")]
    Interrupted,
    #[error("there is no restore to undo")]
    NothingToUndo,
    #[error("run {run} cannot be undone: {why}")]
    NotUndoable { run: RunId, why: String },
    #[error("there is no unfinished run {run}")]
    NoSuchRun { run: RunId },
    #[error("run {run} keeps {part} with what was written to it, and no snapshot holds that")]
    OnlyCopy { run: RunId, part: PartName },
    #[error("the journal of run {run} does not say what it was about to do")]
    Journal { run: RunId },
    /// The run is left unfinished, so that `recover` removes the rest.
    #[error("{why}; and what was staged of {part} cannot be removed")]
    Abandon {
        why: String,
        part: PartName,
        #[source]
        source: backstay_part::Error,
    },
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

fn names(parts: &[PartName]) -> String {
    parts.iter().map(PartName::as_str).collect::<Vec<_>>().join(", ")
}
