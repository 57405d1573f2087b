//! A run that dies in the middle is ended whole: in old or in new, on this host or on another.

use std::process::Stdio;

use backstay_testkit::{Backstay, PrivateCluster, wait_until};
use tempfile::TempDir;

use crate::ground::Ground;

/// Ends Backstay from within a hook, once, where a file by the hook's name asks for it.
const DEADLY_HOOK: &str = "if rm \"deadly-$1\" 2>/dev/null; then kill -9 $PPID; fi";

fn with_hooks(ground: &Ground<'_>) {
    let hook = ground.script("hook", DEADLY_HOOK);
    ground.configure(&format!(
        "[hooks]\nbefore_fence = [\"{hook}\", \"before_fence\"]\nafter_start = [\"{hook}\", \"after_start\"]"
    ));
}

/// Runs a command that a hook kills.
#[track_caller]
fn killed_at(ground: &Ground<'_>, hook: &str, arguments: &[&str]) {
    ground.write(&format!("deadly-{hook}"), "");
    let ran = ground.backstay.run(arguments);
    assert_eq!(ran.code, None, "{arguments:?} was not killed in {hook}\n{}\n{}", ran.stdout, ran.stderr);
}

/// Ends what died, and says whether the new state is live.
#[track_caller]
fn recovered(ground: &Ground<'_>, backstay: &Backstay, old: &str, new: &str) -> bool {
    let ended = backstay.run(&["recover"]).ended(0);
    let state = ground.state();
    assert!(state == old || state == new, "neither old nor new:\n{state}");
    // A copy that was live for a moment may hold what a customer wrote then: it stays, and is named.
    let unnamed: Vec<_> = ground.staged().into_iter().filter(|name| !ended.stderr.contains(name)).collect();
    assert!(unnamed.is_empty(), "left behind: {unnamed:?}\n{}\n{}", ended.stdout, ended.stderr);
    let again = backstay.run(&["recover", "--json"]).ended(0).json();
    assert_eq!(again["changed"], false, "{again}");
    assert!(again["run"].is_null(), "{again}");
    assert_eq!(ground.state(), state, "recovering twice changed something");
    state == new
}

#[test]
fn a_restore_that_is_killed_anywhere_is_ended_in_old_or_in_new() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    with_hooks(&ground);
    let good = ground.state();
    let id = ground.snapshot();
    ground.bad_release();
    let bad = ground.state();
    let restore = ["restore", id.as_str(), "--yes"];

    killed_at(&ground, "before_fence", &restore);
    assert_eq!(ground.state(), bad, "something live was touched before the fence");
    assert!(!recovered(&ground, &ground.backstay, &bad, &good), "nothing had been switched");

    killed_at(&ground, "after_start", &restore);
    if recovered(&ground, &ground.backstay, &bad, &good) {
        killed_at(&ground, "before_fence", &["undo", "--yes"]);
        assert!(!recovered(&ground, &ground.backstay, &good, &bad));
        killed_at(&ground, "after_start", &["undo", "--yes"]);
        if !recovered(&ground, &ground.backstay, &good, &bad) {
            let _ = ground.backstay.run(&["undo", "--yes"]).ended(0);
        }
    }
    assert_eq!(ground.state(), bad);

    // A command that changes something first ends what died.
    killed_at(&ground, "before_fence", &restore);
    let _ = ground.backstay.run(&restore).ended(0);
    assert_eq!(ground.state(), good);
    let _ = ground.backstay.run(&["check"]).ended(0);
}

#[test]
fn another_host_ends_what_died() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    with_hooks(&ground);
    let good = ground.state();
    let id = ground.snapshot();
    ground.sql("drop view store.totals; update store.customers set name = 'nobody'");
    let bad = ground.state();
    let elsewhere = TempDir::new().expect("the state folder of another host");
    let other = Backstay::in_folder(&ground.path(".")).with("BACKSTAY_STATE", elsewhere.path());

    for hook in ["before_fence", "after_start"] {
        killed_at(&ground, hook, &["restore", &id, "--only", "database", "--yes"]);
        recovered(&ground, &other, &bad, &good);
    }
    // The first host comes back, and follows.
    let state = ground.state();
    let _ = ground.backstay.run(&["recover"]).ended(0);
    assert_eq!(ground.state(), state);
    let _ = ground.backstay.run(&["restore", &id, "--yes"]).ended(0);
    assert_eq!(ground.state(), good);
}

#[test]
fn a_snapshot_that_is_killed_is_no_snapshot() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    let good = ground.state();
    let id = ground.snapshot();
    // Held fast in the middle: it waits for a lock that this session does not give back.
    let mut holder = cluster.client("psql");
    holder.args(["-XAtq", "-U", "postgres", "-d", "shop"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut holder = holder.spawn().expect("psql");
    let mut input = holder.stdin.take().expect("psql's input");
    std::io::Write::write_all(&mut input, b"begin; lock table store.orders in access exclusive mode;\n").expect("psql");
    let waiting = "select count(*) from pg_locks where not granted";
    wait_until("the table is locked", || {
        ground.sql("select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted and relation = 'store.orders'::regclass") == "1"
    });
    let mut run =
        ground.backstay.command(&["snapshot"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a run");
    wait_until("the snapshot waits, or ends", || {
        run.try_wait().expect("the run is ours").is_some() || ground.sql(waiting) != "0"
    });
    let _ = run.kill();
    let _ = run.wait().expect("the run is ours");
    drop(input);
    let _ = holder.wait().expect("psql ends with its input");

    let _ = ground.backstay.run(&["recover"]).ended(0);
    assert_eq!(ground.snapshots(), [id.as_str()]);
    let _ = ground.backstay.run(&["check"]).ended(0);
    assert!(ground.beside().is_empty());
    assert_eq!(ground.state(), good);
    assert_eq!(ground.backstay.run(&["prove"]).ended(0).code, Some(0));
}
