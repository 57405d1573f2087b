//! The two seams of Backstay.
//!
//! A [`Part`] is one kind of thing that can be taken back; a [`Workload`] is what runs on top of the
//! parts and must be quiet while they change. To make one more kind of thing reversible is to write
//! one more `Part`. This crate holds the contracts, and in `fakes` an implementation of each in
//! memory that can be told to fail or to die anywhere.

mod command_workload;
mod contents;
mod error;
mod exported;
#[cfg(feature = "fakes")]
pub mod fakes;
mod part;
mod site;
mod token;
mod warm;
mod workload;

pub use command_workload::{CommandWorkload, TimedCommand};
pub use contents::{Captured, Contents, Recorded, RecordedError};
pub use error::{Error, ErrorKind};
pub use exported::Exported;
pub use part::{Comparison, Part, Proof, Standing};
pub use site::Site;
pub use token::Token;
pub use warm::WarmCopy;
pub use workload::{Condition, NoWorkload, Workload};
