use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backstay_model::{Examination, Judgement, RunRecord, Silent, Verdict};

use crate::retention::{Policy, PrunePlan};
use crate::trial::{self, HeldClock, environment, fresh, noise, read, run, snapshot};
use crate::{Error, FaultyStore, Repository, Store};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn policies() -> BTreeMap<backstay_model::Environment, Policy> {
    [(environment(), Policy { keep_last: 1, ..Policy::days(0) })].into()
}

async fn prune(repository: &Repository, clock: &HeldClock) -> crate::Pruned {
    let plan = repository.plan_prune(&policies()).await.unwrap();
    repository.prune(&plan, &run(clock), false, Duration::ZERO, &Silent).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_reaches_goes_a_day_after_its_manifest() {
    let (store, clock, repository) = fresh().await;
    let shared = noise(1, 200_000);
    for (round, bytes) in [(2, 3 << 20), (3, 2 << 20)] {
        clock.advance(DAY);
        snapshot(&repository, &clock, &[("shared", shared.clone()), ("own", noise(round, bytes))]).await.unwrap();
    }
    clock.advance(DAY);
    let before = store.bytes();
    let plan = repository.plan_prune(&policies()).await.unwrap();
    let keys = store.keys();
    let dry = repository.prune(&plan, &run(&clock), true, Duration::ZERO, &Silent).await.unwrap();
    assert_eq!(store.keys(), keys, "a dry run leaves everything as it was");
    let first = prune(&repository, &clock).await;
    assert_eq!((first.manifests.len(), first.deleted), (1, 0));
    assert_eq!((&dry.manifests, dry.condemned), (&first.manifests, first.condemned));
    assert!(first.condemned > 0);
    clock.advance(DAY / 2);
    let plan = repository.plan_prune(&policies()).await.unwrap();
    let dry = repository.prune(&plan, &run(&clock), true, Duration::ZERO, &Silent).await.unwrap();
    assert_eq!(dry, crate::Pruned::default(), "what is condemned already is not counted again");
    assert_eq!(prune(&repository, &clock).await.deleted, 0, "not before a day has passed");
    clock.advance(DAY);
    let dry = repository.prune(&plan, &run(&clock), true, Duration::ZERO, &Silent).await.unwrap();
    let last = prune(&repository, &clock).await;
    assert_eq!(dry, last);
    assert_eq!(last.deleted, first.condemned);
    assert!(store.bytes() < before - (2 << 20));
    let kept = repository.list(None).await.unwrap();
    assert_eq!(read(&repository, &kept[0].manifest).await.unwrap()["shared"], shared);
    assert!(repository.check(None, None, 100).await.unwrap().is_good());
    assert!(!store.keys().iter().any(|key| key.starts_with("condemned/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_condemned_and_is_wanted_again_stays() {
    let (_, clock, repository) = fresh().await;
    let (old, new) = (noise(1, 300_000), noise(2, 300_000));
    let first = snapshot(&repository, &clock, &[("rows", old.clone())]).await.unwrap();
    clock.advance(DAY);
    snapshot(&repository, &clock, &[("rows", new)]).await.unwrap();
    clock.advance(DAY);
    assert_eq!(prune(&repository, &clock).await.manifests, [(environment(), first.id)]);
    clock.advance(DAY);
    let again = snapshot(&repository, &clock, &[("rows", old.clone())]).await.unwrap();
    clock.advance(DAY);
    prune(&repository, &clock).await;
    assert_eq!(read(&repository, &again).await.unwrap()["rows"], old);
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_live_runs_and_pins_are_kept_from_what_the_repository_knows() {
    let (_, clock, repository) = fresh().await;
    let mut taken = Vec::new();
    for round in 0..6 {
        clock.advance(DAY);
        taken.push(snapshot(&repository, &clock, &[("rows", noise(round, 100))]).await.unwrap().id);
    }
    let record = |command: &str, snapshot: usize, before: Option<usize>, ended_at| RunRecord {
        before: before.map(|before| taken[before].clone()),
        began_at: trial::at("20251028_153000"),
        ..trial::run_record(&clock, command, &taken[snapshot], ended_at)
    };
    let ended = Some(trial::at("20251028_153500"));
    repository.put_run(&record("restore", 0, Some(1), ended)).await.unwrap();
    repository.put_run(&record("restore", 2, None, None)).await.unwrap();
    repository.pin(&environment(), &taken[3], "before the migration").await.unwrap();
    let plan = repository.plan_prune(&policies()).await.unwrap();
    let removed: Vec<_> = plan.removed().map(|decision| decision.id.clone()).collect();
    assert_eq!(removed, [taken[4].clone()]);
    // A deploy that was kept: its snapshot is the way back to the release before it.
    clock.advance(DAY);
    repository.put_run(&record("guard", 4, None, ended)).await.unwrap();
    let plan = repository.plan_prune(&policies()).await.unwrap();
    assert_eq!(plan.removed().count(), 0, "{plan:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_release_that_a_restore_brought_back_is_kept_though_nobody_knew_what_ran_before() {
    let (_, clock, repository) = fresh().await;
    let first = snapshot(&repository, &clock, &[("rows", vec![1])]).await.unwrap();
    clock.advance(DAY);
    snapshot(&repository, &clock, &[("rows", vec![2])]).await.unwrap();
    let now = backstay_model::Clock::now(&clock);
    let record = trial::run_record(&clock, "restore", &first.id, Some(now));
    repository.put_run(&record).await.unwrap();
    clock.advance(DAY);
    assert_eq!(repository.plan_prune(&policies()).await.unwrap().removed().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_would_remove_everything_is_refused() {
    let (_, clock, repository) = fresh().await;
    snapshot(&repository, &clock, &[("rows", vec![1])]).await.unwrap();
    clock.advance(DAY);
    let nothing = [(environment(), Policy { keep_last: 0, ..Policy::days(0) })].into();
    let plan = repository.plan_prune(&nothing).await;
    assert!(matches!(plan, Err(Error::WouldRemoveEverything { .. })), "{plan:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_or_list_stops_prune_before_it_deletes() {
    let (store, clock, repository) = fresh().await;
    for round in 0..2 {
        snapshot(&repository, &clock, &[("rows", noise(round, 100_000))]).await.unwrap();
        clock.advance(DAY);
    }
    let newest = repository.list(None).await.unwrap()[0].manifest.id.clone();
    store.tamper(&format!("manifests/production/{newest}"), |mut bytes| {
        bytes[30] ^= 1;
        Some(bytes)
    });
    assert!(matches!(repository.plan_prune(&policies()).await, Err(Error::Damaged(_))));
    let pruned = repository.prune(&PrunePlan::default(), &run(&clock), false, Duration::ZERO, &Silent).await;
    assert!(matches!(pruned, Err(Error::Damaged(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_reads_no_chunk_of_any_stream() {
    let (store, clock, _) = fresh().await;
    let logged = FaultyStore::new(Arc::new(store.clone()));
    let shared: Arc<dyn Store> = Arc::new(logged.clone());
    let repository = trial::reopen(&shared, &clock).await.unwrap();
    for round in 0..3 {
        snapshot(&repository, &clock, &[("rows", noise(round, 3 << 20)), ("small", noise(round, 50))]).await.unwrap();
        clock.advance(DAY);
    }
    let largest = store.list("objects").await.unwrap().into_iter().filter(|object| object.bytes > 200_000);
    let chunks: Vec<_> = largest.map(|object| format!("get {}", object.key)).collect();
    let before = logged.log().len();
    prune(&repository, &clock).await;
    assert!(!chunks.is_empty());
    assert!(logged.log()[before..].iter().all(|call| !chunks.contains(call)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_clock_far_ahead_condemned_is_deleted_a_day_after_the_next_prune() {
    let (store, clock, repository) = fresh().await;
    for round in 0..2 {
        clock.advance(DAY);
        snapshot(&repository, &clock, &[("rows", noise(round, 100_000))]).await.unwrap();
    }
    clock.advance(DAY);
    prune(&repository, &clock).await;
    let key = store.keys().into_iter().find(|key| key.starts_with("condemned/")).unwrap();
    let condemned: crate::reuse::Condemned = repository.record(&key).await.unwrap().unwrap();
    let count = condemned.objects.len() as u64;
    let ahead = condemned.at + chrono::TimeDelta::days(3000);
    repository.put_record(&key, &crate::reuse::Condemned { at: ahead, ..condemned }).await.unwrap();
    clock.advance(DAY * 2);
    assert_eq!(prune(&repository, &clock).await.deleted, 0);
    clock.advance(DAY * 2);
    assert_eq!(prune(&repository, &clock).await.deleted, count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_list_of_condemned_objects_stops_no_snapshot() {
    let (store, clock, repository) = fresh().await;
    for round in 0..2 {
        clock.advance(DAY);
        snapshot(&repository, &clock, &[("rows", noise(round, 100_000))]).await.unwrap();
    }
    prune(&repository, &clock).await;
    let key = store.keys().into_iter().find(|key| key.starts_with("condemned/")).unwrap();
    store.tamper(&key, |bytes| Some(bytes[..bytes.len() - 1].to_vec()));
    clock.advance(DAY);
    snapshot(&repository, &clock, &[("rows", noise(1, 100_000))]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_many_snapshots_reads_each_run_but_a_few_times() {
    let (store, clock, _) = fresh().await;
    let logged = FaultyStore::new(Arc::new(store.clone()));
    let shared: Arc<dyn Store> = Arc::new(logged.clone());
    let repository = trial::reopen(&shared, &clock).await.unwrap();
    for round in 0..20 {
        clock.advance(DAY);
        let taken = snapshot(&repository, &clock, &[("rows", noise(round, 100))]).await.unwrap();
        let ended = Some(trial::at("20251028_153500"));
        let record = trial::run_record(&clock, "snapshot", &taken.id, ended);
        repository.put_run(&record).await.unwrap();
    }
    let before = logged.log().len();
    assert_eq!(prune(&repository, &clock).await.manifests.len(), 19);
    let reads = logged.log()[before..].iter().filter(|call| call.starts_with("get runs/")).count();
    assert!(reads <= 2 * 20, "{reads} reads of 20 runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_finds_no_damage_takes_no_proofs_word_away_and_pushes_no_proven_one_out() {
    let (_, clock, repository) = fresh().await;
    let mut taken = Vec::new();
    for round in 0..4 {
        clock.advance(DAY);
        taken.push(snapshot(&repository, &clock, &[("rows", noise(round, 100))]).await.unwrap().id);
    }
    let unproven = Judgement::DoesNotProve { findings: vec!["public.orders has 3 rows and had 4".to_owned()] };
    for (snapshot, judgement) in [(0, Judgement::Good), (1, unproven)] {
        let verdict = Verdict {
            environment: environment(),
            snapshot: taken[snapshot].clone(),
            examination: Examination::Prove,
            judgement,
            at: backstay_model::Clock::now(&clock),
            run: run(&clock),
            host: "web1".to_owned(),
        };
        repository.add_verdict(verdict).await.unwrap();
    }
    let report = repository.check(None, None, 100).await.unwrap();
    repository.add_check_verdicts(&report, &run(&clock)).await.unwrap();
    let proven: Vec<_> = repository.list(None).await.unwrap().iter().map(crate::Entry::is_proven).collect();
    assert_eq!(proven, [true, true, false, true], "newest first: what did not restore does not by a check");
    clock.advance(DAY);
    let plan = repository.plan_prune(&policies()).await.unwrap();
    let removed: Vec<_> = plan.removed().map(|decision| &decision.id).collect();
    assert_eq!(removed, [&taken[2], &taken[1]], "the only one that was restored stays: {plan:?}");
}
