//! Guard a deploy: snapshot, run the command, look, and take back what went wrong.
//!
//! This crate knows the order and the judgement. How a part is taken back is `restore`'s affair, and
//! what healthy means is `health`'s. It never prints.

mod command;
mod decide;
mod error;
mod fence;
mod guard;

pub use decide::{Decision, Ended, OnLoss, Situation, decide};
pub use error::Error;
pub use guard::{Deploy, Guarded, guard};
