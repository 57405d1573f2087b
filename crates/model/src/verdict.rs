use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Environment, ObjectId, RunId, SnapshotId};

/// What an examination of a snapshot found. The newest one decides whether it counts as proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub environment: Environment,
    pub snapshot: SnapshotId,
    pub examination: Examination,
    pub judgement: Judgement,
    pub at: DateTime<Utc>,
    pub run: RunId,
    pub host: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Examination {
    /// Stored bytes were read and their digests compared.
    Check,
    /// The snapshot was restored into scratch and compared with its facts.
    Prove,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    Good,
    /// Objects that are missing or not what they were: no later snapshot may reuse them.
    Damaged {
        objects: Vec<ObjectId>,
        findings: Vec<String>,
    },
    /// All bytes are there and do not give back what was captured.
    DoesNotProve {
        findings: Vec<String>,
    },
}

impl Judgement {
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Good)
    }
}
