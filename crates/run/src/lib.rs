//! What every command that changes something shares: its id and surroundings, its journal, and who
//! else may be at work.
//!
//! This crate knows that runs happen and end; it does not know what they do.

mod context;
mod interrupt;

pub use context::Context;
pub use interrupt::Interrupt;
