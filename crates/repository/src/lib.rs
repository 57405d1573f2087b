//! Snapshots in a store: streams cut into chunks, sealed, shared and found again; leases, verdicts,
//! pins and runs beside them; check, prune and export over them.
//!
//! The repository knows bytes, digests and manifests. It does not know what a database or an image
//! is, never prints, and reads neither environment nor home.

mod error;
mod folder;
mod lease;
mod reader;
mod repository;
mod secret;
mod store;
mod writer;

pub use error::Error;
pub use folder::FolderStore;
pub use lease::{Lease, Purpose as LeasePurpose};
pub use reader::StreamReader;
pub use repository::{Entry, Options, Repository};
pub use secret::Secret;
pub use store::{Listed, Put, Store, StoreError};
pub use writer::{SnapshotWriter, StreamWriter};
