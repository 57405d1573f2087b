use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backstay_model::{Clock, Environment, Listener, Manifest, Root, RunId, RunRecord, SnapshotId, Verdict};

use crate::{Error, Lease, LeasePurpose, Secret, SnapshotWriter, Store, StreamReader};

/// An opened repository. Cheap to clone.
#[derive(Clone)]
pub struct Repository {}

/// How a repository is opened.
#[derive(Clone)]
pub struct Options {
    /// Where lists may be kept between runs. It may be deleted at any time.
    pub cache: Option<PathBuf>,
    pub clock: Arc<dyn Clock>,
    /// This machine's name, for leases and verdicts.
    pub host: String,
}

/// A snapshot as a listing shows it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub manifest: Manifest,
    /// The newest verdict.
    pub verdict: Option<Verdict>,
    pub pinned: bool,
}

impl Entry {
    /// The newest verdict decides.
    pub fn is_proven(&self) -> bool {
        self.verdict.as_ref().is_some_and(|verdict| verdict.judgement.is_good())
    }
}

impl Repository {
    /// Makes a repository in an empty store. `sealed` false stores chunks and metadata in clear; `secret` is then [`Secret::None`].
    pub async fn create(_store: Arc<dyn Store>, _secret: &Secret, _options: Options) -> Result<Self, Error> {
        todo!()
    }

    pub async fn open(_store: Arc<dyn Store>, _secret: &Secret, _options: Options) -> Result<Self, Error> {
        todo!()
    }

    /// Where it lies, for people.
    pub fn location(&self) -> String {
        todo!()
    }

    /// Takes a lease, waiting up to `wait` and telling `listener` for whom.
    pub async fn lease(
        &self,
        _purpose: LeasePurpose,
        _run: &RunId,
        _wait: Duration,
        _listener: &dyn Listener,
    ) -> Result<Lease, Error> {
        todo!()
    }

    /// The snapshots of one environment, or of all, newest first.
    pub async fn list(&self, _environment: Option<&Environment>) -> Result<Vec<Entry>, Error> {
        todo!()
    }

    pub async fn entry(&self, _environment: &Environment, _id: &SnapshotId) -> Result<Entry, Error> {
        todo!()
    }

    /// Begins a snapshot under a lease for writing or changing and reserves its id.
    pub async fn begin(&self, _lease: &Lease, _environment: &Environment) -> Result<SnapshotWriter, Error> {
        todo!()
    }

    pub fn read(&self, _root: &Root) -> StreamReader {
        todo!()
    }

    /// A whole stream at once, refused where it is longer than `limit`.
    pub async fn read_whole(&self, _root: &Root, _limit: u64) -> Result<Vec<u8>, Error> {
        todo!()
    }

    pub async fn pin(&self, _environment: &Environment, _id: &SnapshotId, _why: &str) -> Result<(), Error> {
        todo!()
    }

    pub async fn unpin(&self, _environment: &Environment, _id: &SnapshotId) -> Result<(), Error> {
        todo!()
    }

    pub async fn add_verdict(&self, _verdict: Verdict) -> Result<(), Error> {
        todo!()
    }

    /// Stores or replaces what is known of a run.
    pub async fn put_run(&self, _record: &RunRecord) -> Result<(), Error> {
        todo!()
    }

    /// The runs of an environment, newest first. Those that cannot be read are left out with a warning.
    pub async fn runs(&self, _environment: &Environment) -> Result<Vec<RunRecord>, Error> {
        todo!()
    }
}
