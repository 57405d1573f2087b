//! Takes a release back: a two-phase commit over parts, and what ends it when it dies half-way.
//!
//! Read in order, the files tell the story: `plan`, `stage`, `fence`, `activate`, `probe`, `revert`,
//! `settle`, `undo`, `recover`. Everything before the fence leaves production serving; everything
//! after it is short, survives a lost terminal, and was in the journal before it was done.
//!
//! This crate knows parts and workloads by their contracts alone; it does not know what a database,
//! an image or a file is.

mod plan;
mod stage;

mod activate;
mod fence;
mod probe;
mod revert;

mod recover;
mod settle;
mod undo;

mod course;
mod error;
mod execute;
mod status;
mod way;

pub use course::{Choices, Restored};
pub use error::Error;
pub use execute::execute;
pub use plan::{Depth, Plan, Source, Wish, plan};
pub use recover::{Ending, Recovered, recover};
pub use settle::{Settled, settle};
pub use status::{Kept, Running, Status, history, status};
pub use undo::{UndoPlan, loss_of_undo, newest_kept, plan_undo, undo};
pub use way::{InTheWay, in_the_way};

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod ground;
#[cfg(test)]
mod repeat_tests;
#[cfg(test)]
mod restore_tests;
