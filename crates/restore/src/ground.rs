//! What the tests of this crate stand on: one machine, one repository and two hosts in memory, and
//! processes that work there until they are done or die.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use backstay_model::{Clock, PartKind, Purpose, RunId, Silent};
use backstay_part::fakes::{Sight, World};
use backstay_part::{Part, Site};
use backstay_repository::{Entry, MemoryStore, Options, Repository, Secret};
use backstay_run::fakes::{MemoryShelf, StrungStore, Tripwire};
use backstay_run::{Context, Interrupt, Journals};
use backstay_snapshot::SnapshotRequest;
use backstay_testkit::ManualClock;

use crate::{Choices, Plan, Restored, Source, Wish};

pub const KINDS: [(&str, PartKind); 3] =
    [("database", PartKind::Database), ("images", PartKind::Images), ("files", PartKind::Files)];

/// Which host a process runs on. Both reach the same parts and the same repository; journals stay
/// where they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    One,
    Other,
}

pub struct Ground {
    pub world: World,
    pub store: MemoryStore,
    one: MemoryShelf,
    other: MemoryShelf,
    pub clock: Arc<ManualClock>,
    salt: AtomicU16,
}

impl Ground {
    /// A release that was captured, and the next one that replaced it and runs.
    pub async fn with_release(recorded: [&str; 3], live: [&str; 3]) -> Self {
        let ground = Self {
            world: World::default(),
            store: MemoryStore::default(),
            one: MemoryShelf::default(),
            other: MemoryShelf::default(),
            clock: Arc::new(ManualClock::at("20251022_153000")),
            salt: AtomicU16::new(0),
        };
        let options = options(&ground.clock, Host::One);
        Repository::create(Arc::new(ground.store.clone()), &Secret::None, options).await.unwrap();
        ground.deploy(recorded);
        ground.world.start();
        ground.calmly(Host::One, snapshot).await;
        ground.deploy(live);
        ground
    }

    pub fn deploy(&self, values: [&str; 3]) {
        for ((part, _), value) in KINDS.iter().zip(values) {
            self.world.deploy(part, value);
        }
    }

    /// The same once more, on machines of its own.
    pub fn fork(&self) -> Self {
        let clock = ManualClock::at("20251022_153000");
        clock.advance(self.clock.elapsed());
        Self {
            world: self.world.fork(),
            store: self.store.fork(),
            one: self.one.fork(),
            other: self.other.fork(),
            clock: Arc::new(clock),
            salt: AtomicU16::new(self.salt.load(Ordering::SeqCst)),
        }
    }

    /// A process does something and nothing stands in its way.
    pub async fn calmly<T>(&self, host: Host, act: impl AsyncFnOnce(&Site<'_>) -> T) -> T {
        self.act(host, &Tripwire::default(), act).await.unwrap()
    }

    /// A process does something. Nothing is returned where it died of it.
    pub async fn act<T>(&self, host: Host, wire: &Tripwire, act: impl AsyncFnOnce(&Site<'_>) -> T) -> Option<T> {
        self.act_until(host, wire, &Interrupt::default(), act).await
    }

    pub async fn act_until<T>(
        &self,
        host: Host,
        wire: &Tripwire,
        interrupt: &Interrupt,
        act: impl AsyncFnOnce(&Site<'_>) -> T,
    ) -> Option<T> {
        self.clock.advance(Duration::from_secs(60));
        let store = Arc::new(StrungStore::new(Arc::new(self.store.clone()), wire));
        let context = Context {
            run: RunId::new(self.clock.now(), self.salt.fetch_add(1, Ordering::SeqCst)),
            project: "shop".parse().unwrap(),
            environment: "production".parse().unwrap(),
            host: name(host).to_owned(),
            state: PathBuf::new(),
            clock: self.clock.clone(),
            listener: Arc::new(Silent),
            interrupt: interrupt.clone(),
        };
        let shelf = if host == Host::One { &self.one } else { &self.other };
        let journals = Journals::in_memory(shelf.strung_to(wire));
        let parts: Vec<Arc<dyn Part>> =
            KINDS.iter().map(|(part, kind)| self.world.part(part, *kind, wire).unwrap()).collect();
        let workload = self.world.workload(wire);
        let whole = async {
            let opened = Repository::open(store.clone(), &Secret::None, options(&self.clock, host)).await;
            let repository = opened.unwrap();
            store.wake();
            let site = Site {
                context: &context,
                repository: &repository,
                journals: &journals,
                parts: &parts,
                workload: &workload,
                lent: None,
                lease_wait: Duration::ZERO,
            };
            act(&site).await
        };
        tokio::select! {
            biased;
            () = wire.died() => None,
            done = whole => Some(done),
        }
    }

    /// Whoever is dead stops renewing its leases, and they expire.
    pub fn expire_leases(&self) {
        for key in self.store.keys().iter().filter(|key| key.starts_with("leases/")) {
            self.store.tamper(key, |_| None);
        }
    }

    pub fn look(&self) -> Sight {
        self.world.look()
    }
}

/// Takes a snapshot of what runs.
pub async fn snapshot(site: &Site<'_>) -> Entry {
    let request = SnapshotRequest {
        labels: BTreeMap::new(),
        purpose: Purpose::Deliberate,
        pin: None,
        prove: false,
        keep_warm: false,
        origin: backstay_model::Origin::default(),
        skip_if_unchanged: false,
        health: None,
        not_covered: Vec::new(),
    };
    let taken = backstay_snapshot::take(site, &request).await.unwrap();
    site.repository.entry(&site.context.environment, &taken.manifest.id).await.unwrap()
}

/// The oldest snapshot, opened.
pub async fn first_source(site: &Site<'_>) -> Result<Source, crate::Error> {
    let listed = site.repository.list(Some(&site.context.environment)).await;
    let listed = listed.map_err(|source| crate::Error::Repository { action: "list", source })?;
    Source::open(site.repository, listed.last().unwrap()).await
}

/// Plans and restores the oldest snapshot.
pub async fn restore(site: &Site<'_>) -> Result<Restored, crate::Error> {
    restore_with(site, &Choices::default()).await
}

pub async fn restore_with(site: &Site<'_>, choices: &Choices) -> Result<Restored, crate::Error> {
    let (source, plan) = planned(site, &Wish::default()).await?;
    crate::execute(site, &source, &plan, choices).await
}

pub async fn planned(site: &Site<'_>, wish: &Wish) -> Result<(Source, Plan), crate::Error> {
    let source = first_source(site).await?;
    let plan = crate::plan(site, &source, wish).await?;
    Ok((source, plan))
}

fn options(clock: &Arc<ManualClock>, host: Host) -> Options {
    Options { cache: None, clock: clock.clone(), host: name(host).to_owned() }
}

fn name(host: Host) -> &'static str {
    match host {
        Host::One => "web1",
        Host::Other => "web2",
    }
}
