//! From a document that has the right shape to settings that make sense.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use backstay_model::{Environment, PartName, Project};

use crate::overlay::{S3_KEYS, is_s3};
use crate::settings::{
    BucketEncryption, Database, DatabaseSource, Guard, MigrationSource, Migrations, RepositoryPlace,
    RepositorySettings, Retention, Runtime, Settings, SnapshotSettings, Unlock,
};
use crate::tables::{DatabaseTable, Document, GuardTable, MigrationsTable, RepositoryTable, RetentionTable};
use crate::{KeySource, OnFailure, OnLoss, Problem, Span, health};

/// Where the settings come from and which were asked for.
pub(crate) struct Origin {
    pub file: PathBuf,
    pub folder: PathBuf,
    pub environment: Environment,
    pub environments: Vec<Environment>,
}

/// Collects what is wrong, so that one look at the messages is enough.
#[derive(Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn add(&mut self, key: impl Into<String>, what: impl Into<String>) {
        self.0.push(Problem { key: key.into(), line: None, what: what.into(), suggestion: None });
    }

    pub(crate) fn into_inner(self) -> Vec<Problem> {
        self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Nothing where problems were added.
pub(crate) fn settings(document: Document, origin: Origin, problems: &mut Problems) -> Option<Settings> {
    let production = document.production.unwrap_or(origin.environment.as_str() == "production");
    let project = project(document.project.as_deref(), problems);
    let repository = repository(document.repository.unwrap_or_default(), &origin.folder, problems);
    let databases = databases(document.database, document.compose.is_some(), problems);
    let migrations =
        document.migrations.and_then(|table| migrations(table, &databases, production, &origin.folder, problems));
    let scratch = document.scratch.and_then(|scratch| {
        if scratch.url.is_none() {
            problems.add("scratch.url", "is missing");
        }
        scratch.url
    });
    let health = health::probes(document.health, &databases, document.compose.is_some(), problems);
    let runtime = match (document.compose, document.workload) {
        (Some(compose), _) => Runtime::Compose(compose),
        (None, Some(workload)) => commands(workload, problems),
        (None, None) => Runtime::Nothing,
    };
    let settings = Settings {
        project: project?,
        repository: repository?,
        production,
        databases,
        scratch,
        runtime,
        files: document.files.unwrap_or_default(),
        migrations,
        retention: retention(document.retention.unwrap_or_default(), &origin.environment, production, problems),
        health,
        guard: guard(&document.guard.unwrap_or_default(), production),
        hooks: document.hooks.unwrap_or_default(),
        snapshot: document.snapshot.map_or(
            SnapshotSettings { prove: production, stale_after: Span::from_days(7) },
            |table| SnapshotSettings {
                prove: table.prove.unwrap_or(production),
                stale_after: table.stale_after.unwrap_or(Span::from_days(7)),
            },
        ),
        restore: document.restore.unwrap_or_default(),
        file: origin.file,
        folder: origin.folder,
        environment: origin.environment,
        environments: origin.environments,
    };
    problems.is_empty().then_some(settings)
}

fn project(name: Option<&str>, problems: &mut Problems) -> Option<Project> {
    let Some(name) = name else {
        problems.add("project", "is missing: name the project");
        return None;
    };
    match name.parse() {
        Ok(project) => Some(project),
        Err(_) => {
            problems.add("project", "wants lower-case letters, digits, `-` and `_`, at most 63 of them");
            None
        }
    }
}

fn repository(table: RepositoryTable, folder: &Path, problems: &mut Problems) -> Option<RepositorySettings> {
    let unlock = match (&table.key, &table.passphrase) {
        (Some(KeySource::Reference(key)), _) => Some(Unlock::Key(key.clone())),
        (Some(KeySource::None), _) => Some(Unlock::Nothing),
        (None, Some(passphrase)) => Some(Unlock::Passphrase(passphrase.clone())),
        (None, None) => {
            let what = "is missing: refer to a key file, or say \"none\" for a repository that is not sealed";
            problems.add("repository.key", what);
            None
        }
    };
    let lease_wait = table.lease_wait.unwrap_or(Span::from_secs(300));
    let place = match &table.url {
        None => {
            problems.add("repository.url", "is missing: a folder, or s3://bucket/prefix");
            None
        }
        Some(url) if is_s3(url) => bucket(&url.clone(), table, problems),
        Some(url) => local(url, &table, folder, problems),
    };
    Some(RepositorySettings { place: place?, unlock: unlock?, lease_wait })
}

fn local(url: &str, table: &RepositoryTable, folder: &Path, problems: &mut Problems) -> Option<RepositoryPlace> {
    let given =
        [table.endpoint.is_some(), table.region.is_some(), table.path_style.is_some(), table.encryption.is_some()];
    for (name, _) in S3_KEYS.iter().zip(given).filter(|(_, given)| *given) {
        problems.add(format!("repository.{name}"), "goes with an s3:// repository alone");
    }
    let path = url.strip_prefix("file://").unwrap_or(url);
    if path.is_empty() || path.contains("://") || path.starts_with("~/") {
        problems.add("repository.url", "wants a folder, or s3://bucket/prefix");
        return None;
    }
    Some(RepositoryPlace::Folder(folder.join(path)))
}

fn bucket(url: &str, table: RepositoryTable, problems: &mut Problems) -> Option<RepositoryPlace> {
    let rest = url.trim_start_matches("s3://");
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_matches('/');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let odd = prefix.split('/').any(|piece| piece == "." || piece == "..") || prefix.contains("//");
    if bucket.is_empty() || !bucket.bytes().all(plain) || odd || rest.contains(['?', '#', '@']) {
        problems.add("repository.url", "wants s3://bucket/prefix; where the server is goes into `endpoint`");
        return None;
    }
    let encryption = match table.encryption.as_deref() {
        None => None,
        Some("AES256") => Some(BucketEncryption::Aes256),
        Some("aws:kms") => Some(BucketEncryption::Kms { key: None }),
        Some(other) => match other.strip_prefix("aws:kms:").filter(|key| !key.is_empty()) {
            Some(key) => Some(BucketEncryption::Kms { key: Some(key.to_owned()) }),
            None => {
                problems.add("repository.encryption", "wants `AES256`, `aws:kms` or `aws:kms:KEY`");
                None
            }
        },
    };
    if let Some(endpoint) = &table.endpoint {
        let web = endpoint.starts_with("https://") || endpoint.starts_with("http://");
        if !web || endpoint.contains('@') {
            problems.add("repository.endpoint", "wants https://HOST or http://HOST, without a user or password");
        }
    }
    Some(RepositoryPlace::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        path_style: table.path_style.unwrap_or(table.endpoint.is_some()),
        endpoint: table.endpoint,
        region: table.region,
        encryption,
    })
}

