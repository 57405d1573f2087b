use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Environment, PartName, Project, Root, RunId, SnapshotId};

/// The label that says how healthy the release was when its snapshot was taken.
pub const HEALTH_LABEL: &str = "health";
/// What that label says of a release in which nothing failed.
pub const HEALTHY: &str = "healthy";

/// What a snapshot is: small, written last, never rewritten. A snapshot exists if and only if its
/// manifest does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub id: SnapshotId,
    pub project: Project,
    pub environment: Environment,
    pub purpose: Purpose,
    /// When the capture began.
    pub taken_at: DateTime<Utc>,
    /// When the manifest was written.
    pub committed_at: DateTime<Utc>,
    pub run: RunId,
    pub origin: Origin,
    pub labels: BTreeMap<String, String>,
    pub parts: Vec<PartRecord>,
    /// What belongs to the release and is not in the snapshot, in words for a person.
    pub not_covered: Vec<String>,
}

impl Manifest {
    pub fn part(&self, name: &PartName) -> Option<&PartRecord> {
        self.parts.iter().find(|part| part.name == *name)
    }

    /// The size of everything recorded, before compression and sharing.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// Why a snapshot was taken. `latest` and `before-deploy` never mean a safety snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Somebody asked for it.
    Deliberate,
    /// Taken by `guard` before the command it guards.
    BeforeDeploy,
    /// Holds what a restore replaced, so that letting go of it loses nothing.
    Safety,
}

/// Where a snapshot comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Origin {
    pub host: String,
    /// The version of Backstay that wrote it.
    pub version: String,
    pub git_commit: Option<String>,
    /// The pipeline job, where the machine says that it runs one.
    pub job: Option<String>,
}

/// The kinds of parts there are; the words of `--only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    Database,
    Images,
    Files,
}

impl PartKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Images => "images",
            Self::Files => "files",
        }
    }
}

/// What a manifest says of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRecord {
    pub name: PartName,
    pub kind: PartKind,
    /// The part's named streams: a JSON object from name to `Root`, itself a stream.
    pub contents: Root,
    /// What capture observed: JSON of the part's own making, itself a stream.
    pub facts: Root,
    /// The total length of the named streams.
    pub bytes: u64,
    /// One line for a person: `2 databases, 41 tables, 1,204 rows`.
    pub summary: String,
}
