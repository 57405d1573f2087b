//! What every command that changes something shares: its id and surroundings, its journal, its
//! record in the repository, and who else may be at work.
//!
//! This crate knows that runs happen and end; it does not know what they do.

mod context;
mod error;
#[cfg(any(test, feature = "fakes"))]
pub mod fakes;
mod interrupt;
mod journal;
mod journals;
mod line;
mod run;
mod unfinished;

pub use context::Context;
pub use error::Error;
pub use interrupt::Interrupt;
pub use journal::{Entry, Journal, Mark, Steps};
pub use journals::{Journals, Opened};
pub use run::{BEGIN, Beginning, Claim, END, FENCED, GUARDED, Run};
pub use unfinished::{Unfinished, unfinished};
