//! Each exit code that docs/reference/exit-codes.md promises, reached by a real run.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use backstay_testkit::{Backstay, PrivateCluster, Ran, wait_until};

use crate::ground::Ground;
use crate::tidy::root;
use crate::wire::signal;

/// The codes of the page's table.
fn promised() -> BTreeSet<i32> {
    let page = fs::read_to_string(root().join("docs/reference/exit-codes.md")).expect("the page of exit codes");
    page.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok()).collect()
}

/// One row: what was run ended so, said so in its result, and the result is as described.
#[track_caller]
fn ends(reached: &mut BTreeSet<i32>, ran: &Ran, code: i32, outcome: &str, changed: bool) {
    let said = ran.clone().ended(code).json();
    assert_eq!((&said["exit"], &said["outcome"], &said["changed"]), (&code.into(), &outcome.into(), &changed.into()));
    let failed = outcome != "done";
    assert_eq!(said["error"].is_object(), failed, "{said}");
    assert!(!failed || !said["error"]["state"].as_str().unwrap_or_default().is_empty(), "{said}");
    reached.insert(code);
}

/// A snapshot that waits for a lock until it is asked to stop.
fn interrupted(ground: &Ground<'_>) -> Ran {
    let mut holder = ground.cluster.client("psql");
    holder.args(["-XAtq", "-U", "postgres", "-d", &ground.database]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut holder = holder.spawn().expect("psql");
    let mut input = holder.stdin.take().expect("psql's input");
    std::io::Write::write_all(&mut input, b"begin; lock table store.orders in access exclusive mode;\n").expect("psql");
    let held = "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted and relation = 'store.orders'::regclass";
    wait_until("the table is locked", || ground.sql(held) == "1");
    let mut run = ground.backstay.start(&["snapshot", "--json"]);
    wait_until("the snapshot waits, or ends", || {
        run.try_wait().expect("the run is ours").is_some()
            || ground.sql("select count(*) from pg_locks where not granted") != "0"
    });
    signal(run.id(), "INT");
    let output = run.wait_with_output().expect("the run is ours");
    drop(input);
    let _ = holder.wait().expect("psql ends with its input");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What is run while a deploy of somebody else goes on.
pub fn beside_a_deploy(ground: &Ground<'_>, arguments: &[&str]) -> Ran {
    let slow = ground.script("slow", "touch began\nuntil [ -e go ]; do sleep 0.1; done");
    let mut first = ground.backstay.command(&["guard", "--", &slow]);
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("guard starts");
    wait_until("the deploy is at work", || ground.path("began").exists());
    let ran = ground.backstay.run(arguments);
    ground.write("go", "");
    assert_eq!(first.wait().expect("guard ends").code(), Some(0));
    ran
}

#[test]
fn every_exit_code_is_reached_by_a_real_run_and_says_what_it_promises() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::bare(&cluster, "shop");
    let backstay = &ground.backstay;
    let reached = &mut BTreeSet::new();
    ends(reached, &backstay.run(&["list", "--json"]), 3, "refused", false);
    ends(reached, &backstay.run(&["init", "--project", "shop", "--json"]), 0, "done", true);
    ends(reached, &backstay.run(&["snapshoot", "--json"]), 2, "refused", false);
    ends(reached, &backstay.run(&["doctor", "--json"]), 23, "done", false);
    ends(reached, &backstay.run(&["restore", "latest", "--yes", "--json"]), 10, "refused", false);

    let broken = Backstay::in_folder(&ground.path(".")).with("BACKSTAY_TEST_BUG", "1");
    let bug = broken.run(&["list", "--json"]);
    ends(reached, &bug, 1, "failed", true);
    assert!(bug.stderr.contains("BACKSTAY_TEST_BUG asked for this"), "where it happened is said: {}", bug.stderr);
    assert!(bug.json()["error"]["hint"].to_string().contains("report it"), "{}", bug.stdout);

    ground.configure("[guard]\nsettle_window = \"1s\"\n[health.shop]\ncommand = [\"test\", \"!\", \"-e\", \"ill\"]");
    let guard = |script: &str| backstay.run(&["guard", "--json", "--", &ground.script("deploy", script)]);
    ends(reached, &guard("exit 7"), 11, "failed", false);
    ends(reached, &guard("echo 'greeting = broken' >config/shop.conf\nexit 7"), 12, "taken_back", false);
    ground.write("ill", "");
    ends(reached, &backstay.run(&["health", "--json"]), 21, "failed", false);
    fs::remove_file(ground.path("ill")).expect("it is well again");
    ends(reached, &interrupted(&ground), 130, "failed", false);

    ground.reconfigure("[repository]", "[repository]\nlease_wait = \"1s\"");
    ends(reached, &beside_a_deploy(&ground, &["guard", "--json", "--", "true"]), 22, "refused", false);
    ground.reconfigure("project = ", "project = \"shop\"\nproduction = true");
    ends(reached, &guard(&format!("{}\nexit 7", ground.half_a_deploy())), 13, "stuck", true);

    ground.damage_objects();
    ends(reached, &backstay.run(&["check", "--json"]), 20, "failed", false);
    assert_eq!(*reached, promised());
}
