use serde::Serialize;

/// A proven staged copy that is kept, so that activation needs no load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WarmCopy {
    /// What it is called where it lies.
    pub name: String,
    /// What it is a copy of.
    pub of: String,
    /// What it takes on disk, where that may be known.
    pub bytes: Option<u64>,
    /// The digest of the facts that it was proven equal to.
    pub facts: String,
    /// Somebody opened it, and it is to be proven again before it is used.
    pub open: bool,
}
