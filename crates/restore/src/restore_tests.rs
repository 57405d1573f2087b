use std::collections::BTreeSet;
use std::time::Duration;

use backstay_model::{Outcome, PartKind, Purpose};
use backstay_part::Site;
use backstay_part::fakes::SICK;
use backstay_repository::LeasePurpose;

use crate::ground::{Ground, Host, planned, restore, restore_with, snapshot};
use crate::{Choices, Error, Wish, execute, history, settle, status, undo};

const OLD: [&str; 3] = ["rows of today", "image 2", "config 2"];
const NEW: [&str; 3] = ["rows of then", "image 1", "config 1"];

#[tokio::test]
async fn a_restore_brings_the_whole_release_back_and_keeps_what_it_replaced() {
    let ground = Ground::with_release(NEW, OLD).await;
    let restored = ground.calmly(Host::One, restore).await.unwrap();
    assert_eq!(restored.outcome, Outcome::Done);
    let sight = ground.look();
    assert_eq!(sight.live.values().map(String::as_str).collect::<Vec<_>>(), [NEW[0], NEW[2], NEW[1]]);
    assert_eq!(sight.running.as_ref(), Some(&sight.live));
    assert_eq!(sight.kept.len(), 3);
    assert!(sight.staged.is_empty());
    assert_eq!(restored.kept.len(), 3);
}

#[tokio::test]
async fn an_unhealthy_release_is_taken_back_or_kept_by_choice() {
    let ground = Ground::with_release([NEW[0], SICK, NEW[2]], OLD).await;
    let kept = ground.fork();
    let restored = ground.calmly(Host::One, restore).await.unwrap();
    assert_eq!(restored.outcome, Outcome::TakenBack);
    assert_eq!(ground.look().live["images"], OLD[1]);
    let choices = Choices { keep_unhealthy: true, ..Choices::default() };
    let restored = kept.calmly(Host::One, async |site: &Site<'_>| restore_with(site, &choices).await);
    assert_eq!(restored.await.unwrap().outcome, Outcome::Done);
    assert_eq!(kept.look().live["images"], SICK);
}

#[tokio::test]
async fn a_plan_whose_basis_moved_is_refused_and_rows_are_no_basis() {
    let ground = Ground::with_release(NEW, OLD).await;
    let moved = ground.fork();
    let refused = moved.calmly(Host::One, async |site: &Site<'_>| {
        let (source, plan) = planned(site, &Wish::default()).await.unwrap();
        moved.world.deploy("images", "image 3");
        execute(site, &source, &plan, &Choices::default()).await
    });
    let error = refused.await.unwrap_err();
    assert!(matches!(&error, Error::Moved { parts } if parts[0].as_str() == "images"), "{error}");
    assert_eq!(moved.look().live["images"], "image 3");
    let done = ground.calmly(Host::One, async |site: &Site<'_>| {
        let (source, plan) = planned(site, &Wish::default()).await.unwrap();
        ground.world.write_rows("database", 7);
        execute(site, &source, &plan, &Choices::default()).await
    });
    let restored = done.await.unwrap();
    assert_eq!((restored.outcome, restored.loss.unwrap().rows()), (Outcome::Done, 7));
}

async fn undo_newest(site: &Site<'_>) -> crate::Restored {
    undo(site, None, &Choices::default()).await.unwrap()
}

