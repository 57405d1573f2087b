use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One file, link or folder as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// From the root, or absolute where it lies elsewhere.
    pub path: String,
    pub what: What,
    pub mode: u32,
    pub owner: u32,
    pub group: u32,
    pub modified: Modified,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Modified {
    pub seconds: i64,
    pub nanoseconds: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    File {
        bytes: u64,
        /// SHA-256 of the content.
        digest: String,
        /// Of an env file: a digest of every value, by name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keys: Option<BTreeMap<String, String>>,
    },
    Link {
        target: String,
    },
    Folder,
}

impl Entry {
    /// Whether two are the same kind of thing with the same content and rights. The owner is left out:
    /// who is not root cannot give files away, and yet must see that a switch was made.
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (&self.what, &other.what) {
            (What::Link { target: a }, What::Link { target: b }) => a == b,
            (What::File { digest: a, .. }, What::File { digest: b, .. }) => a == b && self.mode == other.mode,
            (What::Folder, What::Folder) => true,
            _ => false,
        }
    }

    /// The same, and of the same owner.
    pub(crate) fn identical(&self, other: &Self) -> bool {
        let owned = |entry: &Self| (entry.owner, entry.group);
        let is_file = matches!(self.what, What::File { .. });
        self.same(other) && (!is_file || owned(self) == owned(other))
    }

    pub(crate) fn bytes(&self) -> u64 {
        match self.what {
            What::File { bytes, .. } => bytes,
            _ => 0,
        }
    }

    pub(crate) fn is_folder(&self) -> bool {
        self.what == What::Folder
    }

    /// A line for a person, without content.
    pub(crate) fn described(&self) -> String {
        match &self.what {
            What::File { bytes, .. } => {
                format!("{bytes} bytes, mode {:04o}, owner {}:{}", self.mode, self.owner, self.group)
            }
            What::Link { target } => format!("a link to {target}"),
            What::Folder => "a folder".to_owned(),
        }
    }
}

/// What capture observed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub root: String,
    /// The patterns that were in force: what they would have found was not there.
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    /// Recorded and never replaced: Backstay's own configuration.
    pub only_recorded: Vec<String>,
    /// Sorted by path.
    pub entries: Vec<Entry>,
}

impl Facts {
    pub(crate) fn is_replaced(&self, path: &str) -> bool {
        !self.only_recorded.iter().any(|own| own == path)
    }
}

/// What a path should be, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Absent,
    There(Entry),
}

impl State {
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Absent, Self::Absent) => true,
            (Self::There(a), Self::There(b)) => a.same(b),
            _ => false,
        }
    }

    pub(crate) fn identical(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::There(a), Self::There(b)) => a.identical(b),
            _ => self.same(other),
        }
    }
}
