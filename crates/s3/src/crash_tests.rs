//! A repository whose S3 server fails, stalls, loses replies and dies, at every request.

use std::cell::Cell;
use std::time::Duration;

use backstay_testkit::Meddling;

use crate::trial::{BASE, Ground, noise, small};

/// What passes: it is tried again, and nobody notices.
const PASSING: &[Meddling] = &[
    Meddling::Answers(408),
    Meddling::LosesReply,
    Meddling::Answers(429),
    Meddling::CutsReply,
    Meddling::Answers(500),
    Meddling::Cuts,
    Meddling::Answers(503),
];
/// More requests than any of the actions makes.
const REQUESTS_MAX: u64 = 500;

fn full() -> bool {
    std::env::var_os("BACKSTAY_TEST_FULL").is_some()
}

/// Every request in the long run, and every so many otherwise.
fn step(otherwise: usize) -> usize {
    if full() { 1 } else { otherwise }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_at_any_request_harms_no_snapshot_and_no_prune() {
    let ground = Ground::new().await;
    let mut request = 0;
    for case in (0..).step_by(step(31)) {
        let bucket = format!("passing-{case}");
        ground.fork(&bucket);
        let meddling = PASSING[case / step(31) % PASSING.len()];
        ground.proxy.meddle(request, meddling);
        let repository = ground.open_meddled(&bucket).await.unwrap();
        let taken = ground.snapshot(&repository, &small(8)).await;
        assert!(taken.is_ok(), "{meddling:?} at request {request}: {taken:?}");
        let pruned = ground.prune(&repository).await;
        assert!(pruned.is_ok(), "{meddling:?} at request {request}: {pruned:?}");
        let ended = ground.proxy.requests() <= request;
        ground.assert_sound(&bucket, &format!("{meddling:?} at request {request}")).await;
        request += step(31) as u64;
        if ended {
            return;
        }
        assert!(request < REQUESTS_MAX);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_stalls_is_asked_for_again() {
    let ground = Ground::new().await;
    for request in if full() { vec![1, 6, 15] } else { vec![6] } {
        let bucket = format!("stalling-{request}");
        ground.fork(&bucket);
        ground.proxy.meddle(request, Meddling::Stalls);
        let repository = ground.open_meddled(&bucket).await.unwrap();
        ground.snapshot(&repository, &small(8)).await.unwrap();
        ground.assert_sound(&bucket, &format!("stalled at request {request}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_at_any_request_of_a_snapshot_leaves_old_or_new() {
    let ground = Ground::new().await;
    for request in (0..REQUESTS_MAX).step_by(step(17)) {
        let bucket = format!("snapshot-{request}");
        ground.fork(&bucket);
        ground.proxy.die_at(request);
        let taken = match ground.open_meddled(&bucket).await {
            Ok(repository) => ground.snapshot(&repository, &small(8)).await,
            Err(error) => Err(error),
        };
        let ended = ground.proxy.requests() <= request;
        ground.proxy.behave();
        let listed = ground.open(&bucket).await.list(None).await.unwrap();
        if let Ok(manifest) = &taken {
            assert_eq!(listed[0].manifest, *manifest, "gone at request {request}");
        }
        ground.assert_sound(&bucket, &format!("gone at request {request}")).await;
        if ended {
            assert!(taken.is_ok(), "{taken:?}");
            return;
        }
    }
    panic!("a snapshot makes more than {REQUESTS_MAX} requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_at_any_request_of_a_prune_loses_nothing() {
    let ground = Ground::new().await;
    for request in (0..REQUESTS_MAX).step_by(step(17)) {
        let bucket = format!("prune-{request}");
        ground.fork(&bucket);
        ground.proxy.die_at(request);
        if let Ok(repository) = ground.open_meddled(&bucket).await {
            let _ = ground.prune(&repository).await;
        }
        let ended = ground.proxy.requests() <= request;
        ground.proxy.behave();
        ground.assert_sound(&bucket, &format!("gone at request {request}")).await;
        if ended {
            return;
        }
    }
    panic!("a prune makes more than {REQUESTS_MAX} requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_the_middle_and_started_again_has_nothing_half() {
    let ground = Ground::new().await;
    for (number, kill_after) in [6, 14, 20].into_iter().enumerate() {
        let bucket = format!("killed-{number}");
        ground.fork(&bucket);
        ground.proxy.behave();
        let ended = Cell::new(false);
        let work = async {
            let repository = ground.open_meddled(&bucket).await?;
            let worked = if number == 1 {
                ground.prune(&repository).await.map(drop)
            } else {
                ground.snapshot(&repository, &small(8)).await.map(drop)
            };
            ended.set(true);
            worked
        };
        let kill = async {
            while ground.proxy.requests() < kill_after && !ended.get() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            ground.server.kill().await;
        };
        let (worked, ()) = tokio::join!(work, kill);
        ground.server.revive().await;
        ground.assert_sound(&bucket, &format!("killed after {kill_after} requests: {worked:?}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_go_side_by_side() {
    let ground = Ground::new().await;
    let streams: Vec<_> = (0..4).map(|n| (format!("t{n}"), noise(n, 2 << 20))).collect();
    let repository = ground.open_meddled(BASE).await.unwrap();
    let lease = ground.lease(&repository).await;
    ground.proxy.behave();
    // No object is written before four wait to be: one after the other would never end.
    ground.proxy.gather(4, "/objects/");
    ground.snapshot_under(&lease, &repository, &streams).await.unwrap();
    assert!(ground.proxy.most_at_once() >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_small_tables_need_hardly_more_requests_than_fifty() {
    let ground = Ground::new().await;
    let mut needed = Vec::new();
    for tables in [50u64, 5000] {
        let bucket = format!("tables-{tables}");
        ground.fork(&bucket);
        ground.proxy.behave();
        let streams: Vec<_> = (0..tables).map(|n| (format!("t{n}"), noise(n, 200))).collect();
        let repository = ground.open_meddled(&bucket).await.unwrap();
        ground.snapshot(&repository, &streams).await.unwrap();
        needed.push(ground.proxy.requests());
    }
    println!("requests: {needed:?}");
    assert!(needed[1] <= needed[0] + 200, "{needed:?}");
}
