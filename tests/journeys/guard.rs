//! A deploy with a way back, on plain processes: no engine, a database and files.

use std::fs;
use std::process::{Command, Stdio};

use backstay_testkit::{PrivateCluster, Ran, wait_until};

use crate::ground::Ground;

fn guard(ground: &Ground<'_>, script: &str) -> Ran {
    let deploy = ground.script("deploy", script);
    ground.backstay.run(&["guard", "--json", "--", &deploy])
}

/// The words of a script that runs SQL on the live database.
fn sql(ground: &Ground<'_>, text: &str) -> String {
    let psql = ground.cluster.bin().join("psql");
    format!("{} -Xq -v ON_ERROR_STOP=1 -d '{}' -c \"{text}\"", psql.display(), ground.cluster.url(&ground.database))
}

#[test]
fn a_good_deploy_stays_and_one_that_fails_first_changes_nothing() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    let change = sql(&ground, "alter table store.orders add column discount bigint");
    let done = guard(&ground, &format!("{change}\necho 'greeting = new' >config/shop.conf")).ended(0).json();
    assert_eq!(done["command"], "guard");
    assert_eq!(done["outcome"], "done");
    assert_eq!(done["decision"], "keep");
    assert_eq!(done["changed"], true);
    assert_eq!(ground.sql("select count(discount) from store.orders"), "0");
    assert!(ground.beside().is_empty(), "a good deploy leaves no database behind");

    let before = ground.state();
    let failed = guard(&ground, "exit 7").ended(11).json();
    assert_eq!(failed["outcome"], "failed");
    assert_eq!(failed["changed"], false);
    assert_eq!(failed["command_exit"], 7);
    assert_eq!(failed["decision"], "nothing_to_take_back");
    assert_eq!(ground.state(), before);
    let _ = ground.backstay.run(&["guard", "--", "/no/such/program"]).ended(11);
    assert_eq!(ground.state(), before);
    let _ = ground.backstay.run(&["guard"]).ended(2);
    assert_eq!(ground.backstay.run(&["recover", "--json"]).ended(0).json()["changed"], false);
}

const MIGRATES_AND_FAILS: &str = "echo 'greeting = broken' >config/shop.conf\nexit 3";

#[test]
fn a_deploy_that_fails_after_a_migration_is_taken_back_or_asks_where_customers_wrote() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    let before = ground.state();
    let change =
        "alter table store.orders rename column note to remark; insert into store.orders (customer_id) values (1)";
    let script = format!("{}\n{MIGRATES_AND_FAILS}", sql(&ground, change));
    let taken_back = guard(&ground, &script).ended(12).json();
    assert_eq!(taken_back["outcome"], "taken_back");
    assert_eq!(taken_back["decision"], "take_back_whole");
    assert_eq!(taken_back["command_exit"], 3);
    assert_eq!(ground.state(), before, "what was taken back is not what was before");
    // What the failed deploy made is not lost.
    let _ = ground.backstay.run(&["undo", "--yes"]).ended(0);
    assert_eq!(ground.sql("select count(remark), count(*) from store.orders"), "200|201");
    let _ = ground.backstay.run(&["undo", "--yes"]).ended(0);
    assert_eq!(ground.state(), before);
    let _ = ground.backstay.run(&["settle", "--discard", "--yes"]).ended(0);

    ground.reconfigure("project = ", "project = \"shop\"\nproduction = true");
    let asks = guard(&ground, &script).ended(13).json();
    assert_eq!(asks["outcome"], "stuck");
    assert_eq!(asks["decision"], "ask");
    assert_eq!(asks["changed"], true);
    assert_ne!(asks["rows_written"], 0);
    assert_eq!(ground.sql("select count(*) from store.orders"), "201", "a customer's row was touched unattended");
    // The one command that decides, as it is printed.
    let hint = asks["error"]["hint"].as_str().expect("a hint");
    let command = hint.split('`').nth(1).expect("a command in the hint");
    let words: Vec<_> = command.split(' ').skip(1).collect();
    assert_eq!(words.first(), Some(&"restore"), "{hint}");
    let _ = ground.backstay.run(&words).ended(0);
    assert_eq!(ground.state(), before);
}

fn alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // One that nobody has reaped yet has ended as well.
    !stat.is_empty() && !stat.contains(") Z ")
}

/// A deploy that changes a file, starts a child, says its process, and never ends.
const HANGS: &str = "echo 'greeting = broken' >config/shop.conf
sleep 3600 &
echo $! >child.half; mv child.half child
wait";

#[test]
fn a_deploy_that_hangs_or_is_asked_to_stop_ends_with_its_children_and_is_taken_back() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    let before = ground.state();
    let deploy = ground.script("deploy", HANGS);
    let mut run = ground.backstay.start(&["guard", "--json", "--", &deploy]);
    wait_until("the deploy has begun", || ground.path("child").exists());
    let child = fs::read_to_string(ground.path("child")).expect("the child's number").trim().to_owned();
    let _ = Command::new("kill").args(["-TERM", &run.id().to_string()]).status().expect("kill");
    let status = run.wait().expect("guard ends");
    assert_eq!(status.code(), Some(12), "a deploy that was asked to stop");
    wait_until("the deploy's child has ended", || !alive(&child));
    assert_eq!(ground.state(), before);

    fs::remove_file(ground.path("child")).expect("the number is taken away");
    ground.configure("[guard]\ntimeout = \"10s\"");
    let taken_back = ground.backstay.run(&["guard", "--json", "--", &deploy]).ended(12).json();
    assert_eq!(taken_back["outcome"], "taken_back");
    let child = fs::read_to_string(ground.path("child")).expect("the child's number").trim().to_owned();
    wait_until("the deploy's child has ended", || !alive(&child));
    assert_eq!(ground.state(), before);
}

#[test]
fn a_guard_that_dies_leaves_a_state_that_has_a_name_and_a_way_back() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    let before = ground.state();
    let change = sql(&ground, "alter table store.orders add column discount bigint");
    let deploy = ground.script("deploy", &format!("{change}\n{HANGS}"));
    let mut run = ground.backstay.command(&["guard", "--", &deploy]);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("guard starts");
    wait_until("the deploy has begun", || ground.path("child").exists());
    run.kill().expect("guard is killed");
    let _ = run.wait().expect("guard is ours");
    let child = fs::read_to_string(ground.path("child")).expect("the child's number").trim().to_owned();
    // The deploy outlives its guard; a person would end it first.
    let _ = Command::new("kill").args(["-KILL", &child]).status().expect("kill");
    wait_until("the deploy has ended", || !alive(&child));

    let half = ground.state();
    let stuck = ground.backstay.run(&["recover", "--json"]).ended(13).json();
    assert_eq!(stuck["outcome"], "stuck");
    assert_eq!(ground.state(), half, "a person decides, and nobody did");
    let _ = ground.backstay.run(&["restore", "before-deploy", "--yes"]).ended(0);
    assert_eq!(ground.state(), before);
    assert_eq!(ground.backstay.run(&["recover", "--json"]).ended(0).json()["changed"], false);
}
