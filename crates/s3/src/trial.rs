//! What the tests of this crate share: a server of their own, a proxy before it, and snapshots to put
//! into it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::StalledStreamProtectionConfig;
use backstay_model::{
    Clock, Environment, Manifest, Origin, PartKind, PartRecord, Purpose, Root, RunId, Silent, SnapshotId,
};
use backstay_repository::{
    Error, Lease, LeasePurpose, LeaseTerms, Options, Policy, Pruned, Repository, Secret, Store, StreamWriter,
};
use backstay_testkit::{ManualClock, Proxy, S3Server};
use bytes::Bytes;

use crate::retry::Patience;
use crate::{Place, S3Store, server_tests};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);
pub(crate) const BASE: &str = "base";

/// A repository on a server in this process, behind a proxy.
pub(crate) struct Ground {
    pub(crate) server: S3Server,
    pub(crate) proxy: Proxy,
    pub(crate) clock: Arc<ManualClock>,
}

impl Ground {
    /// With three snapshots, of which one was pruned and leaves condemned objects that are due.
    pub(crate) async fn new() -> Self {
        let server = S3Server::start().await;
        let proxy = Proxy::before(server.address()).await;
        let clock = Arc::new(ManualClock::at("20251022_153000"));
        let ground = Self { server, proxy, clock };
        ground.server.bucket(BASE);
        let store = ground.store_in(BASE);
        let repository = Repository::create(store, &key(), ground.options()).await.unwrap();
        for round in 0..2 {
            ground.snapshot(&repository, &small(round)).await.unwrap();
            ground.clock.advance(DAY);
        }
        ground.prune(&repository).await.unwrap();
        ground.snapshot(&repository, &small(5)).await.unwrap();
        ground.clock.advance(DAY * 2);
        ground
    }

    fn options(&self) -> Options {
        Options { cache: None, clock: self.clock.clone(), host: "web1".to_owned() }
    }

    /// Straight on the server.
    pub(crate) fn store_in(&self, bucket: &str) -> Arc<dyn Store> {
        Arc::new(server_tests::store(self.server.endpoint(), bucket, "some/where"))
    }

    /// A bucket of its own that holds what the first one did.
    pub(crate) fn fork(&self, bucket: &str) {
        copy(&self.server.bucket(BASE), &self.server.bucket(bucket));
    }

    /// Through the proxy, with little patience.
    pub(crate) async fn open_meddled(&self, bucket: &str) -> Result<Repository, Error> {
        let store: Arc<dyn Store> = Arc::new(impatient(self.proxy.endpoint(), bucket));
        Repository::open(store, &key(), self.options()).await
    }

    pub(crate) async fn open(&self, bucket: &str) -> Repository {
        Repository::open(self.store_in(bucket), &key(), self.options()).await.unwrap()
    }

    fn run(&self) -> RunId {
        RunId::new(self.clock.now(), rand::random())
    }

    pub(crate) async fn snapshot(
        &self,
        repository: &Repository,
        streams: &[(String, Vec<u8>)],
    ) -> Result<Manifest, Error> {
        let lease = repository.lease(LeasePurpose::Write, &self.run(), Duration::ZERO, &Silent).await?;
        let committed = self.snapshot_under(&lease, repository, streams).await;
        lease.release().await;
        committed
    }

    pub(crate) async fn snapshot_under(
        &self,
        lease: &Lease,
        repository: &Repository,
        streams: &[(String, Vec<u8>)],
    ) -> Result<Manifest, Error> {
        let writer = repository.begin(lease, &environment()).await?;
        let writing = streams
            .iter()
            .map(async |(name, bytes)| Ok::<_, Error>((name.clone(), write(writer.stream(), bytes).await?)));
        let contents: BTreeMap<String, Root> = futures_util::future::try_join_all(writing).await?.into_iter().collect();
        let listed = writer.bytes(serde_json::to_vec(&contents).unwrap()).await?;
        let part = PartRecord {
            name: "database".parse().unwrap(),
            kind: PartKind::Database,
            contents: listed,
            facts: writer.bytes(b"{}".to_vec()).await?,
            bytes: contents.values().map(|root| root.bytes).sum(),
            summary: "tables".to_owned(),
        };
        let manifest = manifest(writer.id(), part);
        writer.commit(manifest).await
    }

    pub(crate) async fn lease(&self, repository: &Repository) -> Lease {
        repository.lease(LeasePurpose::Write, &self.run(), Duration::ZERO, &Silent).await.unwrap()
    }

    pub(crate) async fn prune(&self, repository: &Repository) -> Result<Pruned, Error> {
        let policies = [(environment(), Policy { keep_last: 1, ..Policy::days(0) })].into();
        let plan = repository.plan_prune(&policies).await?;
        repository.prune(&plan, &self.run(), false, Duration::ZERO, &Silent).await
    }

    /// Every snapshot there is can be read, another can be taken, and what nothing reaches goes.
    pub(crate) async fn assert_sound(&self, bucket: &str, what: &str) {
        let repository = self.open(bucket).await;
        // Who is to have died lives on in this process, so its leases are taken over by force.
        let terms = LeaseTerms { expiry: Duration::ZERO, ..LeaseTerms::default() };
        let forceful = repository.clone().with_lease_terms(terms);
        forceful.lease(LeasePurpose::Prune, &self.run(), Duration::ZERO, &Silent).await.unwrap().release().await;
        let report = repository.check(None, None, 100).await.unwrap();
        assert!(report.is_good(), "{what}: {report:?}");
        let taken = self.snapshot(&repository, &small(77)).await;
        assert!(taken.is_ok(), "{what}: {taken:?}");
        for _ in 0..2 {
            self.clock.advance(DAY * 2);
            let pruned = self.prune(&repository).await;
            assert!(pruned.is_ok(), "{what}: {pruned:?}");
        }
        let left = self.store_in(bucket).list("condemned").await.unwrap();
        assert_eq!(left, [], "{what}");
        let report = repository.check(None, None, 100).await.unwrap();
        assert!(report.is_good() && report.snapshots.len() == 1, "{what}: {report:?}");
    }
}

pub(crate) fn impatient(endpoint: String, bucket: &str) -> S3Store {
    let stall = StalledStreamProtectionConfig::enabled().grace_period(Duration::from_secs(1)).build();
    let config = server_tests::config().to_builder().stalled_stream_protection(stall).build();
    let patience = Patience {
        attempts: 3,
        first_wait: Duration::from_millis(5),
        attempts_within: 1,
        silence: Duration::from_secs(20),
    };
    let place = Place {
        bucket: bucket.to_owned(),
        prefix: "some/where".to_owned(),
        endpoint: Some(endpoint),
        path_style: true,
        ..Place::default()
    };
    S3Store::with_patience(&config, place, patience)
}

pub(crate) fn small(seed: u64) -> Vec<(String, Vec<u8>)> {
    vec![("rows".to_owned(), noise(seed, 70_000)), ("few".to_owned(), noise(seed + 100, 90))]
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

fn environment() -> Environment {
    "production".parse().unwrap()
}

fn key() -> Secret {
    let content = format!("backstay-key-1-{}\n", "5a".repeat(32));
    Secret::KeyFile(content.into_bytes().into())
}

async fn write(mut stream: StreamWriter, bytes: &[u8]) -> Result<Root, Error> {
    for piece in bytes.chunks(700_001) {
        stream.push(Bytes::copy_from_slice(piece)).await?;
    }
    stream.finish().await
}

fn manifest(id: &SnapshotId, part: PartRecord) -> Manifest {
    let now = id.moment();
    Manifest {
        id: id.clone(),
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
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
