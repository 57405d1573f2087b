use std::sync::Arc;
use std::time::Duration;

use backstay_model::{Clock, Examination, Judgement, RunId, RunRecord, Verdict};

use crate::trial::{self, HeldClock, environment, fresh, noise, read, run, snapshot};
use crate::{MemoryStore, Repository, Store};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn flip(store: &MemoryStore, key: &str) {
    store.tamper(key, |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Some(bytes)
    });
}

async fn other(store: &MemoryStore, clock: &HeldClock) -> Repository {
    let store: Arc<dyn Store> = Arc::new(store.clone());
    trial::reopen(&store, clock).await.unwrap()
}

#[tokio::test]
async fn one_damaged_manifest_hides_no_other_snapshot_and_is_named() {
    let (store, clock, repository) = fresh().await;
    let mut ids = Vec::new();
    for round in 0..3 {
        clock.advance(DAY);
        ids.push(snapshot(&repository, &clock, &[("rows", noise(round, 100))]).await.unwrap().id);
    }
    flip(&store, &format!("manifests/production/{}", ids[1]));
    let listing = repository.listing(None).await.unwrap();
    let found: Vec<_> = listing.entries.iter().map(|entry| entry.manifest.id.clone()).collect();
    assert_eq!(found, [ids[2].clone(), ids[0].clone()]);
    assert_eq!(listing.damage.len(), 1);
    assert_eq!(listing.damage[0].snapshots, [(environment(), ids[1].clone())]);
}

#[tokio::test]
async fn a_damaged_verdict_proves_nothing_and_the_next_one_replaces_it() {
    let (store, clock, repository) = fresh().await;
    let taken = snapshot(&repository, &clock, &[("rows", noise(1, 100))]).await.unwrap();
    let report = repository.check(None, None, 100).await.unwrap();
    repository.add_check_verdicts(&report, &run(&clock)).await.unwrap();
    assert!(repository.list(None).await.unwrap()[0].is_proven());
    let verdict = store.keys().into_iter().find(|key| key.starts_with("verdicts/")).unwrap();
    flip(&store, &verdict);
    let listing = repository.listing(None).await.unwrap();
    assert!(!listing.entries[0].is_proven());
    assert_eq!((&listing.damage[0].key, &listing.damage[0].snapshots[0].1), (&verdict, &taken.id));
    // What was found of the old verdict is recorded as a new one, and decides from then on.
    for good in [false, true] {
        clock.advance(DAY);
        let report = repository.check(None, None, 100).await.unwrap();
        assert_eq!(report.is_good(), good);
        repository.add_check_verdicts(&report, &run(&clock)).await.unwrap();
    }
    assert!(repository.listing(None).await.unwrap().damage.is_empty());
    assert!(repository.list(None).await.unwrap()[0].is_proven());
}

/// A host whose clock runs ahead found it good; one whose clock is right, and behind that, finds it damaged.
#[tokio::test]
async fn the_verdict_given_last_is_the_newest_whatever_the_clocks_say() {
    let (store, ahead, repository) = fresh().await;
    ahead.advance(DAY * 30);
    let streams = [("rows", noise(1, 200_000))];
    let taken = snapshot(&repository, &ahead, &streams).await.unwrap();
    let report = repository.check(None, None, 100).await.unwrap();
    repository.add_check_verdicts(&report, &run(&ahead)).await.unwrap();
    let right = HeldClock::default();
    let repository = other(&store, &right).await;
    let largest = store.list("objects").await.unwrap().into_iter().max_by_key(|object| object.bytes).unwrap();
    flip(&store, &largest.key);
    let report = repository.check(None, None, 100).await.unwrap();
    repository.add_check_verdicts(&report, &run(&right)).await.unwrap();
    assert!(!repository.list(None).await.unwrap()[0].is_proven());
    // And what it found is not taken for present by the next snapshot.
    let again = snapshot(&repository, &right, &streams).await.unwrap();
    assert!(again.id > taken.id);
    assert_eq!(read(&repository, &again).await.unwrap()["rows"], streams[0].1);
}

#[tokio::test]
async fn verdicts_of_one_moment_are_told_apart() {
    let (_, clock, repository) = fresh().await;
    let taken = snapshot(&repository, &clock, &[("rows", noise(1, 100))]).await.unwrap();
    for judgement in [Judgement::Good, Judgement::DoesNotProve { findings: vec!["a row".to_owned()] }] {
        let verdict = Verdict {
            environment: environment(),
            snapshot: taken.id.clone(),
            examination: Examination::Prove,
            judgement,
            at: clock.now(),
            run: run(&clock),
            host: "web1".to_owned(),
        };
        repository.add_verdict(verdict).await.unwrap();
    }
    assert!(!repository.list(None).await.unwrap()[0].is_proven());
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_one_second_stand_in_the_order_in_which_they_began() {
    let (_, clock, repository) = fresh().await;
    let id = snapshot(&repository, &clock, &[("rows", vec![1])]).await.unwrap().id;
    let began = trial::at("20251028_153000");
    for (number, salt) in [(1, 3), (2, 9), (3, 1)] {
        let record = RunRecord {
            id: RunId::new(began, salt),
            began_at: began + chrono::TimeDelta::milliseconds(number),
            remark: Some(number.to_string()),
            ..trial::run_record(&clock, "migrate run", &id, None)
        };
        repository.put_run(&record).await.unwrap();
    }
    let runs = repository.runs(&environment()).await.unwrap();
    let order: Vec<_> = runs.into_iter().filter_map(|run| run.remark).collect();
    assert_eq!(order, ["3", "2", "1"]);
}
