//! The configuration files of a release as a part: Compose files, env files, and whatever patterns
//! mean.
//!
//! Files are recorded as one tar stream with rights, owner and time; links are recorded and never
//! followed. They are put back by writing beside and renaming, and what they replace is kept. This
//! crate does not know what stands in the files, save the names in env files; which files a Compose
//! project is made of it is told.

mod archive;
mod difference;
mod disk;
mod entry;
mod envfile;
mod error;
mod export;
mod folder;
mod layout;
mod observe;
mod part;
mod recorded;
mod selection;
mod staging;
mod stream;
mod switch;

pub use error::Error;
pub use export::export;
pub use part::FilesPart;
pub use recorded::recorded_file;
pub use selection::Selection;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod files_tests;
#[cfg(test)]
mod part_tests;
