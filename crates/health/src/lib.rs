//! Whether a release is healthy: probes that look, and the rule that turns what they saw into a
//! verdict of three values.
//!
//! A probe answers for one moment; the rule answers for a window. This crate knows nothing of
//! snapshots and restores, and never prints.

mod container;
mod database;
mod probe;
mod rule;
mod verdict;
mod watch;

pub use container::{ContainerAsk, LogAsk, SteadyAsk};
pub use database::DatabaseAsk;
pub use probe::{Ask, Expectation, Kind, Look, Probe, Seen};
pub use rule::Rule;
pub use verdict::{Row, Standing, Verdict, judge};
pub use watch::{Baseline, at_capture, look_once, watch};

#[cfg(test)]
mod probe_tests;
