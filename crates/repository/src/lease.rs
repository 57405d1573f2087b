use backstay_model::Environment;

/// A standing claim on the repository, renewed by heartbeat until it is released or dropped.
#[derive(Debug)]
pub struct Lease {}

/// What a lease is for. Writers share with writers and readers; prune excludes all of them; of
/// runs that change what an environment runs there is one at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    Read,
    Write,
    Change(Environment),
    Prune,
}

impl Lease {
    /// Lets go. Dropping does the same where it can, without knowing whether it worked.
    pub async fn release(self) {
        todo!()
    }

    /// Whether the lease still stands: it was renewed in time and nobody took it over.
    pub fn stands(&self) -> bool {
        todo!()
    }
}
