//! A writer or a prune whose machine sleeps at any call, for longer than any lease.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backstay_model::Silent;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::retention::Policy;
use crate::trial::{self, HeldClock, environment, fresh, noise, read, run, snapshot};
use crate::{Error, LeasePurpose, LeaseTerms, Listed, MemoryStore, Pruned, Put, Repository, Store, StoreError};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// More calls than any of the actions makes.
const CALLS_MAX: u64 = 2000;

/// When, within the call, the machine falls asleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Falls {
    /// The call is on its way, and is done when the machine wakes up.
    Before,
    After,
}

#[derive(Debug)]
struct SleepyStore {
    inner: MemoryStore,
    sleeps: (u64, Falls),
    calls: AtomicU64,
    asleep: Notify,
    awake: Notify,
}

impl SleepyStore {
    fn new(inner: &MemoryStore, call: u64, falls: Falls) -> Arc<Self> {
        let (asleep, awake) = (Notify::new(), Notify::new());
        Arc::new(Self { inner: inner.clone(), sleeps: (call, falls), calls: AtomicU64::new(0), asleep, awake })
    }

    async fn during<T>(&self, call: impl Future<Output = T>) -> T {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        if self.sleeps == (number, Falls::Before) {
            self.sleep().await;
        }
        let done = call.await;
        if self.sleeps == (number, Falls::After) {
            self.sleep().await;
        }
        done
    }

    async fn sleep(&self) {
        self.asleep.notify_one();
        self.awake.notified().await;
    }

    /// Lets `work` go on until it sleeps, does `meanwhile`, and lets it go on to its end. Nothing where it
    /// did not sleep.
    async fn while_asleep<T>(&self, work: impl Future<Output = T>, meanwhile: impl Future<Output = ()>) -> (T, bool) {
        tokio::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return (done, false),
            () = self.asleep.notified() => {}
        }
        meanwhile.await;
        self.awake.notify_one();
        (work.await, true)
    }
}

#[async_trait]
impl Store for SleepyStore {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.during(self.inner.get(key)).await
    }

    async fn put(&self, key: &str, bytes: Bytes, put: Put) -> Result<(), StoreError> {
        self.during(self.inner.put(key, bytes, put)).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        self.during(self.inner.list(folder)).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.during(self.inner.remove(key)).await
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        self.during(self.inner.barrier()).await
    }
}

