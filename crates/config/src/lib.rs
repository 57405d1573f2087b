//! backstay.toml in, validated settings out.
//!
//! This crate knows every key, its default and its meaning, how environments are laid over the rest,
//! and where secrets are to be had. It does not read the process's environment, its home or its
//! arguments, opens no connection, and never shows a value that may be secret.

mod amount;
mod dotenv;
mod error;
mod health;
mod key;
mod load;
mod overlay;
mod places;
mod probe;
mod reference;
mod schema;
mod settings;
mod shape;
mod state;
mod tables;
mod template;
mod validate;

pub use amount::{Size, Span};
pub use error::{Error, Problem};
pub(crate) use key::KeySource;
pub use load::{FILE_NAME, environments, find, load, parse};
pub use probe::{HeaderValue, Health, Probe};
pub use reference::{Address, Reference, Surroundings};
pub use schema::schema;
pub use settings::{
    BucketEncryption, Database, DatabaseSource, Guard, MigrationSource, Migrations, RepositoryPlace,
    RepositorySettings, Retention, Runtime, Settings, SnapshotSettings, Unlock,
};
pub use state::{Home, project_folder, state_folder};
pub use tables::{Compose, Files, Hooks, ImageKeeping, OnFailure, OnLoss, Restore, Unhealthy, Workload};
pub use template::{Found, FoundCompose, FoundDatabase, FoundMigrations, FoundSource, template};

#[cfg(test)]
mod config_tests;
#[cfg(test)]
mod reference_page_tests;
