use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backstay_model::{Clock, Judgement, Origin, PartKind, Purpose, RunId, Silent};
use backstay_part::fakes::World;
use backstay_part::{Part, Site};
use backstay_repository::{Entry, MemoryStore, Options, Repository, Secret};
use backstay_run::fakes::{MemoryShelf, StrungStore, Trip, Tripwire};
use backstay_run::{Context, Interrupt, Journals, unfinished};
use backstay_testkit::ManualClock;

use crate::{Error, SnapshotRequest, Taken, prove, take};

const KINDS: [(&str, PartKind); 3] =
    [("files", PartKind::Files), ("images", PartKind::Images), ("database", PartKind::Database)];

struct Ground {
    world: World,
    store: MemoryStore,
    shelf: MemoryShelf,
    clock: Arc<ManualClock>,
}

impl Ground {
    async fn new() -> Self {
        let world = World::default();
        for (part, value) in [("database", "rows"), ("images", "image 1"), ("files", "config 1")] {
            world.deploy(part, value);
        }
        world.start();
        let clock = Arc::new(ManualClock::at("20251022_153000"));
        let store = MemoryStore::default();
        let options = Options { cache: None, clock: clock.clone(), host: "web1".to_owned() };
        Repository::create(Arc::new(store.clone()), &Secret::None, options).await.unwrap();
        Self { world, store, shelf: MemoryShelf::default(), clock }
    }

