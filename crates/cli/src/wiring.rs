//! From settings to the concrete store, parts and workload. Nothing else names them together.

mod commands;
mod containers;
mod databases;
mod exported;
mod found;
mod hooks;
mod parts;
mod probed;
mod probes;
mod project;
mod release;
mod service_database;
mod service_tools;
mod store;

pub use containers::Containers;
pub use databases::{address_in, database_settings, server_parts, settings_through};
pub use exported::exported;
pub use found::found;
pub use hooks::Hooks;
pub use parts::images;
pub use probes::{health_at_capture, probes, steady};
pub use project::Project;
pub use release::Release;
pub use store::{open_store, secret};
