use backstay_model::{Manifest, Root, SnapshotId};
use bytes::Bytes;

use crate::Error;

/// A snapshot in the making. It exists for nobody until [`SnapshotWriter::commit`] returns. Cheap to clone;
/// streams may be written side by side.
#[derive(Clone)]
pub struct SnapshotWriter {}

impl SnapshotWriter {
    /// The reserved id: greater than every snapshot's of the environment.
    pub fn id(&self) -> &SnapshotId {
        todo!()
    }

    /// Begins a stream. Dropping the writer before `finish` abandons it.
    pub fn stream(&self) -> StreamWriter {
        todo!()
    }

    /// Stores a small stream at once.
    pub async fn bytes(&self, _bytes: Vec<u8>) -> Result<Root, Error> {
        todo!()
    }

    /// Bytes written to the store by this snapshot so far.
    pub fn bytes_stored(&self) -> u64 {
        todo!()
    }

    /// Makes everything durable, checks that what it reuses is still to be had, and writes the manifest
    /// last. Refuses when the lease no longer stands or the run is too old.
    pub async fn commit(&self, _manifest: Manifest) -> Result<Manifest, Error> {
        todo!()
    }
}

/// One stream in the making.
pub struct StreamWriter {}

impl StreamWriter {
    pub async fn push(&mut self, _bytes: Bytes) -> Result<(), Error> {
        todo!()
    }

    pub async fn finish(self) -> Result<Root, Error> {
        todo!()
    }
}
