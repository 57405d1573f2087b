use std::collections::BTreeMap;
use std::path::PathBuf;

use backstay_model::{Environment, PartName, Project};

use crate::{Address, Compose, Files, Health, Hooks, OnFailure, OnLoss, Reference, Restore, Span, Workload};

/// What backstay.toml says for one environment: merged, checked, and with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The file itself. It is recorded in snapshots and never replaced.
    pub file: PathBuf,
    /// Its folder: relative paths begin here.
    pub folder: PathBuf,
    pub project: Project,
    pub environment: Environment,
    /// All that are configured. Empty where the project names none.
    pub environments: Vec<Environment>,
    pub production: bool,
    pub repository: RepositorySettings,
    pub databases: BTreeMap<PartName, Database>,
    pub scratch: Option<Address>,
    pub runtime: Runtime,
    pub files: Files,
    pub migrations: Option<Migrations>,
    pub retention: Retention,
    pub health: Vec<Health>,
    pub guard: Guard,
    pub hooks: Hooks,
    pub snapshot: SnapshotSettings,
    pub restore: Restore,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositorySettings {
    pub place: RepositoryPlace,
    pub unlock: Unlock,
    pub lease_wait: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryPlace {
    /// Absolute.
    Folder(PathBuf),
    S3 {
        bucket: String,
        /// Without slashes at its ends; empty for the whole bucket.
        prefix: String,
        endpoint: Option<String>,
        region: Option<String>,
        path_style: bool,
        encryption: Option<BucketEncryption>,
    },
}

/// What the S3 server encrypts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketEncryption {
    Aes256,
    /// With the account's own key, or the named one.
    Kms {
        key: Option<String>,
    },
}

/// What opens the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unlock {
    Key(Reference),
    Passphrase(Reference),
    /// It is not sealed.
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    pub source: DatabaseSource,
    pub standbys: Vec<Address>,
    pub exclude_rows: Vec<String>,
    pub assertions: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseSource {
    Url(Address),
    Service { service: String, dbname: Option<String>, user: Option<String>, password: Option<Reference> },
}

/// What runs on top of the databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runtime {
    Compose(Compose),
    Commands(Workload),
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrations {
    pub source: MigrationSource,
    /// The one that is migrated. Nothing where there is none.
    pub database: Option<PartName>,
    pub on_failure: OnFailure,
    pub lock_timeout: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MigrationSource {
    /// Absolute.
    Folder(PathBuf),
    Command {
        words: Vec<String>,
        url_variable: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    pub keep_last: u32,
    pub keep_within: Span,
    pub hourly: u32,
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
    pub yearly: u32,
    /// A label's name, and its value where that counts.
    pub keep_labels: Vec<(String, Option<String>)>,
    pub min_proven: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    pub on_loss: OnLoss,
    pub timeout: Span,
    pub ready_within: Option<Span>,
    pub settle_window: Span,
    pub recovery_target: Option<Span>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSettings {
    pub prove: bool,
    pub stale_after: Span,
}
