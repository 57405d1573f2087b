use backstay_model::PartName;
use thiserror::Error;

/// A phase of a part that did not succeed. The source says why, in the part's own words.
#[derive(Debug, Error)]
#[error("cannot {action} {part}")]
pub struct Error {
    pub part: PartName,
    /// The phase as a verb: `capture`, `stage`, `activate`.
    pub action: &'static str,
    pub kind: ErrorKind,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What a failure means for the run: it decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The surroundings are not as configured: nothing was begun.
    Environment,
    /// It would not be right to do it: nothing changed.
    Refused,
    /// It was tried and did not work.
    Failed,
    /// What the repository holds is not what was recorded.
    Damaged,
    /// Somebody asked the run to stop.
    Interrupted,
}
