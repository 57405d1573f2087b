//! Captures every part of a release under one id, proves that a snapshot restores, and writes it as an archive
//! for those who have no Backstay.
//!
//! This crate knows parts and the repository by their traits and contracts alone; it does not know
//! what a database, an image or a file is.

mod capture;
mod error;
mod export;
mod prove;
mod take;
mod unchanged;

pub use error::Error;
pub use export::{ExportedPart, export, export_name};
pub use prove::{Proven, prove};
pub use take::{SnapshotRequest, Taken, preflight, take};

#[cfg(test)]
mod snapshot_tests;
