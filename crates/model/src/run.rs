use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Environment, Project, RunId, SnapshotId};

/// What the repository keeps of a run: history for people, protection for prune, and enough for
/// another host to recover it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    pub id: RunId,
    pub project: Project,
    pub environment: Environment,
    /// The command as a word: `snapshot`, `restore`, `undo`, `guard`, `migrate run`, ….
    pub command: String,
    pub host: String,
    /// The snapshot it made or took back to.
    pub snapshot: Option<SnapshotId>,
    /// The snapshot of the release that was running before, where it changed what runs.
    pub before: Option<SnapshotId>,
    /// The run that this one undoes or recovers.
    pub undoes: Option<RunId>,
    pub began_at: DateTime<Utc>,
    /// Nothing while the run goes on, or where it died.
    pub ended_at: Option<DateTime<Utc>>,
    pub outcome: Option<Outcome>,
    /// One line for a person.
    pub remark: Option<String>,
    pub phases: Vec<Phase>,
    /// What recover needs: of the command's own making.
    pub journal: serde_json::Value,
}

impl RunRecord {
    /// Whether another release runs since it ended: one that was deployed, or one that was brought back.
    pub fn changed_what_runs(&self) -> bool {
        self.outcome == Some(Outcome::Done) && (self.command == "guard" || self.brought_back())
    }

    /// Whether it is of the kind that brings the release of `snapshot` back; a deploy takes `snapshot` of the one before.
    pub fn brought_back(&self) -> bool {
        matches!(self.command.as_str(), "restore" | "undo")
    }
}

/// How long a phase took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Phase {
    pub name: String,
    pub milliseconds: u64,
}

/// How a run ended; the `outcome` of every JSON result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    /// Nothing was begun.
    Refused,
    /// Nothing changed.
    Failed,
    /// It failed and everything was put back.
    TakenBack,
    /// A person is needed.
    Stuck,
}
