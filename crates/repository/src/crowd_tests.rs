//! Two writers and a prune at once, over a store that fails now and then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backstay_model::{Manifest, Silent, SnapshotId};

use crate::retention::Policy;
use crate::trial::{self, HeldClock, environment, fresh, noise, read, run, snapshot};
use crate::{Error, Fault, FaultyStore, LateStore, Repository, Store};

const ROUNDS: u64 = 6;
/// What a store that keeps its contract may do to a call.
const FAULTS: &[Fault] = &[Fault::Fails, Fault::LosesReply, Fault::Repeats, Fault::Refuses];

type Streams = Vec<(&'static str, Vec<u8>)>;

/// Of few contents, so that what one round lets go of the next may want again.
fn streams(seed: u64) -> Streams {
    vec![
        ("rows", noise(seed % 3, 70_000)),
        ("more", noise(10 + seed / 3 % 4, 90_000)),
        ("small", noise(20 + seed % 5, 300)),
    ]
}

async fn opened(store: &Arc<dyn Store>, clock: &HeldClock, seed: u64) -> Result<Repository, Error> {
    let faulty = FaultyStore::new(Arc::clone(store)).seeded(seed, 60, FAULTS);
    let store: Arc<dyn Store> = Arc::new(faulty);
    trial::reopen(&store, clock).await
}

async fn write(store: &Arc<dyn Store>, clock: &HeldClock, seed: u64) -> Result<(Manifest, Streams), Error> {
    let streams = streams(seed);
    let manifest = snapshot(&opened(store, clock, seed).await?, clock, &streams).await?;
    Ok((manifest, streams))
}

async fn prune(store: &Arc<dyn Store>, clock: &HeldClock, seed: u64) -> Result<u64, Error> {
    let repository = opened(store, clock, seed).await?;
    let policies = [(environment(), Policy { keep_last: 2, ..Policy::days(0) })].into();
    let plan = repository.plan_prune(&policies).await?;
    let pruned = repository.prune(&plan, &run(clock), false, Duration::ZERO, &Silent).await?;
    Ok(pruned.deleted)
}

/// What became of a seed: snapshots taken, objects deleted.
async fn crowd(seed: u64, lateness_max: u64) -> (usize, u64) {
    let (memory, clock, repository) = fresh().await;
    let late = LateStore::new(Arc::new(memory.clone()), seed, lateness_max);
    let store: Arc<dyn Store> = Arc::new(late.clone());
    let mut written: BTreeMap<SnapshotId, Streams> = BTreeMap::new();
    let mut deleted = 0;
    for round in 0..ROUNDS {
        let own = |actor: u64| (seed * 1000 + round * 10 + actor).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8;
        let (one, other, gone) =
            tokio::join!(write(&store, &clock, own(1)), write(&store, &clock, own(2)), prune(&store, &clock, own(3)));
        let again = prune(&store, &clock, own(4)).await;
        deleted += gone.unwrap_or_default() + again.unwrap_or_default();
        for (manifest, streams) in [one, other].into_iter().flatten() {
            assert!(written.insert(manifest.id.clone(), streams).is_none(), "seed {seed}: an id given twice");
        }
        // All are done with; a lease whose end failed would be stale long before the next round.
        late.settle();
        for key in memory.keys().into_iter().filter(|key| key.starts_with("leases/")) {
            memory.tamper(&key, |_| None);
        }
        let report = repository.check(None, None, 100).await.unwrap();
        assert!(report.is_good(), "seed {seed}, round {round}: {report:?}");
        let listed = repository.list(None).await.unwrap();
        // Whatever prune removed, it was not the newest.
        let newest = listed.first().map(|entry| &entry.manifest.id);
        assert!(written.keys().next_back() <= newest, "seed {seed}, round {round}: {newest:?} is the newest");
        for entry in listed {
            let Some(wanted) = written.get(&entry.manifest.id) else { continue };
            let found = read(&repository, &entry.manifest).await.unwrap();
            assert!(wanted.iter().all(|(name, bytes)| found[*name] == *bytes), "seed {seed}, round {round}");
        }
        clock.advance(Duration::from_secs(25 * 3600));
    }
    (written.len(), deleted)
}

async fn assert_nothing_lost(lateness_max: impl Fn(u64) -> u64) {
    let seeds = if std::env::var_os("BACKSTAY_TEST_FULL").is_some() { 500 } else { 8 };
    let (mut taken, mut deleted) = (0, 0);
    for seed in 0..seeds {
        let (more, gone) = crowd(seed, lateness_max(seed)).await;
        taken += more;
        deleted += gone;
    }
    println!("{seeds} seeds: {taken} snapshots taken, {deleted} objects deleted");
    assert!(taken > 0 && deleted > 0, "{taken} snapshots taken, {deleted} objects deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_and_a_prune_at_once_lose_nothing_that_was_committed() {
    assert_nothing_lost(|_| 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_do_they_where_listings_show_late_what_is_new() {
    // So many calls of anybody a listing may lag behind.
    assert_nothing_lost(|seed| 15 << (seed % 5)).await;
}
