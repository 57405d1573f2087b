use std::sync::Arc;

use backstay_model::{Environment, SnapshotId};

use crate::trial::{self, HeldClock, environment, fresh, noise, read, snapshot};
use crate::{Error, MemoryStore, Repository, Store, check_without_key};

type Streams = [(&'static str, Vec<u8>); 3];

fn streams() -> Streams {
    // Two chunks and a list that are quick to seal.
    let large = [noise(3, 1000), vec![0; 4 << 20]].concat();
    [("large", large), ("small", noise(4, 900)), ("medium", noise(5, 100_000))]
}

async fn open(store: &MemoryStore, clock: &HeldClock) -> Repository {
    let store: Arc<dyn Store> = Arc::new(store.clone());
    trial::reopen(&store, clock).await.unwrap()
}

fn full() -> bool {
    std::env::var_os("BACKSTAY_TEST_FULL").is_some()
}

/// Every way in which one stored thing can go bad.
fn damages(store: &MemoryStore, key: &str, flips: usize) -> Vec<(String, MemoryStore)> {
    let mut damaged = Vec::new();
    let mut with = |name: String, change: &dyn Fn(Vec<u8>) -> Option<Vec<u8>>| {
        let fork = store.fork();
        fork.tamper(key, change);
        damaged.push((name, fork));
    };
    with("missing".to_owned(), &|_| None);
    with("cut".to_owned(), &|bytes| Some(bytes[..bytes.len() / 2].to_vec()));
    if full() {
        with("empty".to_owned(), &|_| Some(Vec::new()));
        with("longer".to_owned(), &|mut bytes| {
            bytes.push(0);
            Some(bytes)
        });
    }
    for flip in 0..flips {
        with(format!("flip {flip}"), &|mut bytes| {
            let bit = (flip * 7919 + 13) % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            Some(bytes)
        });
    }
    damaged
}

async fn assert_found(repository: &Repository, key: &str, wanted: &(Environment, SnapshotId), what: &str) {
    let report = repository.check(None, None, 100).await.unwrap();
    let named = report.damage.iter().find(|damage| damage.key == key);
    // A missing manifest is a snapshot that does not exist: nothing tells it from a pruned one.
    if key.starts_with("manifests/") && what == "missing" {
        assert!(report.snapshots.is_empty());
        return;
    }
    let Some(named) = named else { panic!("{what} of {key} was not found: {report:?}") };
    assert!(named.snapshots.contains(wanted), "{what} of {key} hurts nobody: {named}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_of_every_kind_is_found_named_and_healed_by_the_next_snapshot() {
    let streams = streams();
    let (store, clock, repository) = fresh().await;
    let manifest = snapshot(&repository, &clock, &streams).await.unwrap();
    let place = (environment(), manifest.id.clone());
    let flips = if full() { 500 } else { 1 };
    let keys = store.keys().into_iter().filter(|key| key.starts_with("objects/") || key.starts_with("manifests/"));
    for key in keys.collect::<Vec<_>>() {
        for (what, damaged) in damages(&store, &key, flips) {
            let repository = open(&damaged, &clock).await;
            assert_found(&repository, &key, &place, &what).await;
            if key.starts_with("manifests/") {
                continue;
            }
            if let Err(Error::Damaged(damage)) = read(&repository, &manifest).await {
                assert_eq!((&damage.key, &damage.snapshots[..]), (&key, std::slice::from_ref(&place)), "{what}");
            }
            let report = repository.check(None, None, 100).await.unwrap();
            repository.add_check_verdicts(&report, &trial::run(&clock)).await.unwrap();
            assert!(!repository.list(None).await.unwrap()[0].is_proven());
            let again = snapshot(&repository, &clock, &streams).await.unwrap();
            let found = read(&repository, &again).await.unwrap();
            assert!(streams.iter().all(|(name, bytes)| found[*name] == *bytes), "{what} of {key}");
            assert!(repository.check(Some(&environment()), Some(&again.id), 100).await.unwrap().is_good());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_objects_are_found_with_and_without_a_key() {
    let (store, clock, repository) = fresh().await;
    let manifest = snapshot(&repository, &clock, &streams()).await.unwrap();
    let objects: Vec<_> = store.keys().into_iter().filter(|key| key.starts_with("objects/")).collect();
    for pair in objects.windows(2) {
        let swapped = store.fork();
        let (one, other) = (store.get(&pair[0]).await.unwrap(), store.get(&pair[1]).await.unwrap());
        swapped.tamper(&pair[0], |_| Some(other.to_vec()));
        swapped.tamper(&pair[1], |_| Some(one.to_vec()));
        let repository = open(&swapped, &clock).await;
        let place = (environment(), manifest.id.clone());
        let report = repository.check(None, None, 100).await.unwrap();
        // Where the record of what is reached is itself swapped, that is all there is to be found.
        assert!(report.damage.iter().any(|damage| pair.contains(&damage.key) && damage.snapshots.contains(&place)));
        let without: Arc<dyn Store> = Arc::new(swapped);
        let report = check_without_key(&without).await.unwrap();
        assert_eq!(report.damage.iter().map(|damage| &damage.key).collect::<Vec<_>>(), pair.iter().collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_pins_and_verdicts_cannot_be_moved_to_another_name() {
    let (store, clock, repository) = fresh().await;
    let one = snapshot(&repository, &clock, &streams()).await.unwrap();
    let two = snapshot(&repository, &clock, &[("rows", vec![7; 9])]).await.unwrap();
    let key = |id: &SnapshotId| format!("manifests/production/{id}");
    let older = store.get(&key(&one.id)).await.unwrap();
    store.tamper(&key(&two.id), |_| Some(older.to_vec()));
    let error = repository.entry(&environment(), &two.id).await.unwrap_err();
    assert_eq!(error.damage().unwrap().snapshots, [(environment(), two.id.clone())]);
    let listing = repository.listing(None).await.unwrap();
    assert_eq!(listing.entries.len(), 1);
    assert_eq!(listing.damage[0].key, key(&two.id), "a damaged manifest is not passed over in silence");
    repository.entry(&environment(), &one.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_reads_a_share_and_every_manifest() {
    let (_, clock, repository) = fresh().await;
    snapshot(&repository, &clock, &[("large", noise(9, 6 << 20))]).await.unwrap();
    let all = repository.check(None, None, 100).await.unwrap();
    let none = repository.check(None, None, 0).await.unwrap();
    assert!(all.is_good() && none.is_good());
    assert_eq!(all.left_out, 0);
    assert!(none.bytes < all.bytes && none.left_out > 0);
}
