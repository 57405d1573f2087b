//! The store of a repository in an S3 bucket. The only crate that names the AWS SDK.
//!
//! It knows buckets, keys and bytes, and how S3 servers fail; what the bytes mean it does not know.
//! Credentials come from the SDK's own chain alone.

mod error;
mod multipart;
mod probe;
mod retry;
mod store;

pub use error::S3Error;
pub use store::{Encryption, Place, S3Store};

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod scripted_tests;
#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod trial;
