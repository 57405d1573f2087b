use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backstay_model::Silent;

use crate::claim::Sightings;
use crate::patient::{CallLimits, PatientStore};
use crate::retention::Policy;
use crate::trial::{self, HeldClock, environment, fresh, noise, run, snapshot};
use crate::{
    Error, Fault, FaultyStore, LeaseTerms, MemoryStore, Pruned, Repository, Secret, Store, StoreError,
    generate_key_file,
};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// More calls than any of the actions makes.
const CALLS_MAX: u64 = 2000;

async fn open(store: Arc<dyn Store>, clock: &HeldClock) -> Result<Repository, Error> {
    // A holder whose process died is dead at once here: this process, which played it, lives on.
    let terms = LeaseTerms { expiry: Duration::ZERO, ..LeaseTerms::default() };
    Ok(trial::reopen(&store, clock).await?.with_lease_terms(terms))
}

/// As [`open`], for the run that is to crash: its own lease must stand.
async fn open_faulty(store: &FaultyStore, clock: &HeldClock) -> Result<Repository, Error> {
    let store: Arc<dyn Store> = Arc::new(store.clone());
    trial::reopen(&store, clock).await
}

async fn prune(repository: &Repository, clock: &HeldClock) -> Result<Pruned, Error> {
    let policies: BTreeMap<_, _> = [(environment(), Policy { keep_last: 1, ..Policy::days(0) })].into();
    let plan = repository.plan_prune(&policies).await?;
    repository.prune(&plan, &run(clock), false, Duration::ZERO, &Silent).await
}

/// Every snapshot there is can be read, another can be taken, and what nothing reaches goes.
async fn assert_sound(store: &MemoryStore, clock: &HeldClock, what: &str) {
    let repository = open(Arc::new(store.clone()), clock).await.unwrap();
    let report = repository.check(None, None, 100).await.unwrap();
    assert!(report.is_good(), "{what}: {report:?}");
    // Whoever looks for leases takes away those of the dead.
    assert!(repository.claims(&mut Sightings::new(), "").await.unwrap().is_empty(), "{what}");
    let standing = LeaseTerms { expiry: DAY * 300, ..LeaseTerms::default() };
    let writer = repository.clone().with_lease_terms(standing);
    let taken = snapshot(&writer, clock, &[("rows", noise(77, 500))]).await;
    assert!(taken.is_ok(), "{what}: {taken:?}");
    for _ in 0..3 {
        clock.advance(DAY * 2);
        let pruned = prune(&writer, clock).await;
        assert!(pruned.is_ok(), "{what}: {pruned:?}");
    }
    assert_eq!(store.keys().iter().filter(|key| key.starts_with("condemned/")).count(), 0, "{what}");
    assert!(repository.check(None, None, 100).await.unwrap().is_good(), "{what}");
}

async fn two_snapshots() -> (MemoryStore, HeldClock) {
    let (store, clock, repository) = fresh().await;
    for round in 0..2 {
        snapshot(&repository, &clock, &[("rows", noise(round, 70_000)), ("small", noise(round, 90))]).await.unwrap();
        clock.advance(DAY);
    }
    prune(&repository, &clock).await.unwrap();
    snapshot(&repository, &clock, &[("rows", noise(5, 70_000))]).await.unwrap();
    clock.advance(DAY * 2);
    (store, clock)
}

#[tokio::test]
async fn a_snapshot_that_dies_at_any_call_leaves_old_or_new() {
    let (base, _) = two_snapshots().await;
    for call in 0..CALLS_MAX {
        let (store, clock) = (base.fork(), HeldClock::default());
        clock.advance(DAY * 9);
        let faulty = FaultyStore::new(Arc::new(store.clone())).reordering().with(call, Fault::Crashes);
        let outcome = match open_faulty(&faulty, &clock).await {
            Ok(repository) => snapshot(&repository, &clock, &[("rows", noise(8, 80_000)), ("few", vec![1; 40])]).await,
            Err(error) => Err(error),
        };
        let crashed = faulty.has_crashed();
        if outcome.is_ok() {
            let there = store.keys().iter().filter(|key| key.starts_with("manifests/")).count();
            assert_eq!(there, 3, "call {call}");
        }
        assert_sound(&store, &clock, &format!("crash at call {call}")).await;
        if !crashed {
            return;
        }
    }
    panic!("a snapshot makes more than {CALLS_MAX} calls");
}

#[tokio::test]
async fn a_prune_that_dies_at_any_call_loses_nothing() {
    let (base, _) = two_snapshots().await;
    for call in 0..CALLS_MAX {
        let (store, clock) = (base.fork(), HeldClock::default());
        clock.advance(DAY * 9);
        let faulty = FaultyStore::new(Arc::new(store.clone())).reordering().with(call, Fault::Crashes);
        if let Ok(repository) = open_faulty(&faulty, &clock).await {
            let _ = prune(&repository, &clock).await;
        }
        assert_sound(&store, &clock, &format!("crash at call {call}")).await;
        if !faulty.has_crashed() {
            return;
        }
    }
    panic!("a prune makes more than {CALLS_MAX} calls");
}

