//! What tests stand on: private PostgreSQL clusters, a runner for the binary, a clock that is held by
//! hand, a listener that remembers, an S3 server and a proxy that does harm. A dev-dependency only; it
//! may panic, print and read the environment, which nothing else in the workspace may.
#![expect(clippy::expect_used, clippy::print_stderr, reason = "a test that cannot be set up should say so and end")]

mod binary;
mod clock;
mod cluster;
mod contract;
mod listener;
mod proxy;
mod s3;
mod surroundings;

pub use binary::{Backstay, Ran};
pub use clock::ManualClock;
pub use cluster::PrivateCluster;
pub use contract::broken_promises;
pub use listener::Memory;
pub use proxy::{Meddling, Proxy};
pub use s3::{S3_CREDENTIALS, S3Server};
pub use surroundings::{left_out, majors, server_from, wait_until};