fn old() -> [(&'static str, Vec<u8>); 2] {
    [("rows", noise(1, 80_000)), ("few", noise(2, 90))]
}

/// What was condemned and is due is what the next snapshot of [`old`] wants.
async fn condemned() -> (MemoryStore, HeldClock) {
    let (store, clock, repository) = fresh().await;
    snapshot(&repository, &clock, &old()).await.unwrap();
    clock.advance(DAY);
    snapshot(&repository, &clock, &[("rows", noise(3, 70_000))]).await.unwrap();
    clock.advance(DAY);
    prune(&repository, &clock, 1).await.unwrap();
    clock.advance(DAY * 2);
    (store, clock)
}

async fn open(store: &MemoryStore, clock: &HeldClock) -> Repository {
    trial::reopen(&(Arc::new(store.clone()) as Arc<dyn Store>), clock).await.unwrap()
}

async fn prune(repository: &Repository, clock: &HeldClock, keep_last: usize) -> Result<Pruned, Error> {
    let policies: BTreeMap<_, _> = [(environment(), Policy { keep_last, ..Policy::days(0) })].into();
    let plan = repository.plan_prune(&policies).await?;
    repository.prune(&plan, &run(clock), false, Duration::ZERO, &Silent).await
}

/// Takes away the leases of whoever sleeps, as after their time.
async fn take_over(repository: &Repository, clock: &HeldClock) {
    let terms = LeaseTerms { expiry: Duration::ZERO, ..LeaseTerms::default() };
    let forceful = repository.clone().with_lease_terms(terms);
    forceful.lease(LeasePurpose::Prune, &run(clock), Duration::ZERO, &Silent).await.unwrap().release().await;
}

async fn assert_whole(store: &MemoryStore, clock: &HeldClock, what: &str) {
    let repository = open(store, clock).await;
    let report = repository.check(None, None, 100).await.unwrap();
    assert!(report.is_good(), "{what}: {report:?}");
    take_over(&repository, clock).await;
    let again = snapshot(&repository, clock, &old()).await;
    let again = again.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    for _ in 0..2 {
        clock.advance(DAY * 2);
        prune(&repository, clock, 1).await.unwrap();
    }
    let found = read(&repository, &again).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert!(old().iter().all(|(name, bytes)| found[*name] == *bytes), "{what}");
}

#[tokio::test]
async fn a_writer_that_sleeps_at_any_call_for_longer_than_its_lease_commits_nothing_half() {
    let (base, _) = condemned().await;
    for days in [0, 3] {
        for call in 0..CALLS_MAX {
            let (store, clock) = (base.fork(), HeldClock::default());
            clock.advance(DAY * 9);
            let what = format!("asleep at call {call} for {days} days");
            let sleepy = SleepyStore::new(&store, call, Falls::Before);
            let work = async {
                let repository = trial::reopen(&(sleepy.clone() as Arc<dyn Store>), &clock).await?;
                snapshot(&repository, &clock, &old()).await
            };
            let others = async {
                clock.advance(HOUR);
                let repository = open(&store, &clock).await;
                take_over(&repository, &clock).await;
                for _ in 0..=days {
                    prune(&repository, &clock, 1).await.unwrap();
                    clock.advance(DAY * days);
                }
            };
            let (taken, slept) = sleepy.while_asleep(work, others).await;
            if let Ok(manifest) = taken {
                let repository = open(&store, &clock).await;
                let found = read(&repository, &manifest).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
                assert!(old().iter().all(|(name, bytes)| found[*name] == *bytes), "{what}");
            }
            assert_whole(&store, &clock, &what).await;
            if !slept {
                break;
            }
            assert!(call + 1 < CALLS_MAX);
        }
    }
}

#[tokio::test]
async fn a_prune_that_sleeps_between_any_two_calls_for_longer_than_its_lease_deletes_nothing_wanted_since() {
    let (base, _) = condemned().await;
    let mut stopped = 0;
    for call in 0..CALLS_MAX {
        let (store, clock) = (base.fork(), HeldClock::default());
        clock.advance(DAY * 9);
        let what = format!("asleep after call {call}");
        let repository = open(&store, &clock).await;
        // Something to remove by name as well: what was the newest before this.
        snapshot(&repository, &clock, &[("rows", noise(4, 70_000))]).await.unwrap();
        clock.advance(DAY);
        let sleepy = SleepyStore::new(&store, call, Falls::After);
        let work = async {
            let repository = trial::reopen(&(sleepy.clone() as Arc<dyn Store>), &clock).await?;
            prune(&repository, &clock, 1).await
        };
        let oldest = repository.list(None).await.unwrap().pop().unwrap().manifest.id;
        let others = async {
            clock.advance(HOUR);
            take_over(&repository, &clock).await;
            snapshot(&repository, &clock, &old()).await.unwrap();
            let _ = repository.pin(&environment(), &oldest, "wanted since").await;
        };
        let (pruned, slept) = sleepy.while_asleep(work, others).await;
        stopped += u64::from(pruned.is_err());
        for (id, _) in repository.pins(&environment()).await.unwrap() {
            let kept = repository.entry(&environment(), &id).await;
            assert!(kept.is_ok(), "{what}: a pinned snapshot is gone: {kept:?}");
        }
        assert_whole(&store, &clock, &what).await;
        if !slept {
            assert!(pruned.is_ok(), "{what}: {pruned:?}");
            assert!(stopped > 5, "{stopped} prunes saw that they had slept");
            return;
        }
    }
    panic!("a prune makes more than {CALLS_MAX} calls");
}
