use backstay_model::{Environment, ObjectId, SnapshotId};
use thiserror::Error;

use crate::StoreError;

/// What a repository could not do.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot read or write {subject} in the repository")]
    Store {
        subject: String,
        #[source]
        source: StoreError,
    },
    #[error("there is no repository in {location}")]
    NotARepository { location: String },
    #[error("there is a repository in {location} already")]
    AlreadyARepository { location: String },
    #[error("the repository in {location} has format {found}; this version knows up to {known}")]
    NewerFormat { location: String, found: u64, known: u64 },
    #[error("the key does not open the repository in {location}")]
    WrongKey { location: String },
    #[error("the repository in {location} is sealed and no key was given")]
    KeyMissing { location: String },
    #[error("a key was given for the repository in {location}, which is not sealed")]
    NotSealed { location: String },
    #[error("the key file is too short to be safe: it needs at least 16 characters")]
    WeakKey,
    #[error("the recovery phrase has a mistake in group {group}")]
    RecoveryPhrase { group: usize },
    #[error("{id} is the only key of the repository in {location}")]
    LastKey { location: String, id: String },
    #[error("there is no key {id} in the repository in {location}")]
    NoSuchKey { location: String, id: String },
    #[error("there is no snapshot {id} of {environment}")]
    NoSuchSnapshot { environment: Environment, id: SnapshotId },
    #[error("{0}")]
    Damaged(Box<Damage>),
    #[error("{holder} holds the repository")]
    Held { holder: String },
    #[error("the lease of this run no longer stands")]
    LeaseLost,
    #[error("a lease to {purpose} does not allow to {action}")]
    LeaseTooNarrow { purpose: String, action: &'static str },
    #[error("the run began {hours} hours ago and may no longer commit a snapshot")]
    RunTooOld { hours: u64 },
    #[error("the manifest is of {found}, and this snapshot is {wanted}")]
    OtherManifest { found: String, wanted: String },
    #[error("snapshot {id} of {environment} was written by somebody else")]
    SnapshotTaken { environment: Environment, id: SnapshotId },
    #[error("the list of streams of {part} cannot be read")]
    Contents {
        part: backstay_model::PartName,
        #[source]
        source: serde_json::Error,
    },
    #[error("a stream of {bytes} bytes is longer than {limit}")]
    TooLong { bytes: u64, limit: u64 },
    #[error("cannot write {subject} as JSON")]
    Encode {
        subject: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the policy would remove every snapshot of {environment}")]
    WouldRemoveEverything { environment: Environment },
    #[error("cannot write {subject}")]
    Output {
        subject: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{action} stopped before it ended")]
    Stopped { action: &'static str },
}

/// Stored bytes that are missing or not what they were, and whom that hurts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The store's key of what is damaged.
    pub key: String,
    pub flaw: Flaw,
    /// The object, where it is one.
    pub object: Option<ObjectId>,
    /// The snapshots that need it, as far as they are known.
    pub snapshots: Vec<(Environment, SnapshotId)>,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` {}", self.key, self.flaw)?;
        for (place, (environment, id)) in self.snapshots.iter().enumerate() {
            let before = if place == 0 { "; it hurts" } else { "," };
            write!(f, "{before} {environment}/{id}")?;
        }
        Ok(())
    }
}

/// In which way stored bytes are not what they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Flaw {
    #[error("is missing")]
    Missing,
    #[error("is too short to be whole")]
    Short,
    #[error("does not have the digest it was stored with")]
    Digest,
    #[error("was not sealed with this repository's key")]
    Seal,
    #[error("does not unpack")]
    Packing,
    #[error("holds other bytes than its name says")]
    Identity,
    #[error("does not give back the stream that was recorded")]
    Stream,
    #[error("cannot be understood")]
    Meaning,
}

impl Error {
    pub(crate) fn store(subject: impl Into<String>) -> impl FnOnce(StoreError) -> Self {
        let subject = subject.into();
        move |source| Self::Store { subject, source }
    }

    pub(crate) fn damaged(key: impl Into<String>, flaw: Flaw, object: Option<ObjectId>) -> Self {
        Self::Damaged(Box::new(Damage { key: key.into(), flaw, object, snapshots: Vec::new() }))
    }

    /// The damage, where this error is about one.
    pub fn damage(&self) -> Option<&Damage> {
        match self {
            Self::Damaged(damage) => Some(damage),
            _ => None,
        }
    }
}
