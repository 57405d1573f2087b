//! One Docker Compose project: what runs, keeping its images, stopping it, starting it again.
//!
//! What runs is read from the Engine, by labels and image ids, never from names that can move.
//! Changes to what runs go through `docker compose` itself. This crate refuses to know how a
//! snapshot or a restore is put together, and takes every address, credential and path as a value.

mod anchors;
mod archive;
mod compose_command;
mod connection;
mod containers;
mod drift;
mod engine;
mod error;
mod exec;
mod export;
mod facts;
mod images_part;
mod keep;
mod last_logs;
mod live_names;
mod mask;
mod model;
mod pins;
mod postgres_services;
mod project;
mod relay;
mod settling;
mod sources;
mod watch;
mod workload;

pub use compose_command::ComposeCommand;
pub use connection::{ConnectionSettings, EngineSettings, Tls};
pub use containers::{Container, State};
pub use engine::{Engine, StoreKind};
pub use error::Error;
pub use exec::{Exec, Execution};
pub use export::export;
pub use facts::{ImageFacts, ImagesFacts, ServiceFacts};
pub use images_part::{Availability, ImagesPart};
pub use keep::Keep;
pub use model::Model;
pub use postgres_services::PostgresService;
pub use project::{Project, ProjectSettings};
pub use settling::{Health, Look, Rule, Settled};
pub use sources::Sources;
pub use workload::ComposeWorkload;

#[cfg(test)]
mod engine_tests;
#[cfg(test)]
mod export_tests;
#[cfg(test)]
mod fixture;
