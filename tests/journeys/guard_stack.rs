//! Deploys of the shop on the real engine, while customers order: each way in which one goes wrong, and what is so
//! afterwards.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;

use backstay_testkit::{Ran, wait_until};

use crate::killed_at_random::is_full;
use crate::shop_stack::{Shop, State, accounted_for};
use crate::tidy::root;

const EVERY_DEPLOY: &str = "a deploy of the shop's stack";

/// A shop for what takes too long to be seen every time.
fn of_the_long_tier() -> Option<Arc<Shop>> {
    if is_full() { Shop::start(EVERY_DEPLOY).map(Arc::new) } else { None }
}

fn guard(shop: &Shop, deploy: &str) -> Ran {
    shop.backstay.run(&["guard", "--json", "--", deploy])
}

/// One way of going wrong in which no row has to go back: images and files are as before, every order is live.
#[track_caller]
fn goes_back_around_the_database(shop: &Arc<Shop>, what: &str, deploy: &str, command_exit: Option<i32>) {
    let customers = shop.opens();
    customers.order(2);
    let (images, files) = (shop.images(), shop.files());
    let result = guard(shop, deploy).ended(12).json();
    assert_eq!(result["decision"], "take_back_around_database", "{what}: {result}");
    assert_eq!(result["outcome"], "taken_back", "{what}");
    assert_eq!(result["command_exit"], serde_json::json!(command_exit), "{what}");
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
    let stuck = shop.backstay.run(&["recover"]).ended(13);
    assert!(stuck.stderr.contains("not running: app, redis, worker"), "{}", stuck.stderr);
    wait_until("the database is back", || shop.compose(&["ps", "db"]).contains("healthy"));
    let _ = shop.backstay.run(&["restore", "before-deploy", "--yes"]).ended(0);
    assert_eq!(shop.state(), before, "the snapshot from behind the fence knows what ran before it");
}

#[test]
fn a_good_deploy_stays_under_traffic_also_where_something_was_down_before_it() {
    let Some(shop) = of_the_long_tier() else { return };
    let customers = shop.opens();
    customers.order(2);
    shop.configure("[health.redis]\ncontainer = \"redis\"");
    shop.compose(&["stop", "redis"]);
    let deploy = shop.deploys("1.1", "", "");
    let done = guard(&shop, &deploy).ended(0).json();
    assert_eq!(done["decision"], "keep", "{done}");
    assert!(shop.is_healthy() && shop.ask("GET", "/version").is_some_and(|(_, body)| body.contains("1.1")));
    customers.order(2);
    let confirmed = customers.leave();
    assert_eq!(accounted_for(&shop, &confirmed), (confirmed.len(), 0), "an order is gone");
    assert!(shop.beside().is_empty(), "a good deploy leaves no database behind");
    let good = shop.backstay.run(&["--json"]).ended(0).json();
    assert_eq!(good["unfinished"], serde_json::json!([]), "{good}");
}

#[test]
fn a_release_that_is_no_good_goes_back_under_traffic_and_no_order_is_lost() {
    let Some(shop) = of_the_long_tier() else { return };
    let failing = |release: &str| shop.deploys(release, "", "");
    goes_back_around_the_database(&shop, "unhealthy", &failing("1.1-unhealthy"), Some(0));
    goes_back_around_the_database(&shop, "the image is missing", &failing("9.9"), Some(18));
    goes_back_around_the_database(&shop, "cannot start", &failing("1.1-cannot-start"), Some(0));
    goes_back_around_the_database(&shop, "wants a schema nobody made", &failing("1.1-needs-new-schema"), Some(0));
    shop.reconfigure("settle_window", "settle_window = \"25s\"");
    goes_back_around_the_database(&shop, "dies after 20 s", &failing("1.1-crash"), Some(0));
    shop.reconfigure("settle_window", "settle_window = \"2s\"\ntimeout = \"15s\"");
    goes_back_around_the_database(&shop, "hangs", &shop.deploys("1.1", "", "sleep 3600"), None);
}

#[test]
fn a_release_that_is_well_only_now_and_then_goes_back() {
    let Some(shop) = of_the_long_tier() else { return };
    shop.reconfigure("settle_window", "settle_window = \"2s\"\ntimeout = \"15s\"");
    shop.configure("[health.flapping]\ncommand = [\"./flaps\"]");
    shop.executable("flaps", "grep -q 1.1 config/shop.conf || exit 0\ntest -e up && rm up && exit 1 || touch up");
    goes_back_around_the_database(&shop, "flaps", &shop.deploys("1.1", "", ""), Some(0));
}

