//! Deploys of the shop on the real engine, while customers order: each way in which one goes wrong, and what is so
//! afterwards.

use std::process::Stdio;
use std::sync::Arc;

use backstay_testkit::{Ran, wait_until};

use crate::killed_at_random::is_full;
use crate::shop_stack::{Shop, accounted_for};

const EVERY_DEPLOY: &str = "a deploy of the shop's stack";

fn guard(shop: &Shop, deploy: &str) -> Ran {
    shop.backstay.run(&["guard", "--json", "--", deploy])
}

/// One way of going wrong in which no row has to go back: images and files are as before, every order is live.
#[track_caller]
fn goes_back_around_the_database(shop: &Arc<Shop>, what: &str, deploy: &str, command_exit: i32) {
    let customers = shop.opens();
    customers.order(2);
    let (images, files) = (shop.images(), shop.files());
    let result = guard(shop, deploy).ended(12).json();
    assert_eq!(result["decision"], "take_back_around_database", "{what}: {result}");
    assert_eq!(result["outcome"], "taken_back", "{what}");
    assert_eq!(result["command_exit"], command_exit, "{what}");
    assert_eq!(shop.images(), images, "{what}");
    assert_eq!(shop.files(), files, "{what}");
    assert!(shop.is_healthy(), "{what}");
    customers.order(2);
    let confirmed = customers.leave();
    assert_eq!(accounted_for(shop, &confirmed), (confirmed.len(), 0), "{what}: an order is gone");
    let _ = shop.backstay.run(&["settle", "--discard", "--yes"]).ended(0);
}

/// Nothing but an outage could come of this, and none may: a deploy under a fence that changes nothing, and a guard
/// that dies while writers stand still.
#[test]
fn what_guard_stopped_for_a_deploy_runs_again_when_the_deploy_fails() {
    let Some(shop) = Shop::start(EVERY_DEPLOY).map(Arc::new) else { return };
    let before = shop.state();
    let app = shop.container("app");
    let failing = shop.script("exit 7");
    let failed = shop.backstay.run(&["guard", "--fence", "--json", "--", &failing]).ended(11).json();
    assert_eq!(failed["decision"], "nothing_to_take_back");
    assert_eq!(shop.state(), before);
    assert_eq!(shop.container("app"), app, "the same container, started again");
    assert!(shop.is_healthy());

    if is_full() {
        is_taken_back_behind_its_fence(&shop);
        dies_behind_its_fence(&shop);
    }
}

fn is_taken_back_behind_its_fence(shop: &Arc<Shop>) {
    let before = shop.state();
    let broken = shop.deploys("1.1-unhealthy", "", "");
    let taken_back = shop.backstay.run(&["guard", "--fence", "--json", "--", &broken]).ended(12).json();
    assert_eq!(taken_back["decision"], "take_back_around_database", "{taken_back}");
    assert_eq!(shop.state(), before, "the worker, redis and the application run as before");
    let _ = shop.backstay.run(&["settle", "--discard", "--yes"]).ended(0);
}

/// Killed while the snapshot is taken, and while the deploy runs.
fn dies_behind_its_fence(shop: &Arc<Shop>) {
    let before = shop.state();
    let stands_still = || shop.images().iter().any(|(service, image)| service == "app" && image.contains("exited"));
    let mut run = shop.backstay.command(&["guard", "--fence", "--", "true"]);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("guard starts");
    wait_until("the shop stands still", stands_still);
    run.kill().expect("guard is killed");
    let _ = run.wait().expect("guard is ours");
    let _ = shop.backstay.run(&["recover"]).ended(0);
    assert_eq!(shop.state(), before, "killed before the deploy began");

    let deploy = shop.script("docker compose stop db >/dev/null 2>&1\ndocker compose start db 2>&1\nkill -9 $PPID");
    let ran = shop.backstay.run(&["guard", "--fence", "--", &deploy]);
    assert_eq!(ran.code, None, "{}", ran.stderr);
    let _ = shop.backstay.run(&["recover", "--json"]).ended(13);
    wait_until("the database is back", || shop.compose(&["ps", "db"]).contains("healthy"));
    let _ = shop.backstay.run(&["restore", "before-deploy", "--yes"]).ended(0);
    assert_eq!(shop.state(), before, "the snapshot from behind the fence knows what ran before it");
}

#[test]
fn a_release_that_is_no_good_goes_back_under_traffic_and_no_order_is_lost() {
    if !is_full() {
        return;
    }
    let Some(shop) = Shop::start(EVERY_DEPLOY).map(Arc::new) else { return };
    let failing = |release: &str| shop.deploys(release, "", "");
    goes_back_around_the_database(&shop, "unhealthy", &failing("1.1-unhealthy"), 0);
    goes_back_around_the_database(&shop, "the image is missing", &failing("9.9"), 18);
    goes_back_around_the_database(&shop, "cannot start", &failing("1.1-cannot-start"), 0);
    goes_back_around_the_database(&shop, "wants a schema nobody made", &failing("1.1-needs-new-schema"), 0);
}
