//! Where tests make a run die. Outside tests nothing here does anything.

#[cfg(test)]
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(test)]
tokio::task_local! {
    static FUSE: Arc<Fuse>;
}

/// Counts the places a run can die at, and lets it die at one of them: from there on nothing it
/// sends arrives anywhere.
#[cfg(test)]
pub(crate) struct Fuse {
    burns_at: u64,
    passed: AtomicU64,
}

#[cfg(test)]
impl Fuse {
    /// Runs `work` and lets it die at place `burns_at`, counted from 0. Returns how many places it
    /// came by.
    pub(crate) async fn lit<F: Future>(burns_at: u64, work: F) -> (F::Output, u64) {
        let fuse = Arc::new(Self { burns_at, passed: AtomicU64::new(0) });
        let output = FUSE.scope(Arc::clone(&fuse), work).await;
        (output, fuse.passed.load(Ordering::SeqCst))
    }

    /// Runs `work` whole and counts the places it can die at.
    pub(crate) async fn counted<F: Future>(work: F) -> (F::Output, u64) {
        Self::lit(u64::MAX, work).await
    }

    fn pass(&self, places: u64) -> Option<u64> {
        let before = self.passed.fetch_add(places, Ordering::SeqCst);
        (before + places > self.burns_at).then(|| self.burns_at.saturating_sub(before))
    }
}

/// A place a run can die at.
#[cfg(test)]
pub(crate) fn pass(action: &str, database: &str) -> Result<(), crate::Error> {
    match pass_many(1) {
        Some(_) => Err(crate::Error::query(action, database)(sqlx::Error::WorkerCrashed)),
        None => Ok(()),
    }
}

#[cfg(not(test))]
pub(crate) fn pass(_action: &str, _database: &str) -> Result<(), crate::Error> {
    Ok(())
}

/// Several places at once, such as those within a script that the server runs: the one to die at, if any.
#[cfg(test)]
pub(crate) fn pass_many(places: u64) -> Option<u64> {
    FUSE.try_with(|fuse| fuse.pass(places)).ok().flatten()
}

#[cfg(not(test))]
pub(crate) fn pass_many(_places: u64) -> Option<u64> {
    None
}
