//! What the tests of this crate share: a cluster with the torture roles, a repository in memory, a run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstay_model::{Environment, PartKind, PartRecord, RunId, Silent, SystemClock};
use backstay_part::{Captured, Recorded};
use backstay_repository::{LeasePurpose, MemoryStore, Repository, Secret, SnapshotWriter};
use backstay_run::{Context, Interrupt};
use backstay_testkit::{Memory, PrivateCluster};
use chrono::Utc;

use crate::{Database, Error, LocalTools, Options, ServerFacts, ServerPart, Settings, Surroundings, capture};

pub(crate) struct Bench {
    pub cluster: PrivateCluster,
    pub repository: Repository,
    pub writer: SnapshotWriter,
    pub context: Context,
    pub heard: Arc<Memory>,
    _lease: backstay_repository::Lease,
}

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/postgres").join(name)
}

pub(crate) fn fixture_text(name: &str) -> String {
    std::fs::read_to_string(fixture(name)).unwrap()
}

/// Of so many places that a run can die at: all where everything is to be tried, else a few, chosen by
/// a seed that is printed and can be given again.
pub(crate) fn places_to_try(places: u64, few: usize) -> Vec<u64> {
    if std::env::var_os("BACKSTAY_TEST_FULL").is_some() {
        return (0..places).collect();
    }
    let given = std::env::var("BACKSTAY_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut state: u64 = given.unwrap_or_else(|| u64::from(Utc::now().timestamp_subsec_micros()));
    println!("places chosen by BACKSTAY_TEST_SEED={state}");
    let mut left: Vec<u64> = (0..places).collect();
    let mut chosen = Vec::new();
    while chosen.len() < few && !left.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chosen.push(left.swap_remove((state >> 33) as usize % left.len()));
    }
    chosen.sort_unstable();
    chosen
}

impl Bench {
    pub(crate) async fn start() -> Option<Self> {
        Some(Self::on(PrivateCluster::start()?).await)
    }

    pub(crate) async fn on(cluster: PrivateCluster) -> Self {
        cluster.sql("postgres", &fixture_text("roles.sql"));
        Self::around(cluster, &Secret::None).await
    }

    /// Without the roles; sealed where a secret is given.
    pub(crate) async fn around(cluster: PrivateCluster, secret: &Secret) -> Self {
        let options = backstay_repository::Options {
            cache: None,
            clock: Arc::new(SystemClock::default()),
            host: "bench".to_owned(),
        };
        let store = Arc::new(MemoryStore::default());
        let repository = Repository::create(store, secret, options).await.unwrap();
        let run = RunId::new(Utc::now(), 0x4f2a);
        let purpose = LeasePurpose::Change(Environment::unnamed());
        let lease = repository.lease(purpose, &run, Duration::from_secs(60), &Silent).await.unwrap();
        let writer = repository.begin(&lease, &Environment::unnamed()).await.unwrap();
        let heard = Arc::new(Memory::default());
        let context = Context {
            run,
            project: "shop".parse().unwrap(),
            environment: Environment::unnamed(),
            host: "bench".to_owned(),
            state: PathBuf::new(),
            clock: Arc::new(SystemClock::default()),
            listener: Arc::clone(&heard) as _,
            interrupt: Interrupt::default(),
        };
        Self { cluster, repository, writer, context, heard, _lease: lease }
    }

    /// A database with one of everything.
    pub(crate) fn torture(&self, database: &str) {
        self.torture_of_owner(database);
        self.run_fixture("postgres", database, "torture_superuser.sql");
        for (major, name) in [(17, "torture_17.sql"), (18, "torture_18.sql")] {
            if self.cluster.major() >= major {
                self.run_fixture("postgres", database, name);
            }
        }
    }

    pub(crate) fn torture_of_owner(&self, database: &str) {
        let name = crate::identifier(database);
        self.cluster.sql("postgres", &format!("create database {name} owner torture_owner"));
        self.run_fixture("torture_owner", database, "torture.sql");
    }

    fn run_fixture(&self, role: &str, database: &str, name: &str) {
        self.cluster.sql_as(role, database, &fixture_text(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    pub(crate) fn settings(&self, role: &str, database: &str) -> Settings {
        let url = self.cluster.url_as(role, "ignored");
        Settings::parse(&url, &Surroundings::default()).unwrap().with_database(database)
    }

    pub(crate) fn tools(&self) -> Arc<LocalTools> {
        Arc::new(LocalTools::only(vec![self.cluster.bin().to_owned()]))
    }

    pub(crate) fn part(&self, role: &str, databases: &[&str]) -> ServerPart {
        self.part_with(role, databases, &[], Options::default())
    }

    pub(crate) fn part_with(&self, role: &str, databases: &[&str], exclude: &[&str], options: Options) -> ServerPart {
        let databases = databases.iter().map(|database| Database {
            label: (*database).to_owned(),
            settings: self.settings(role, database),
            standbys: Vec::new(),
            exclude_rows: exclude.iter().map(|&name| name.to_owned()).collect(),
            assertions: Vec::new(),
        });
        ServerPart::new("database".parse().unwrap(), databases.collect(), self.tools(), options)
    }

    pub(crate) fn part_that_asserts(&self, database: &str, assertions: &[&str]) -> ServerPart {
        let database = Database {
            label: database.to_owned(),
            settings: self.settings("postgres", database),
            standbys: Vec::new(),
            exclude_rows: Vec::new(),
            assertions: assertions.iter().map(|&sql| sql.to_owned()).collect(),
        };
        ServerPart::new("database".parse().unwrap(), vec![database], self.tools(), Options::default())
    }

    pub(crate) async fn capture(&self, part: &ServerPart) -> Result<(Captured, ServerFacts), Error> {
        let captured = capture::capture(part, &self.context, &self.writer).await?;
        let facts = serde_json::from_value(captured.facts.clone()).unwrap();
        Ok((captured, facts))
    }

    /// The text of one captured stream.
    pub(crate) async fn text(&self, captured: &Captured, stream: &str) -> Vec<u8> {
        let root = captured.contents.get(stream).unwrap_or_else(|| panic!("no stream {stream}"));
        self.repository.read_whole(root, 1 << 30).await.unwrap()
    }

    /// Captures, and says what a restore would be given.
    pub(crate) async fn capture_to_restore(&self, part: &ServerPart) -> Recorded {
        let (captured, _) = self.capture(part).await.unwrap();
        self.recorded(&captured).await
    }

    /// What a restore would be given.
    pub(crate) async fn recorded(&self, captured: &Captured) -> Recorded {
        let contents = self.writer.bytes(serde_json::to_vec(&captured.contents).unwrap()).await.unwrap();
        let facts = self.writer.bytes(serde_json::to_vec(&captured.facts).unwrap()).await.unwrap();
        Recorded {
            record: PartRecord {
                name: "database".parse().unwrap(),
                kind: PartKind::Database,
                contents,
                facts,
                bytes: captured.bytes(),
                summary: captured.summary.clone(),
            },
            contents: captured.contents.clone(),
            facts: captured.facts.clone(),
            repository: self.repository.clone(),
        }
    }
}
