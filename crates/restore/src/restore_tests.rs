use backstay_model::Outcome;
use backstay_part::Site;
use backstay_part::fakes::SICK;

use crate::ground::{Ground, Host, planned, restore, restore_with};
use crate::{Choices, Error, Wish, execute};

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