#[tokio::test]
async fn an_undo_can_be_undone_and_history_only_grows() {
    let ground = Ground::with_release(NEW, OLD).await;
    let first = ground.look();
    ground.calmly(Host::One, restore).await.unwrap();
    let second = ground.look();
    // Another host has no journal of the restore, and undoes it all the same.
    let undone = ground.calmly(Host::Other, undo_newest).await;
    assert_eq!((undone.outcome, &ground.look().live), (Outcome::Done, &first.live));
    ground.calmly(Host::One, undo_newest).await;
    assert_eq!(ground.look().live, second.live);
    let runs = ground.calmly(Host::One, async |site: &Site<'_>| history(site).await.unwrap()).await;
    let commands: Vec<&str> = runs.iter().rev().map(|run| run.command.as_str()).collect();
    assert_eq!(commands, ["snapshot", "restore", "undo", "undo"]);
    assert_eq!(runs[0].undoes.as_ref(), Some(&runs[1].id));
    assert_eq!(runs[0].snapshot, runs[2].snapshot, "the snapshot behind what runs again");
    let status = ground.calmly(Host::One, async |site: &Site<'_>| status(site).await.unwrap()).await;
    assert_eq!(status.kept.iter().map(|kept| &kept.run).collect::<Vec<_>>(), [&runs[0].id]);
    assert_eq!(status.running.snapshot, runs[2].snapshot);
}

#[tokio::test]
async fn settling_captures_what_it_lets_go_of_and_then_there_is_nothing_to_undo() {
    let ground = Ground::with_release(NEW, OLD).await;
    ground.calmly(Host::One, restore).await.unwrap();
    let settled = ground.calmly(Host::One, async |site: &Site<'_>| settle(site, None, false).await.unwrap()).await;
    assert!(ground.look().kept.is_empty());
    ground
        .calmly(Host::One, async |site: &Site<'_>| {
            let error = undo(site, None, &Choices::default()).await.unwrap_err();
            assert!(matches!(error, Error::NothingToUndo), "{error}");
            // What was let go can still be brought back.
            let entry = site.repository.entry(&site.context.environment, &settled.safety[0]).await.unwrap();
            assert_eq!(entry.manifest.purpose, Purpose::Safety);
            let source = crate::Source::open(site.repository, &entry).await.unwrap();
            let plan = crate::plan(site, &source, &Wish::default()).await.unwrap();
            execute(site, &source, &plan, &Choices::default()).await.unwrap();
        })
        .await;
    assert_eq!(ground.look().live["database"], OLD[0]);
}

#[tokio::test]
async fn the_copy_that_writers_had_meanwhile_goes_only_when_told_to() {
    let ground = Ground::with_release([NEW[0], SICK, NEW[2]], OLD).await;
    let restored = ground.calmly(Host::One, restore).await.unwrap();
    assert_eq!(restored.outcome, Outcome::TakenBack);
    assert_eq!(ground.look().staged.len(), 1);
    ground
        .calmly(Host::One, async |site: &Site<'_>| {
            let error = settle(site, None, false).await.unwrap_err();
            assert!(matches!(error, Error::OnlyCopy { .. }), "{error}");
            settle(site, None, true).await.unwrap();
        })
        .await;
    assert!(ground.look().staged.is_empty());
}

#[tokio::test]
async fn too_much_loss_stops_before_the_fence_and_what_came_meanwhile_is_taken_back() {
    let ground = Ground::with_release(NEW, OLD).await;
    ground.world.write_rows("database", 5);
    let before = ground.look();
    let late = ground.fork();
    let choices = Choices { max_loss: Some(4), ..Choices::default() };
    let refused = ground.calmly(Host::One, async |site: &Site<'_>| restore_with(site, &choices).await).await;
    assert!(matches!(refused, Err(Error::TooMuchLoss { rows: 5, max: 4 })));
    assert_eq!(ground.look(), before);
    // Five are allowed, and while the copy is staged a sixth comes.
    let choices = Choices { max_loss: Some(5), ..Choices::default() };
    let world = late.world.clone();
    let at_stage = backstay_run::fakes::Trip::Meanwhile(Box::new(move || world.write_rows("database", 1)));
    let names = {
        let wire = backstay_run::fakes::Tripwire::default();
        late.fork().act(Host::One, &wire, async |site: &Site<'_>| restore_with(site, &choices).await).await;
        wire.points()
    };
    let stage = names.iter().position(|name| name == "part: before stage files").unwrap();
    let wire = backstay_run::fakes::Tripwire::at(stage, at_stage);
    let restored = late.act(Host::One, &wire, async |site: &Site<'_>| restore_with(site, &choices).await).await;
    assert_eq!(restored.unwrap().unwrap().outcome, Outcome::TakenBack);
    assert_eq!(late.look(), before);
}

#[tokio::test]
async fn users_wait_for_no_count_unless_a_limit_was_set() {
    let (start, count) = ("workload: before start", "part: before count database");
    for (max_loss, first) in [(None, start), (Some(9), count)] {
        let ground = Ground::with_release(NEW, OLD).await;
        ground.world.write_rows("database", 5);
        let (wire, choices) = (backstay_run::fakes::Tripwire::default(), Choices { max_loss, ..Choices::default() });
        let restored = ground.act(Host::One, &wire, async |site: &Site<'_>| restore_with(site, &choices).await).await;
        assert_eq!(restored.unwrap().unwrap().loss.unwrap().rows(), 5);
        let points = wire.points();
        assert!(points.iter().any(|point| point == start) && points.iter().any(|point| point == count), "{points:?}");
        assert_eq!(points.iter().find(|point| [start, count].contains(&point.as_str())).unwrap(), first);
    }
}

#[tokio::test]
async fn the_depth_follows_the_schema() {
    let ground = Ground::with_release(NEW, OLD).await;
    let alone = Wish { only: Some(BTreeSet::from([PartKind::Images, PartKind::Files])), ..Wish::default() };
    let (_, whole) =
        ground.calmly(Host::One, async |site: &Site<'_>| planned(site, &Wish::default()).await.unwrap()).await;
    assert_eq!(whole.depth.enough, alone.only, "the schema is as captured, so images and files are enough");
    ground.world.migrate("database", 2);
    let (_, whole) =
        ground.calmly(Host::One, async |site: &Site<'_>| planned(site, &Wish::default()).await.unwrap()).await;
    assert_eq!((whole.depth.enough.as_ref(), whole.depth.data_must_go_back.len()), (None, 1));
    let forced = Wish { on_other_schema: true, ..alone.clone() };
    ground
        .calmly(Host::One, async |site: &Site<'_>| {
            let (source, plan) = planned(site, &alone).await.unwrap();
            let error = execute(site, &source, &plan, &Choices::default()).await.unwrap_err();
            assert!(matches!(error, Error::Refused { .. }), "{error}");
            let (source, plan) = planned(site, &forced).await.unwrap();
            let restored = execute(site, &source, &plan, &Choices::default()).await.unwrap();
            assert_eq!(restored.outcome, Outcome::Done);
        })
        .await;
    let live = ground.look().live;
    assert_eq!((live["database"].as_str(), live["images"].as_str()), (OLD[0], NEW[1]));
}

#[tokio::test]
async fn a_plan_reads_back_from_json_and_changes_nothing() {
    let ground = Ground::with_release(NEW, OLD).await;
    let (before, keys) = (ground.look(), ground.store.keys());
    let (_, plan) =
        ground.calmly(Host::One, async |site: &Site<'_>| planned(site, &Wish::default()).await.unwrap()).await;
    assert_eq!((ground.look(), ground.store.keys()), (before, keys));
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<crate::Plan>(&text).unwrap(), plan);
}

#[tokio::test]
async fn of_two_restores_at_once_one_is_told_who_is_at_work() {
    let ground = Ground::with_release(NEW, OLD).await;
    let (one, other) = tokio::join!(ground.calmly(Host::One, restore), ground.calmly(Host::Other, restore));
    let done = [&one, &other].into_iter().filter(|told| told.is_ok()).count();
    for error in [&one, &other].into_iter().filter_map(|told| told.as_ref().err()) {
        let chain = backstay_model::with_causes(error);
        assert!(chain.contains("holds") || matches!(error, Error::Moved { .. }), "{chain}");
    }
    let sight = ground.look();
    assert_eq!((sight.running.as_ref(), sight.staged.len()), (Some(&sight.live), 0));
    // Who came when the other was done found nothing left to switch; two that met may both step back.
    assert_eq!(sight.kept.len(), if done > 0 { 3 } else { 0 });
}

#[tokio::test]
async fn a_snapshot_may_go_on_beside_a_restore_and_prune_may_not() {
    let ground = Ground::with_release(NEW, OLD).await;
    ground
        .calmly(Host::One, async |site: &Site<'_>| {
            let silent = backstay_model::Silent;
            let run = "20251022_120000_0001".parse().unwrap();
            let held = site.repository.lease(LeasePurpose::Prune, &run, Duration::ZERO, &silent).await.unwrap();
            assert!(matches!(restore(site).await, Err(Error::Run(_))));
            held.release().await;
            let held = site.repository.lease(LeasePurpose::Write, &run, Duration::ZERO, &silent).await.unwrap();
            assert_eq!(restore(site).await.unwrap().outcome, Outcome::Done);
            held.release().await;
        })
        .await;
    let status = ground.calmly(Host::One, async |site: &Site<'_>| {
        let entry = snapshot(site).await;
        (entry.manifest.id, status(site).await.unwrap())
    });
    let (newest, status) = status.await;
    assert_eq!(status.running.snapshot, Some(newest), "a snapshot since the restore is behind what runs");
}