fn databases(
    tables: BTreeMap<String, DatabaseTable>,
    has_compose: bool,
    problems: &mut Problems,
) -> BTreeMap<PartName, Database> {
    let mut databases = BTreeMap::new();
    for (name, table) in tables {
        let key = format!("database.{}", crate::shape::quoted(&name));
        let source = match (table.url, table.service) {
            (Some(url), _) => DatabaseSource::Url(url),
            (None, Some(service)) => {
                if !has_compose {
                    problems.add(format!("{key}.service"), "wants a `[compose]` project that has the service");
                }
                DatabaseSource::Service { service, dbname: table.dbname, user: table.user, password: table.password }
            }
            (None, None) => {
                problems.add(&key, "says not where it is: give it a `url` or a `service`");
                continue;
            }
        };
        for (index, pattern) in table.exclude_rows.iter().enumerate() {
            if !pattern.split_once('.').is_some_and(|(schema, table)| !schema.is_empty() && !table.is_empty()) {
                problems.add(format!("{key}.exclude_rows[{index}]"), "wants schema.table");
            }
        }
        match name.parse() {
            Ok(name) => {
                let DatabaseTable { standbys, exclude_rows, assertions, .. } = table;
                let database = Database { source, standbys, exclude_rows, assertions };
                databases.insert(name, database);
            }
            Err(_) => problems.add(key, "is no name: take lower-case letters, digits, `-` and `_`"),
        }
    }
    databases
}

