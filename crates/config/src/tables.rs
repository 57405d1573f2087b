//! The tables of backstay.toml as they are written. The comments here are the reference: the
//! schema and `docs/reference/configuration.md` are made of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::probe::HealthTable;
use crate::{Address, KeySource, Reference, Size, Span};

/// Everything that may stand in backstay.toml, save the environments over it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    /// The project's name: lower-case letters, digits, `-` and `_`. It names the folder of this
    /// host's state, and a restore in production asks for it.
    pub project: Option<String>,
    /// Whether customers depend on this: restores ask first, snapshots are proven, and guard does
    /// not take a written database back by itself. Left out, it is true for the environment named
    /// `production` and false otherwise.
    pub production: Option<bool>,
    /// Where snapshots live.
    pub repository: Option<RepositoryTable>,
    /// The databases that belong to the release, by a name of yours.
    #[serde(default)]
    pub database: BTreeMap<String, DatabaseTable>,
    /// Where staged copies are proven, if not on the server they are for.
    pub scratch: Option<ScratchTable>,
    /// The Docker Compose project that runs on top. Goes with `[workload]` not at all.
    pub compose: Option<Compose>,
    /// Anything else that runs on top, reached by three commands of yours.
    pub workload: Option<Workload>,
    /// Configuration files that belong to the release. What a Compose project is made of is taken
    /// in without being named here.
    pub files: Option<Files>,
    /// How the databases' schema is changed.
    pub migrations: Option<MigrationsTable>,
    /// Which snapshots prune keeps: everything that any of these keeps.
    pub retention: Option<RetentionTable>,
    /// What must be so for the release to count as healthy, by a name of yours.
    #[serde(default)]
    pub health: BTreeMap<String, HealthTable>,
    /// How a deploy is guarded.
    pub guard: Option<GuardTable>,
    /// Programs of yours that are told. Each is a list of words; none is run through a shell.
    pub hooks: Option<Hooks>,
    /// How snapshots are taken.
    pub snapshot: Option<SnapshotTable>,
    /// How a restore ends.
    pub restore: Option<Restore>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RepositoryTable {
    /// A folder, or `s3://bucket/prefix`.
    pub url: Option<String>,
    /// What opens the repository: a reference to a key file, or `none` for one that is not sealed.
    pub key: Option<KeySource>,
    /// What opens the repository, if not `key`: a reference to a passphrase.
    pub passphrase: Option<Reference>,
    /// How long to wait for someone else who is at work in the repository. Default `5m`.
    pub lease_wait: Option<Span>,
    /// The address of an S3 server that is not AWS: `https://s3.example.com`.
    pub endpoint: Option<String>,
    /// The region of the bucket. Left out, it is what the AWS configuration of this host says.
    pub region: Option<String>,
    /// Whether the bucket stands in the path instead of the host name. Left out, it does where
    /// there is an `endpoint`.
    pub path_style: Option<bool>,
    /// What the S3 server encrypts with, over Backstay's own sealing: `AES256`, or `aws:kms` or
    /// `aws:kms:KEY` for a key of yours. Left out, it is what the bucket is set to.
    pub encryption: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DatabaseTable {
    /// Where the database is: a reference to its URL, or a URL that holds no password.
    pub url: Option<Address>,
    /// Where the database is, if not `url`: a service of the Compose project.
    pub service: Option<String>,
    /// The database within the service. Left out, it is what the service's environment says.
    pub dbname: Option<String>,
    /// The role to connect as. Left out, it is what the service's environment says.
    pub user: Option<String>,
    /// The role's password. Left out, it is what the service's environment says.
    pub password: Option<Reference>,
    /// The database on standbys of its server, as references to URLs or URLs without a password. Sessions there
    /// outlive a switch and read what was live before, unless they are ended.
    #[serde(default)]
    pub standbys: Vec<Address>,
    /// Tables whose rows are left out of snapshots, as `schema.table`; `*` stands for any letters.
    #[serde(default)]
    pub exclude_rows: Vec<String>,
    /// Queries that must answer `true` on every restored copy before it counts as proven.
    #[serde(default)]
    pub assertions: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScratchTable {
    /// A PostgreSQL server where Backstay may create and drop databases: a reference to its URL, or
    /// a URL that holds no password.
    pub url: Option<Address>,
}

/// The Docker Compose project that runs on top.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Compose {
    /// The Compose files, in order. Left out, Compose finds them itself.
    pub files: Vec<PathBuf>,
    /// The project's name. Left out, Compose finds it itself.
    pub project: Option<String>,
    /// The project's folder. Left out, it is the first file's.
    pub project_folder: Option<PathBuf>,
    /// Profiles that are switched on.
    pub profiles: Vec<String>,
    /// Env files for the Compose files themselves, in order. Left out, Compose takes `.env`.
    pub env_files: Vec<PathBuf>,
    /// How images are kept. Default `auto`.
    pub images: ImageKeeping,
    /// Services that a restore does not stop, besides those of the databases.
    pub keep_running: Vec<String>,
    /// How long services may take to stop. Left out, each service's own grace period counts.
    pub stop_timeout: Option<Span>,
    /// How long services may take to run and be healthy. Default `5m`.
    pub start_timeout: Span,
}

impl Default for Compose {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            project: None,
            project_folder: None,
            profiles: Vec::new(),
            env_files: Vec::new(),
            images: ImageKeeping::default(),
            keep_running: Vec::new(),
            stop_timeout: None,
            start_timeout: Span::from_secs(300),
        }
    }
}

