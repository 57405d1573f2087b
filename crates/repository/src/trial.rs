//! What the tests of this crate share: a repository in memory, and snapshots to put into it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use backstay_model::{
    Clock, Environment, Manifest, Origin, Outcome, PartKind, PartRecord, Purpose, Root, RunId, RunRecord, Silent,
    SnapshotId,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::{Error, LeasePurpose, MemoryStore, Options, Repository, Secret, SnapshotWriter, Store, StreamWriter};

/// A clock that moves when it is told to.
#[derive(Debug, Clone)]
pub(crate) struct HeldClock(Arc<Mutex<(DateTime<Utc>, Duration)>>);

impl Default for HeldClock {
    fn default() -> Self {
        Self(Arc::new(Mutex::new((at("20251022_153000"), Duration::ZERO))))
    }
}

impl HeldClock {
    pub(crate) fn advance(&self, by: Duration) {
        let mut held = self.0.lock().unwrap();
        held.0 += by;
        held.1 += by;
    }
}

impl Clock for HeldClock {
    fn now(&self) -> DateTime<Utc> {
        self.0.lock().unwrap().0
    }

    fn elapsed(&self) -> Duration {
        self.0.lock().unwrap().1
    }
}

pub(crate) fn at(id: &str) -> DateTime<Utc> {
    id.parse::<SnapshotId>().unwrap().moment()
}

pub(crate) fn environment() -> Environment {
    "production".parse().unwrap()
}

pub(crate) fn key() -> Secret {
    Secret::KeyFile(zeroize::Zeroizing::new(format!("backstay-key-1-{}\n", "5a".repeat(32)).into_bytes()))
}

pub(crate) fn options(clock: &HeldClock) -> Options {
    Options { cache: None, clock: Arc::new(clock.clone()), host: "web1".to_owned() }
}

pub(crate) async fn fresh() -> (MemoryStore, HeldClock, Repository) {
    let (store, clock) = (MemoryStore::default(), HeldClock::default());
    let repository = Repository::create(Arc::new(store.clone()), &key(), options(&clock)).await.unwrap();
    (store, clock, repository)
}

pub(crate) async fn reopen(store: &Arc<dyn Store>, clock: &HeldClock) -> Result<Repository, Error> {
    Repository::open(Arc::clone(store), &key(), options(clock)).await
}

pub(crate) fn run(clock: &HeldClock) -> RunId {
    RunId::new(clock.now(), rand::random())
}

/// What is known of a run that used a snapshot; with `ended_at` it is done.
pub(crate) fn run_record(
    clock: &HeldClock,
    command: &str,
    snapshot: &SnapshotId,
    ended_at: Option<DateTime<Utc>>,
) -> RunRecord {
    RunRecord {
        id: run(clock),
        project: "shop".parse().unwrap(),
        environment: environment(),
        command: command.to_owned(),
        host: "web1".to_owned(),
        snapshot: Some(snapshot.clone()),
        before: None,
        undoes: None,
        began_at: ended_at.unwrap_or_else(|| clock.now()),
        ended_at,
        outcome: ended_at.map(|_| Outcome::Done),
        remark: None,
        phases: Vec::new(),
        journal: serde_json::Value::Null,
    }
}

/// Bytes that no compression makes smaller, the same for the same seed.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}

pub(crate) async fn write(mut stream: StreamWriter, bytes: &[u8]) -> Result<Root, Error> {
    for piece in bytes.chunks(700_001) {
        stream.push(Bytes::copy_from_slice(piece)).await?;
    }
    stream.finish().await
}

pub(crate) async fn commit(writer: &SnapshotWriter, streams: &[(&str, Vec<u8>)]) -> Result<Manifest, Error> {
    let mut contents = BTreeMap::new();
    for (name, bytes) in streams {
        contents.insert((*name).to_owned(), write(writer.stream(), bytes).await?);
    }
    let bytes = contents.values().map(|root: &Root| root.bytes).sum();
    let listed = writer.bytes(serde_json::to_vec(&contents).unwrap()).await?;
    commit_contents(writer, listed, bytes, streams.len()).await
}

/// The same, where the list of streams is stored already.
pub(crate) async fn commit_contents(
    writer: &SnapshotWriter,
    contents: Root,
    bytes: u64,
    streams: usize,
) -> Result<Manifest, Error> {
    let facts = writer.bytes(b"{\"tables\":2}".to_vec()).await?;
    let part = PartRecord {
        name: "database".parse().unwrap(),
        kind: PartKind::Database,
        contents,
        facts,
        bytes,
        summary: format!("{streams} streams"),
    };
    let now = writer.id().moment();
    writer
        .commit(Manifest {
            id: writer.id().clone(),
            project: "shop".parse().unwrap(),
            environment: environment(),
            purpose: Purpose::Deliberate,
            taken_at: now,
            committed_at: now,
            run: RunId::new(now, 7),
            origin: Origin::default(),
            labels: BTreeMap::new(),
            parts: vec![part],
            not_covered: Vec::new(),
        })
        .await
}

/// Takes a whole snapshot under a lease of its own.
pub(crate) async fn snapshot(
    repository: &Repository,
    clock: &HeldClock,
    streams: &[(&str, Vec<u8>)],
) -> Result<Manifest, Error> {
    let lease = repository.lease(LeasePurpose::Write, &run(clock), Duration::ZERO, &Silent).await?;
    let writer = repository.begin(&lease, &environment()).await?;
    let manifest = commit(&writer, streams).await;
    lease.release().await;
    manifest
}

/// The streams of a snapshot, read whole.
pub(crate) async fn read(repository: &Repository, manifest: &Manifest) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let mut streams = BTreeMap::new();
    for part in &manifest.parts {
        let contents = repository.read_whole(&part.contents, 1 << 30).await?;
        let contents: BTreeMap<String, Root> = serde_json::from_slice(&contents).unwrap();
        for (name, root) in contents {
            streams.insert(name, repository.read_whole(&root, 1 << 30).await?);
        }
    }
    Ok(streams)
}
