//! Snapshots in a store: streams cut into chunks, sealed, shared and found again; leases, verdicts,
//! pins and runs beside them; check, prune and export over them.
//!
//! The repository knows bytes, digests and manifests. It does not know what a database or an image
//! is, never prints, and reads neither environment nor home.

mod cache;
mod check;
mod chunk;
mod claim;
mod description;
mod diff;
mod error;
mod export;
mod folder;
mod key;
mod keyring;
mod lease;
mod listing;
mod names;
mod patient;
mod phrase;
mod present;
mod prune;
mod reach;
mod reader;
mod records;
mod repository;
mod retention;
mod reuse;
mod seal;
mod secret;
mod session;
mod store;
mod task;
mod writer;

pub use check::{CheckReport, check_without_key};
pub use diff::Change;
pub use error::{Damage, Error, Flaw};
pub use export::{ExportContent, ExportEntry, ExportPiece, ExportWriter};
pub use folder::FolderStore;
pub use key::{KeyKind, generate_key_file};
pub use keyring::{KeyEntry, generate_recovery_phrase};
pub use lease::{Lease, LeaseTerms, Purpose as LeasePurpose};
pub use listing::Listing;
pub use prune::Pruned;
pub use reader::StreamReader;
pub use records::Entry;
pub use repository::{Options, Repository};
pub use retention::{Candidate, Decision, Fate, Policy, Protected, PrunePlan, plan_prune};
pub use secret::Secret;
pub use store::{Creation, Listed, Put, Store, StoreError};
pub use writer::{SnapshotWriter, StreamWriter};

#[cfg(any(test, feature = "fakes"))]
mod conformance;
#[cfg(any(test, feature = "fakes"))]
mod faulty;
#[cfg(any(test, feature = "fakes"))]
mod late;
#[cfg(any(test, feature = "fakes"))]
mod memory;
#[cfg(any(test, feature = "fakes"))]
pub use conformance::{Allowances, conformance};
#[cfg(any(test, feature = "fakes"))]
pub use faulty::{Fault, FaultyStore};
#[cfg(any(test, feature = "fakes"))]
pub use late::LateStore;
#[cfg(any(test, feature = "fakes"))]
pub use memory::MemoryStore;

#[cfg(test)]
mod cache_tests;
#[cfg(test)]
mod crowd_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod lease_tests;
#[cfg(test)]
mod listing_tests;
#[cfg(test)]
mod memory_tests;
#[cfg(test)]
mod opening_tests;
#[cfg(test)]
mod pause_tests;
#[cfg(test)]
mod prune_tests;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod trial;