fn migrations(
    table: MigrationsTable,
    databases: &BTreeMap<PartName, Database>,
    production: bool,
    folder: &Path,
    problems: &mut Problems,
) -> Option<Migrations> {
    let source = match (table.folder, table.command) {
        (Some(path), _) => MigrationSource::Folder(folder.join(path)),
        (None, Some(words)) if !words.is_empty() => {
            let url_variable = table.url_variable.unwrap_or_else(|| "DATABASE_URL".to_owned());
            MigrationSource::Command { words, url_variable }
        }
        (None, _) => {
            problems.add("migrations", "says not how: give it a `folder` or a `command`");
            return None;
        }
    };
    let database = match &table.database {
        Some(name) => {
            let found = databases.keys().find(|known| known.as_str() == name);
            if found.is_none() {
                problems.add("migrations.database", "names no database of this file");
            }
            found.cloned()
        }
        None if databases.len() > 1 => {
            problems.add("migrations.database", "is missing: there are several databases, so say which is migrated");
            None
        }
        None => databases.keys().next().cloned(),
    };
    let otherwise = if production { OnFailure::Ask } else { OnFailure::TakeBack };
    Some(Migrations {
        source,
        database,
        on_failure: table.on_failure.unwrap_or(otherwise),
        lock_timeout: table.lock_timeout.unwrap_or(Span::from_secs(3)),
    })
}

fn commands(workload: crate::Workload, problems: &mut Problems) -> Runtime {
    for (name, command) in [("stop", &workload.stop), ("start", &workload.start)] {
        if command.is_empty() {
            problems.add(format!("workload.{name}"), "is missing: a list of words");
        }
    }
    Runtime::Commands(workload)
}

fn retention(table: RetentionTable, environment: &Environment, production: bool, problems: &mut Problems) -> Retention {
    let days = match environment.as_str() {
        _ if production => 90,
        "development" | "dev" | "local" | "test" => 7,
        _ => 30,
    };
    if table.min_proven == Some(0) {
        problems.add("retention.min_proven", "is at least 1: the last proven snapshot is never removed");
    }
    let mut keep_labels = Vec::new();
    for (index, label) in table.keep_labels.unwrap_or_default().iter().enumerate() {
        let (name, value) = label.split_once('=').map_or((label.as_str(), None), |(name, value)| (name, Some(value)));
        if name.is_empty() {
            problems.add(format!("retention.keep_labels[{index}]"), "wants a label's name, or name=value");
        }
        keep_labels.push((name.to_owned(), value.map(str::to_owned)));
    }
    Retention {
        keep_last: table.keep_last.unwrap_or(5),
        keep_within: table.keep_within.unwrap_or(Span::from_days(days)),
        hourly: table.hourly.unwrap_or(0),
        daily: table.daily.unwrap_or(0),
        weekly: table.weekly.unwrap_or(0),
        monthly: table.monthly.unwrap_or(0),
        yearly: table.yearly.unwrap_or(0),
        keep_labels,
        min_proven: table.min_proven.unwrap_or(1).max(1),
    }
}

fn guard(table: &GuardTable, production: bool) -> Guard {
    Guard {
        on_loss: table.on_loss.unwrap_or(if production { OnLoss::Ask } else { OnLoss::TakeBack }),
        timeout: table.timeout.unwrap_or(Span::from_secs(1800)),
        ready_within: table.ready_within,
        settle_window: table.settle_window.unwrap_or(Span::from_secs(30)),
        recovery_target: table.recovery_target,
    }
}