#[test]
fn behind_a_migration_that_the_old_release_cannot_live_with_the_database_goes_back_or_a_person_is_asked() {
    let Some(shop) = of_the_long_tier() else { return };
    let before = shop.state();
    let program = shop.backstay.command(&[]).get_program().display().to_string();
    let migrates = format!("cp migrations-next/* migrations/\n{program} migrate run >&2");
    let deploy = shop.deploys("1.1-unhealthy", &migrates, "");

    let whole = shop.backstay.run(&["guard", "--fence", "--json", "--", &deploy]).ended(12).json();
    assert_eq!(whole["decision"], "take_back_whole", "{whole}");
    assert_eq!(shop.state(), before, "nobody wrote meanwhile: all of it went back");
    let _ = shop.backstay.run(&["settle", "--discard", "--yes"]).ended(0);

    shop.reconfigure("settle_window", "settle_window = \"2s\"\non_loss = \"ask\"");
    let customers = shop.opens();
    customers.order(2);
    let then = customers.count();
    let orders = format!("{migrates}\nuntil test -e ordered; do sleep 0.1; done");
    let asking = shop.deploys("1.1-unhealthy", &orders, "");
    let run = shop.backstay.start(&["guard", "--json", "--", &asking]);
    wait_until("customers write after the snapshot", || customers.count() > then + 20);
    shop.executable("ordered", "");
    let ended = run.wait_with_output().expect("guard ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(13), "{said}");
    assert!(said.contains("backstay restore") && said.contains("rows were"), "{said}");
    let confirmed = customers.leave();
    assert_eq!(accounted_for(&shop, &confirmed), (confirmed.len(), 0), "a row was touched");
    let _ = shop.backstay.run(&["restore", "before-deploy", "--yes"]).ended(0);
    let (live, kept) = accounted_for(&shop, &confirmed);
    assert!(live + kept == confirmed.len() && kept > 0, "{live} live, {kept} kept");
    assert!(shop.is_healthy());
}

#[test]
fn an_engine_that_is_restarted_under_a_deploy_is_waited_for() {
    let Some(shop) = of_the_long_tier() else { return };
    let lab = root().join("scripts/lab").display().to_string();
    let restarts =
        format!("{lab} down docker >&2\n{lab} up docker >&2\ndocker compose up --detach --wait db redis 2>&1");
    let done = guard(&shop, &shop.deploys("1.1", &restarts, "")).ended(0).json();
    assert_eq!(done["decision"], "keep", "{done}");
    goes_back_around_the_database(
        &shop,
        "the engine restarted, then unhealthy",
        &shop.deploys("1.1-unhealthy", &restarts, ""),
        Some(0),
    );
}

#[test]
fn a_guard_that_is_asked_to_stop_in_any_phase_ends_in_a_release_that_is_whole() {
    ended_in_each_phase("TERM");
}

#[test]
fn a_guard_whose_terminal_closes_in_any_phase_ends_in_a_release_that_is_whole() {
    ended_in_each_phase("HUP");
}

#[test]
fn a_guard_that_is_killed_in_any_phase_leaves_a_way_back() {
    ended_in_each_phase("KILL");
}

/// While a copy is proven, while the deploy runs, while the new release is looked at, and while it is taken back.
fn ended_in_each_phase(signal: &str) {
    let Some(shop) = of_the_long_tier() else { return };
    shop.reconfigure("[repository]", "[repository]\nlease_wait = \"1s\"");
    let before = shop.state();
    for (phase, release) in [("snapshot", "1.1"), ("deploy", "1.1"), ("probe", "1.1"), ("take back", "1.1-unhealthy")] {
        let what = format!("{signal}, {phase}");
        for left in ["begun", "go", "deployed"] {
            let _ = fs::remove_file(shop.path(left));
        }
        let deploy = shop.deploys(release, "touch begun\nuntil test -e go; do sleep 0.1; done", "touch deployed");
        let mut run = shop.backstay.command(&["guard", "--", &deploy]);
        let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("guard starts");
        match phase {
            "snapshot" => {
                wait_until(&what, || shop.beside().iter().any(|name| name.contains("__staged_")));
            }
            "deploy" => {
                wait_until(&what, || shop.path("begun").exists());
                // A second guard is told who holds the release.
                let second = shop.backstay.run(&["guard", "--", "true"]).ended(22);
                assert!(second.stderr.contains("guard"), "{}", second.stderr);
            }
            _ => {
                wait_until(&what, || shop.path("begun").exists());
                shop.executable("go", "");
                wait_until(&what, || shop.path("deployed").exists());
                if phase == "take back" {
                    wait_until(&what, || !shop.runs("app"));
                }
            }
        }
        let sent = Command::new("kill").args([&format!("-{signal}"), &run.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{what}: guard has ended before");
        // The deploy may outlive a guard that was killed, and may have to be let go on by one that was not.
        shop.executable("go", "");
        let status = run.wait().expect("guard is ours");
        wait_until("the deploy has ended", || !shop.is_deploying());
        goes_on_after(&shop, &before, &what, status.code());
    }
}

fn goes_on_after(shop: &Arc<Shop>, before: &State, what: &str, code: Option<i32>) {
    let recovered = shop.backstay.run(&["recover", "--json"]);
    assert!(matches!(recovered.code, Some(0 | 13)), "{what}: {}", recovered.stderr);
    if shop.state() != *before {
        let said = code == Some(0) || recovered.code == Some(13);
        assert!(said, "{what}: guard ended with {code:?} and recover with {:?}", recovered.code);
        let _ = shop.backstay.run(&["restore", "before-deploy", "--yes"]).ended(0);
    }
    assert_eq!(shop.state(), *before, "{what}");
    assert!(shop.is_healthy(), "{what}");
    assert!(!shop.beside().iter().any(|name| name.contains("__staged_")), "{what}: {:?}", shop.beside());
    let _ = shop.backstay.run(&["settle", "--discard", "--yes"]);
}
