use std::fmt;

use serde::{Serialize, Serializer};

/// PostgreSQL's locks on relations, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockMode {
    AccessShare,
    RowShare,
    RowExclusive,
    ShareUpdateExclusive,
    Share,
    ShareRowExclusive,
    Exclusive,
    AccessExclusive,
}

impl LockMode {
    pub const ALL: [Self; 8] = [
        Self::AccessShare,
        Self::RowShare,
        Self::RowExclusive,
        Self::ShareUpdateExclusive,
        Self::Share,
        Self::ShareRowExclusive,
        Self::Exclusive,
        Self::AccessExclusive,
    ];

    /// As `LOCK TABLE … IN … MODE` says it.
    pub fn words(self) -> &'static str {
        match self {
            Self::AccessShare => "ACCESS SHARE",
            Self::RowShare => "ROW SHARE",
            Self::RowExclusive => "ROW EXCLUSIVE",
            Self::ShareUpdateExclusive => "SHARE UPDATE EXCLUSIVE",
            Self::Share => "SHARE",
            Self::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
            Self::Exclusive => "EXCLUSIVE",
            Self::AccessExclusive => "ACCESS EXCLUSIVE",
        }
    }

    pub(crate) fn from_words(words: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.words() == words)
    }

    /// As `pg_locks` names it.
    pub(crate) fn catalog_name(self) -> &'static str {
        match self {
            Self::AccessShare => "AccessShareLock",
            Self::RowShare => "RowShareLock",
            Self::RowExclusive => "RowExclusiveLock",
            Self::ShareUpdateExclusive => "ShareUpdateExclusiveLock",
            Self::Share => "ShareLock",
            Self::ShareRowExclusive => "ShareRowExclusiveLock",
            Self::Exclusive => "ExclusiveLock",
            Self::AccessExclusive => "AccessExclusiveLock",
        }
    }

    /// What others cannot do while it is held.
    pub fn blocks(self) -> &'static str {
        match self {
            Self::AccessShare | Self::RowShare => "only what needs the table for itself",
            Self::RowExclusive => "building indexes and changing the table",
            Self::ShareUpdateExclusive => "vacuum and changing the table",
            Self::Share | Self::ShareRowExclusive => "all writes",
            Self::Exclusive => "all writes and locking reads",
            Self::AccessExclusive => "everything, reads included",
        }
    }

    /// Whether one session waits for this while another holds `other`.
    pub fn conflicts_with(self, other: Self) -> bool {
        let weakest = match self {
            Self::AccessShare => Self::AccessExclusive,
            Self::RowShare => Self::Exclusive,
            Self::RowExclusive => Self::Share,
            Self::ShareUpdateExclusive => Self::ShareUpdateExclusive,
            // It agrees with itself and no other of its strength.
            Self::Share => {
                return other != Self::Share && other >= Self::RowExclusive;
            }
            Self::ShareRowExclusive => Self::RowExclusive,
            Self::Exclusive => Self::RowShare,
            Self::AccessExclusive => Self::AccessShare,
        };
        other >= weakest
    }

    /// The catalog's names of all modes that this one waits for.
    pub(crate) fn waits_for(self) -> Vec<&'static str> {
        Self::ALL.into_iter().filter(|other| self.conflicts_with(*other)).map(Self::catalog_name).collect()
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl Serialize for LockMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.words())
    }
}
