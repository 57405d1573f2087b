//! How results and progress look.

pub mod amounts;
mod printer;
mod progress;
mod table;

pub use printer::Printer;
pub use progress::Progress;
pub use table::table;
