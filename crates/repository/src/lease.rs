use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use backstay_model::Environment;

/// A standing claim on the repository, renewed by heartbeat until it is released or dropped.
#[derive(Debug)]
pub struct Lease {
    pub(crate) purpose: Purpose,
    standing: Standing,
}

/// What a lease is for. Writers share with writers and readers; prune excludes all of them; of
/// runs that change what an environment runs there is one at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    Read,
    Write,
    Change(Environment),
    Prune,
}

/// Whether a lease stands, for those that work under it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    lost: Arc<AtomicBool>,
}

impl Standing {
    pub(crate) fn stands(&self) -> bool {
        !self.lost.load(Ordering::SeqCst)
    }
}

impl Lease {
    pub(crate) fn new(purpose: Purpose) -> Self {
        Self { purpose, standing: Standing::default() }
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// Lets go. Dropping does the same where it can, without knowing whether it worked.
    pub async fn release(self) {}

    /// Whether the lease still stands: it was renewed in time and nobody took it over.
    pub fn stands(&self) -> bool {
        self.standing.stands()
    }
}