/// How the images of a snapshot are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageKeeping {
    /// On this host, at the registry where that is proven to have them, and otherwise as an archive
    /// in the repository.
    #[default]
    Auto,
    /// Always as an archive in the repository: a restore needs no registry.
    Archive,
    /// On this host and at the registry alone. An image that is not there fails the snapshot.
    Registry,
    /// Not at all: only their names and digests are recorded.
    None,
}

/// Anything that runs on top of the databases and is no Compose project, reached by commands.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// The command that stops everything that writes. Run twice, it must do no harm.
    pub stop: Vec<String>,
    /// The command that starts it again, with the images and files that then are live.
    pub start: Vec<String>,
    /// The command that ends with 0 once it runs. It is repeated until `ready_timeout`.
    pub ready: Vec<String>,
    /// How long `stop` may take. Default `2m`.
    pub stop_timeout: Span,
    /// How long `start` may take. Default `5m`.
    pub start_timeout: Span,
    /// How long it may take until `ready` ends with 0. Default `5m`.
    pub ready_timeout: Span,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            stop: Vec::new(),
            start: Vec::new(),
            ready: Vec::new(),
            stop_timeout: Span::from_secs(120),
            start_timeout: Span::from_secs(300),
            ready_timeout: Span::from_secs(300),
        }
    }
}

/// Configuration files that belong to the release.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// Patterns from the folder of backstay.toml: `*` stays within a folder, `**` does not.
    pub include: Vec<String>,
    /// Patterns of files to leave out again.
    pub exclude: Vec<String>,
    /// More files than this is a mistake, and the snapshot says so.
    pub max_files: u32,
    /// More bytes than this is a mistake, and the snapshot says so. Default `256MiB`.
    pub max_bytes: Size,
}

impl Default for Files {
    fn default() -> Self {
        Self { include: Vec::new(), exclude: Vec::new(), max_files: 10_000, max_bytes: Size::from_mib(256) }
    }
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MigrationsTable {
    /// A folder of SQL files, as sqlx writes them: Backstay runs them itself.
    pub folder: Option<PathBuf>,
    /// The command of another migration tool, if there is no `folder`: a list of words.
    pub command: Option<Vec<String>>,
    /// The environment variable that tells `command` which database to work on. Default
    /// `DATABASE_URL`.
    pub url_variable: Option<String>,
    /// Which of the databases is migrated. Left out, there must be one only.
    pub database: Option<String>,
    /// What follows when a migration failed that could not be rolled back. Left out, it is `ask` in
    /// production and `take_back` otherwise.
    pub on_failure: Option<OnFailure>,
    /// How long one statement waits for a lock before it is tried again. Default `3s`.
    pub lock_timeout: Option<Span>,
}

/// What follows when a migration failed that could not be rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The database is taken back to the snapshot from before.
    TakeBack,
    /// Nothing; the command that takes it back is printed.
    Ask,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetentionTable {
    /// So many of the newest, whatever their age. Default 5.
    pub keep_last: Option<u32>,
    /// All that are younger. Default `7d` for the environments `development`, `dev`, `local` and
    /// `test`, `90d` in production, `30d` otherwise.
    pub keep_within: Option<Span>,
    /// The newest of each of so many hours. Default 0.
    pub hourly: Option<u32>,
    /// The newest of each of so many days. Default 0.
    pub daily: Option<u32>,
    /// The newest of each of so many weeks. Default 0.
    pub weekly: Option<u32>,
    /// The newest of each of so many months. Default 0.
    pub monthly: Option<u32>,
    /// The newest of each of so many years. Default 0.
    pub yearly: Option<u32>,
    /// All that have one of these labels: `name`, or `name=value`.
    pub keep_labels: Option<Vec<String>>,
    /// So many proven ones at least, whatever else is said. Default 1, and never less.
    pub min_proven: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuardTable {
    /// What follows a failed deploy when customers wrote into the database since the snapshot. Left
    /// out, it is `ask` in production and `take_back` otherwise.
    pub on_loss: Option<OnLoss>,
    /// How long the guarded command may take. Default `30m`.
    pub timeout: Option<Span>,
    /// How long the new release may take to become healthy. Left out, `60s`, or six times the longest `timeout` of a
    /// probe where that is more.
    pub ready_within: Option<Span>,
    /// How long the new release must stay healthy before it counts as good. Default `30s`.
    pub settle_window: Option<Span>,
    /// In what time a release should be taken back: `history` compares.
    pub recovery_target: Option<Span>,
}

/// What follows a failed deploy when rows were written since the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLoss {
    /// The database goes back all the same; what was written is kept beside it.
    TakeBack,
    /// Images and files go back where the schema allows it; the proven copy of the database waits
    /// for a person.
    Ask,
}

/// Programs of yours that are told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    /// Before writers are stopped. If it fails, nothing is changed.
    pub before_fence: Vec<String>,
    /// After the workload was started again.
    pub after_start: Vec<String>,
    /// At the end of every run that changes something, with the JSON result on its input.
    pub on_result: Vec<String>,
    /// How long each may take. Default `1m`.
    pub timeout: Span,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { before_fence: Vec::new(), after_start: Vec::new(), on_result: Vec::new(), timeout: Span::from_secs(60) }
    }
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SnapshotTable {
    /// Whether every snapshot is proven as soon as it is taken. Left out, it is in production.
    pub prove: Option<bool>,
    /// When doctor calls the last snapshot, or the last proof, too old. Default `7d`.
    pub stale_after: Option<Span>,
}

/// How a restore ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Restore {
    /// What follows when the restored release is not healthy. Default `revert`.
    pub unhealthy: Unhealthy,
}

/// What follows when a restored release is not healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unhealthy {
    /// What was live before the restore is put back.
    #[default]
    Revert,
    /// The restored release stays.
    Keep,
}