#[tokio::test]
async fn a_change_of_keys_that_dies_at_any_call_leaves_a_key_that_opens() {
    let (base, _) = two_snapshots().await;
    let second: Secret = generate_key_file();
    for call in 0..CALLS_MAX {
        let (store, clock) = (base.fork(), HeldClock::default());
        let faulty = FaultyStore::new(Arc::new(store.clone())).with(call, Fault::Crashes);
        if let Ok(repository) = open_faulty(&faulty, &clock).await {
            let first = repository.list_keys().await.map(|keys| keys[0].id.clone());
            if repository.add_key(&second).await.is_ok()
                && let Ok(first) = first
            {
                let _ = repository.remove_key(&first).await;
            }
        }
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let with_first = trial::reopen(&shared, &clock).await.is_ok();
        let with_second = Repository::open(shared, &second, trial::options(&clock)).await.is_ok();
        assert!(with_first || with_second, "crash at call {call}");
        if !faulty.has_crashed() {
            assert!(!with_first && with_second);
            return;
        }
    }
}

#[tokio::test]
async fn a_full_disk_at_any_write_fails_the_snapshot_and_harms_nothing() {
    let (base, _) = two_snapshots().await;
    for call in 0..CALLS_MAX {
        let (store, clock) = (base.fork(), HeldClock::default());
        clock.advance(DAY * 9);
        let faulty = FaultyStore::new(Arc::new(store.clone())).with(call, Fault::Full);
        let mut outcome = Err(Error::Stopped { action: "opening" });
        if let Ok(repository) = open_faulty(&faulty, &clock).await {
            outcome = snapshot(&repository, &clock, &[("rows", noise(8, 80_000))]).await;
        }
        let last = faulty.calls() <= call;
        assert_eq!(open(Arc::new(store), &clock).await.unwrap().check(None, None, 100).await.unwrap().damage, []);
        if last {
            assert!(outcome.is_ok(), "{outcome:?}");
            return;
        }
    }
}

/// Over a store that hangs at one call, and is not waited for long.
async fn open_hanging(faulty: &FaultyStore, clock: &HeldClock) -> Result<Repository, Error> {
    let limit = Duration::from_millis(40);
    let limits = CallLimits { short: limit, long: limit };
    let store: Arc<dyn Store> = Arc::new(PatientStore::new(Arc::new(faulty.clone()), limits));
    trial::reopen(&store, clock).await
}

fn assert_named<T: std::fmt::Debug>(outcome: &Result<T, Error>, call: u64) {
    if let Err(error) = outcome {
        let named = matches!(error, Error::Store { source: StoreError::NoAnswer { key, .. }, .. } if !key.is_empty());
        assert!(named, "call {call}: {error:?}");
    }
}

#[tokio::test]
async fn a_snapshot_whose_store_hangs_at_any_call_ends_and_says_at_which() {
    let (base, _) = two_snapshots().await;
    let mut failed = 0;
    for call in 0..CALLS_MAX {
        let (store, clock) = (base.fork(), HeldClock::default());
        clock.advance(DAY * 9);
        let faulty = FaultyStore::new(Arc::new(store.clone())).with(call, Fault::Hangs);
        let outcome = match open_hanging(&faulty, &clock).await {
            Ok(repository) => snapshot(&repository, &clock, &[("rows", noise(8, 80_000)), ("few", vec![1; 40])]).await,
            Err(error) => Err(error),
        };
        assert_named(&outcome, call);
        failed += u64::from(outcome.is_err());
        if let Ok(manifest) = outcome {
            assert!(store.keys().contains(&format!("manifests/production/{}", manifest.id)), "call {call}");
        }
        assert_sound(&store, &clock, &format!("hung at call {call}")).await;
        if faulty.calls() <= call {
            assert!(failed > 10, "{failed} calls were waited for");
            return;
        }
    }
    panic!("a snapshot makes more than {CALLS_MAX} calls");
}

#[tokio::test]
async fn a_prune_whose_store_hangs_at_any_call_ends_and_says_at_which() {
    let (base, _) = two_snapshots().await;
    for call in 0..CALLS_MAX {
        let (store, clock) = (base.fork(), HeldClock::default());
        clock.advance(DAY * 9);
        let faulty = FaultyStore::new(Arc::new(store.clone())).with(call, Fault::Hangs);
        let outcome = match open_hanging(&faulty, &clock).await {
            Ok(repository) => prune(&repository, &clock).await,
            Err(error) => Err(error),
        };
        assert_named(&outcome, call);
        assert_sound(&store, &clock, &format!("hung at call {call}")).await;
        if faulty.calls() <= call {
            return;
        }
    }
    panic!("a prune makes more than {CALLS_MAX} calls");
}
