use std::collections::BTreeMap;

use backstay_model::{PartKind, PartName, PartRecord, Root};
use backstay_repository::{Repository, SnapshotWriter};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The named streams of a part, as capture wrote them.
pub type Contents = BTreeMap<String, Root>;

/// What capture returns: the streams it wrote, and what it observed.
#[derive(Debug, Clone)]
pub struct Captured {
    pub contents: Contents,
    /// Two captures of the same state give equal facts, but for what stands under a key `moment`,
    /// at any depth: what differs although nothing changed belongs there.
    pub facts: serde_json::Value,
    /// One line for a person: `2 databases, 41 tables, 1,204 rows`.
    pub summary: String,
    /// What belongs to this part and is not in the snapshot, in words for a person.
    pub not_covered: Vec<String>,
}

/// A part as a snapshot recorded it, read from the repository once.
#[derive(Clone)]
pub struct Recorded {
    pub record: PartRecord,
    pub contents: Contents,
    pub facts: serde_json::Value,
    pub repository: Repository,
}

/// Facts and lists of streams larger than this are not ours.
const FACTS_BYTES_MAX: u64 = 1 << 30;

impl Recorded {
    /// Reads what a manifest's record points to.
    pub async fn open(repository: &Repository, record: &PartRecord) -> Result<Self, RecordedError> {
        Ok(Self {
            contents: read(repository, record, &record.contents).await?,
            facts: read(repository, record, &record.facts).await?,
            record: record.clone(),
            repository: repository.clone(),
        })
    }

    /// What tells this capture from every other.
    pub fn facts_digest(&self) -> String {
        self.record.facts.digest.to_string()
    }

    /// The facts in the part's own type.
    pub fn facts<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_value(self.facts.clone())
    }
}

impl Captured {
    pub fn new<T: Serialize>(contents: Contents, facts: &T, summary: String) -> Result<Self, serde_json::Error> {
        Ok(Self { contents, facts: serde_json::to_value(facts)?, summary, not_covered: Vec::new() })
    }

    /// Writes the facts and the list of streams, and returns what a manifest says of the part.
    pub async fn record(
        &self,
        writer: &SnapshotWriter,
        name: &PartName,
        kind: PartKind,
    ) -> Result<PartRecord, RecordedError> {
        let parse = |source| RecordedError::Parse { part: name.clone(), source };
        let written = |source| RecordedError::Write { part: name.clone(), source };
        let contents = serde_json::to_vec(&self.contents).map_err(parse)?;
        let facts = serde_json::to_vec(&self.facts).map_err(parse)?;
        Ok(PartRecord {
            name: name.clone(),
            kind,
            contents: writer.bytes(contents).await.map_err(written)?,
            facts: writer.bytes(facts).await.map_err(written)?,
            bytes: self.bytes(),
            summary: self.summary.clone(),
        })
    }

    /// The total length of the named streams.
    pub fn bytes(&self) -> u64 {
        self.contents.values().map(|root| root.bytes).sum()
    }
}

/// Why what a snapshot holds of a part cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordedError {
    #[error("cannot read what the snapshot holds of {part}")]
    Read {
        part: PartName,
        #[source]
        source: backstay_repository::Error,
    },
    #[error("cannot write what the snapshot holds of {part}")]
    Write {
        part: PartName,
        #[source]
        source: backstay_repository::Error,
    },
    #[error("what the snapshot holds of {part} is not readable as JSON")]
    Parse {
        part: PartName,
        #[source]
        source: serde_json::Error,
    },
}

async fn read<T: DeserializeOwned>(
    repository: &Repository,
    record: &PartRecord,
    root: &Root,
) -> Result<T, RecordedError> {
    let part = || record.name.clone();
    let bytes = repository
        .read_whole(root, FACTS_BYTES_MAX)
        .await
        .map_err(|source| RecordedError::Read { part: part(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| RecordedError::Parse { part: part(), source })
}