    async fn act<T>(&self, wire: &Tripwire, interrupt: &Interrupt, act: impl AsyncFnOnce(&Site<'_>) -> T) -> Option<T> {
        self.clock.advance(Duration::from_secs(60));
        let options = Options { cache: None, clock: self.clock.clone(), host: "web1".to_owned() };
        let strung = Arc::new(StrungStore::new(Arc::new(self.store.clone()), wire));
        let repository = Repository::open(strung.clone(), &Secret::None, options).await.unwrap();
        strung.wake();
        let context = Context {
            run: RunId::new(self.clock.now(), 0),
            project: "shop".parse().unwrap(),
            environment: "production".parse().unwrap(),
            host: "web1".to_owned(),
            state: PathBuf::new(),
            clock: self.clock.clone(),
            listener: Arc::new(Silent),
            interrupt: interrupt.clone(),
        };
        let parts: Vec<Arc<dyn Part>> =
            KINDS.iter().map(|(part, kind)| self.world.part(part, *kind, wire).unwrap()).collect();
        let site = Site {
            context: &context,
            repository: &repository,
            journals: &Journals::in_memory(self.shelf.strung_to(wire)),
            parts: &parts,
            workload: &self.world.workload(wire),
            lent: None,
            lease_wait: Duration::ZERO,
        };
        tokio::select! {
            biased;
            () = wire.died() => None,
            done = act(&site) => Some(done),
        }
    }

    async fn calmly<T>(&self, act: impl AsyncFnOnce(&Site<'_>) -> T) -> T {
        self.act(&Tripwire::default(), &Interrupt::default(), act).await.unwrap()
    }

    async fn list(&self) -> Vec<Entry> {
        self.calmly(async |site: &Site<'_>| site.repository.list(None).await.unwrap()).await
    }
}

fn request() -> SnapshotRequest {
    SnapshotRequest {
        labels: BTreeMap::new(),
        purpose: Purpose::Deliberate,
        pin: None,
        prove: false,
        keep_warm: false,
        origin: Origin::default(),
        skip_if_unchanged: false,
        health: None,
        not_covered: Vec::new(),
    }
}

async fn taken(site: &Site<'_>) -> Result<Taken, Error> {
    take(site, &request()).await
}

#[tokio::test]
async fn databases_come_first_and_health_and_pin_are_recorded() {
    let ground = Ground::new().await;
    let request =
        SnapshotRequest { health: Some("healthy".to_owned()), pin: Some("release 1".to_owned()), ..request() };
    let taken = ground.calmly(async |site: &Site<'_>| take(site, &request).await.unwrap()).await;
    assert_eq!(taken.manifest.parts[0].kind, PartKind::Database);
    assert_eq!(taken.manifest.labels["health"], "healthy");
    let listed = ground.list().await;
    assert_eq!((listed.len(), &listed[0].manifest, listed[0].pinned), (1, &taken.manifest, true));
}

#[tokio::test]
async fn stopped_or_killed_anywhere_a_snapshot_is_there_whole_or_not_at_all() {
    let measured = Ground::new().await;
    let wire = Tripwire::default();
    measured.act(&wire, &Interrupt::default(), taken).await.unwrap().unwrap();
    let mut interrupted = 0;
    for point in 0..wire.points().len() {
        let ground = Ground::new().await;
        let interrupt = Interrupt::default();
        let request = interrupt.clone();
        let stop = Tripwire::at(point, Trip::Meanwhile(Box::new(move || request.request())));
        match ground.act(&stop, &interrupt, taken).await.unwrap() {
            Ok(taken) => assert_eq!(ground.list().await[0].manifest, taken.manifest, "at {point}"),
            Err(Error::Interrupted) => {
                interrupted += 1;
                assert!(ground.list().await.is_empty(), "at {point}: interrupted, and there is a manifest");
            }
            Err(error) => panic!("at {point}: {error}"),
        }
        let open = ground.calmly(async |site: &Site<'_>| {
            unfinished(site.context, site.repository, site.journals, false).await.unwrap()
        });
        assert!(open.await.is_empty(), "at {point}");
        let ground = Ground::new().await;
        assert!(ground.act(&Tripwire::at(point, Trip::Die), &Interrupt::default(), taken).await.is_none());
        for entry in ground.list().await {
            let proven = ground.calmly(async |site: &Site<'_>| prove(site, &entry).await.unwrap()).await;
            assert!(proven.verdict.judgement.is_good(), "at {point}: {:?}", proven.verdict);
        }
    }
    assert!(interrupted > 5, "only {interrupted} stopped before the commit");
}

#[tokio::test]
async fn what_changes_meanwhile_is_captured_again_once() {
    let wire = Tripwire::default();
    Ground::new().await.act(&wire, &Interrupt::default(), taken).await.unwrap().unwrap();
    let ground = Ground::new().await;
    let database = wire.points().iter().position(|name| name == "part: before capture database").unwrap();
    let world = ground.world.clone();
    let wire = Tripwire::at(database, Trip::Meanwhile(Box::new(move || world.deploy("images", "image 2"))));
    let taken = ground.act(&wire, &Interrupt::default(), taken).await.unwrap().unwrap();
    let captures = wire.points().iter().filter(|name| *name == "part: before capture database").count();
    assert_eq!(captures, 2);
    assert!(taken.manifest.parts.iter().any(|part| part.summary.contains("image 2")));
}

#[tokio::test]
async fn where_nothing_changed_the_newest_snapshot_is_the_answer() {
    let ground = Ground::new().await;
    let request = SnapshotRequest { skip_if_unchanged: true, ..request() };
    let first = ground.calmly(async |site: &Site<'_>| take(site, &request).await.unwrap()).await;
    let again = ground.calmly(async |site: &Site<'_>| take(site, &request).await.unwrap()).await;
    assert_eq!((first.skipped, again.skipped, &again.manifest), (false, true, &first.manifest));
    ground.world.deploy("files", "config 2");
    let changed = ground.calmly(async |site: &Site<'_>| take(site, &request).await.unwrap()).await;
    assert!(!changed.skipped && changed.manifest.id > first.manifest.id);
}

#[tokio::test]
async fn proving_leaves_a_verdict_and_nothing_else() {
    let ground = Ground::new().await;
    let request = SnapshotRequest { prove: true, ..request() };
    let before = ground.world.look();
    let taken = ground.calmly(async |site: &Site<'_>| take(site, &request).await.unwrap()).await;
    assert_eq!(taken.proven.unwrap().proofs.len(), 3);
    let listed = ground.list().await;
    assert!(listed[0].is_proven());
    assert_eq!(ground.world.look(), before);
    // Whoever comes to the bucket and takes a chunk away is found out, by the name of what is missing.
    for key in ground.store.keys().iter().filter(|key| key.starts_with("objects/")) {
        ground.store.tamper(key, |_| None);
    }
    let proven = ground.calmly(async |site: &Site<'_>| prove(site, &listed[0]).await.unwrap()).await;
    assert!(matches!(&proven.verdict.judgement, Judgement::Damaged { objects, .. } if !objects.is_empty()));
    assert!(!ground.list().await[0].is_proven());
    assert_eq!(ground.world.look(), before);
}

#[tokio::test]
async fn a_copy_that_is_kept_warm_is_staged_for_use() {
    let ground = Ground::new().await;
    let request = SnapshotRequest { keep_warm: true, ..request() };
    let taken = ground.calmly(async |site: &Site<'_>| take(site, &request).await.unwrap()).await;
    assert!(taken.proven.is_some());
}
