use std::path::PathBuf;

use thiserror::Error;

use crate::{Blocker, Cause, Fault};

/// What went wrong with a migration, each with its subject.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot read the migrations folder {}", folder.display())]
    ReadFolder {
        folder: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot read the migration {}", file.display())]
    ReadFile {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The files, or what the history says of them, are not as they must be.
    #[error("{}", list(faults))]
    Faults { faults: Vec<Fault> },
    #[error("cannot connect to {target}")]
    Connect {
        target: String,
        #[source]
        source: Box<backstay_postgres::Error>,
    },
    #[error("cannot {action} in {target}")]
    Query {
        action: &'static str,
        target: String,
        #[source]
        source: Cause,
    },
    /// The statements of a file failed and what it began was rolled back.
    #[error("{place} failed")]
    Statement {
        place: Place,
        /// Files that were committed before it, by this run.
        committed: Vec<String>,
        /// Whether part of the failing file itself stays.
        half: bool,
        #[source]
        source: Cause,
    },
    #[error("what {file} left for COMMIT to check failed")]
    Commit {
        file: String,
        committed: Vec<String>,
        #[source]
        source: Cause,
    },
    #[error("{place} waited for a lock {attempts} times and never got it; {}", named(blockers))]
    Locked { place: Place, attempts: u32, blockers: Vec<Blocker>, committed: Vec<String> },
    #[error("another migration runs in {target}: {holder}")]
    Busy { target: String, holder: String },
    #[error("the connection to {target} was lost, and it cannot be learnt whether {file} was committed")]
    Unknown { target: String, file: String },
    #[error("the connection to {target} was lost during {file}; what had begun was rolled back by the server")]
    Lost {
        target: String,
        file: String,
        committed: Vec<String>,
        #[source]
        source: Cause,
    },
    /// A statement outside of a transaction was begun and nobody knows whether it took effect.
    #[error("{place} was begun by run {run} and its end was never seen")]
    Unfinished { place: Place, run: String, statement: String },
    #[error("{file} ended the transaction it ran in: what came before is committed, and the rest was not run")]
    Escaped { file: String },
    #[error("the index {index} was left invalid by {place}")]
    InvalidIndex { index: String, place: Place, committed: Vec<String> },
    #[error("a pooler stands before {target} that gives each transaction another session")]
    Pooled { target: String },
    #[error("everything was applied, and how the database stands now could not be read")]
    Unread {
        #[source]
        source: Box<Error>,
    },
    #[error("{why}")]
    Refused { why: String },
    #[error("the command `{program}` cannot be started")]
    Start {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the command `{program}` ended with {status}; {}", if *changed { "the schema or its history changed" } else { "the schema is as it was" })]
    Command { program: String, status: String, changed: bool, said: Vec<String> },
    #[error("the migration was interrupted")]
    Interrupted { committed: Vec<String>, half: Option<Place> },
}

/// A statement of a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Place {
    pub file: String,
    pub line: u32,
    /// The statement's first words.
    pub begins: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} line {} (`{}`)", self.file, self.line, self.begins)
    }
}

/// What a failure means for whoever asked: it decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// The surroundings are not as configured: nothing was begun.
    Environment,
    /// It would not be right: nothing changed.
    Refused,
    /// It failed and nothing changed.
    Unchanged,
    /// It failed after something had been committed, or nobody knows.
    Changed,
    /// Somebody else is at it.
    Busy,
    /// It was asked to stop, and nothing changed.
    Interrupted,
}

impl Error {
    pub fn consequence(&self) -> Consequence {
        let changed =
            |committed: &[String]| if committed.is_empty() { Consequence::Unchanged } else { Consequence::Changed };
        match self {
            Self::ReadFolder { .. } | Self::ReadFile { .. } | Self::Connect { .. } => Consequence::Environment,
            Self::Start { .. } => Consequence::Environment,
            Self::Faults { .. } | Self::Refused { .. } | Self::Pooled { .. } => Consequence::Refused,
            Self::Query { .. } => Consequence::Unchanged,
            Self::Statement { half: true, .. } => Consequence::Changed,
            Self::Statement { committed, .. }
            | Self::Commit { committed, .. }
            | Self::Locked { committed, .. }
            | Self::Lost { committed, .. } => changed(committed),
            Self::Busy { .. } => Consequence::Busy,
            Self::Unread { .. }
            | Self::Unknown { .. }
            | Self::Unfinished { .. }
            | Self::Escaped { .. }
            | Self::InvalidIndex { .. } => Consequence::Changed,
            Self::Command { changed: true, .. } => Consequence::Changed,
            Self::Command { .. } => Consequence::Unchanged,
            Self::Interrupted { committed, half } if committed.is_empty() && half.is_none() => Consequence::Interrupted,
            Self::Interrupted { .. } => Consequence::Changed,
        }
    }
}

impl Error {
    /// What stands now, where something was committed before it failed.
    pub fn stands(&self) -> Option<String> {
        if self.consequence() != Consequence::Changed {
            return None;
        }
        let kept = |committed: &[String]| match committed {
            [] => String::new(),
            [one] => format!("{one} was committed and stays; "),
            [first, .., last] => format!("{} files from {first} to {last} were committed and stay; ", committed.len()),
        };
        let half = |place: &Place| format!("what {} did before line {} stays", place.file, place.line);
        Some(match self {
            Self::Statement { place, committed, half: true, .. } => kept(committed) + &half(place),
            Self::Interrupted { committed, half: Some(place) } => kept(committed) + &half(place),
            // Outside of a transaction the file itself is the last of them.
            Self::Locked { place, committed, .. } if committed.last() == Some(&place.file) => {
                kept(&committed[..committed.len() - 1]) + &half(place)
            }
            Self::InvalidIndex { index, committed, .. } => {
                format!("{}the index {index} stays, unusable", kept(committed))
            }
            Self::Statement { committed, .. }
            | Self::Commit { committed, .. }
            | Self::Locked { committed, .. }
            | Self::Lost { committed, .. }
            | Self::Interrupted { committed, .. } => kept(committed) + "nothing of the rest was changed",
            Self::Unfinished { .. } => {
                "whether that statement took effect is not known; what came before it stays".to_owned()
            }
            Self::Escaped { file } => format!("what {file} did up to there stays"),
            Self::Unread { .. } => "everything that was pending is applied".to_owned(),
            Self::Command { program, .. } => format!("what `{program}` changed stays"),
            _ => "not known: look with `backstay migrate status`".to_owned(),
        })
    }
}

fn list(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn named(blockers: &[Blocker]) -> String {
    if blockers.is_empty() {
        return "who held it was gone before it could be named".to_owned();
    }
    blockers.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
