//! From settings to the concrete store, parts and workload. Nothing else names them together.

mod databases;
mod found;
mod parts;
mod project;
mod release;
mod store;

pub use found::found;
pub use project::Project;
pub use release::Release;
pub use store::{open_store, secret};
