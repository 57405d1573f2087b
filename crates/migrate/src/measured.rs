use std::time::Duration;

use serde::Serialize;

use crate::error::Place;
use crate::lock_mode::LockMode;

/// What one statement of a rehearsal did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Measured {
    #[serde(flatten)]
    pub place: Place,
    pub milliseconds: u64,
    pub locks: Vec<LockTaken>,
    /// How long those locks were held: from the statement to the end of its transaction.
    #[serde(rename = "held_milliseconds", serialize_with = "as_milliseconds")]
    pub held: Option<Duration>,
    pub rewrites: Vec<Rewrite>,
    pub scans: Vec<Scan>,
    pub rows: Vec<RowsChanged>,
    pub wal_bytes: u64,
    /// Sequences that moved; a rollback does not move them back.
    pub sequences: Vec<String>,
    /// Why less is known of this one.
    pub note: Option<String>,
}

/// The strongest lock that a statement took on a relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockTaken {
    pub on: String,
    pub mode: LockMode,
    /// What others cannot do meanwhile.
    pub blocks: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rewrite {
    pub relation: String,
    pub kind: String,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scan {
    pub table: String,
    pub rows: i64,
}

/// Rows written, by the statement itself, by cascades and by triggers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowsChanged {
    pub table: String,
    pub inserted: i64,
    pub updated: i64,
    pub deleted: i64,
}

impl RowsChanged {
    pub fn rows(&self) -> i64 {
        self.inserted + self.updated + self.deleted
    }
}

impl LockTaken {
    pub(crate) fn strongest(on: &str, modes: &[&str]) -> Option<Self> {
        let mode = LockMode::ALL.into_iter().rev().find(|mode| modes.contains(&mode.catalog_name()))?;
        Some(Self { on: on.to_owned(), mode, blocks: mode.blocks() })
    }
}

impl Measured {
    pub(crate) fn new(place: Place, took: Duration) -> Self {
        Self {
            place,
            milliseconds: milliseconds(took),
            locks: Vec::new(),
            held: None,
            rewrites: Vec::new(),
            scans: Vec::new(),
            rows: Vec::new(),
            wal_bytes: 0,
            sequences: Vec::new(),
            note: None,
        }
    }
}

pub(crate) fn milliseconds(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

fn as_milliseconds<S: serde::Serializer>(held: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    held.map(milliseconds).serialize(serializer)
}
