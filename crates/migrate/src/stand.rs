//! What the tests of this crate share: a cluster, folders of migrations, a context.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use backstay_model::{Environment, SystemClock};
use backstay_postgres::{Settings, Surroundings};
use backstay_run::{Context, Interrupt};
use backstay_testkit::{Memory, PrivateCluster};
use tempfile::TempDir;

use crate::{Folder, Target};

static RUNS: AtomicU16 = AtomicU16::new(1);

/// A folder of migrations with these files.
pub(crate) fn files(all: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in all {
        write(folder.path(), name, text);
    }
    folder
}

pub(crate) fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub(crate) fn read(folder: &TempDir) -> Folder {
    Folder::read(folder.path()).unwrap()
}

pub(crate) fn context() -> (Context, Arc<Memory>) {
    let listener = Arc::new(Memory::default());
    let clock = Arc::new(SystemClock::default());
    let context = Context {
        run: backstay_model::RunId::new(backstay_model::Clock::now(&*clock), RUNS.fetch_add(1, Ordering::Relaxed)),
        project: "shop".parse().unwrap(),
        environment: Environment::unnamed(),
        host: "here".to_owned(),
        state: std::env::temp_dir(),
        clock,
        listener: listener.clone(),
        interrupt: Interrupt::default(),
    };
    (context, listener)
}

pub(crate) fn target_at(url: &str) -> Target {
    Target::new(Settings::parse(url, &Surroundings::default()).unwrap())
}

pub(crate) fn target(cluster: &PrivateCluster, database: &str) -> Target {
    target_at(&cluster.url(database))
}

/// A new database and the way to it.
pub(crate) fn fresh(cluster: &PrivateCluster, database: &str) -> Target {
    cluster.create(database);
    target(cluster, database)
}

/// The database without what Backstay itself keeps in it.
pub(crate) fn dump(cluster: &PrivateCluster, database: &str) -> String {
    let without_times = "--exclude-table-data=_sqlx_migrations";
    cluster.dump_with(database, &["--exclude-schema=backstay", without_times])
}

pub(crate) fn history(cluster: &PrivateCluster, database: &str) -> String {
    cluster
        .sql(database, "select version, description, success, encode(checksum, 'hex') from _sqlx_migrations order by 1")
}
