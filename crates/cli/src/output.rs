//! How results and progress look.

pub mod amounts;
mod plan;
mod printer;
mod progress;
mod screen;
mod table;

pub use plan::{loss_text, plan_text};
pub use printer::Printer;
pub use progress::Progress;
pub use table::table;
