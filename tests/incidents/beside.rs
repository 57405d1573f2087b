//! What stands beside a run: other databases, open sessions, other deploys, children, old alarms.

use std::io::Write;
use std::process::{Command, Stdio};

use backstay_testkit::{PrivateCluster, wait_until};

use crate::ground::Ground;

#[test]
fn what_stands_beside_a_run_neither_stops_it_nor_is_touched() {
    let Some(cluster) = PrivateCluster::start() else { return };
    postgres_operator_2895_one_database_goes_back_and_all_others_are_wiped(&cluster);
    pgbackweb_104_an_open_session_makes_the_restore_fail_unseen(&cluster);
}

#[test]
fn a_deploy_is_judged_and_locked_by_itself_alone() {
    let Some(cluster) = PrivateCluster::start() else { return };
    hawk_1429_an_alarm_from_before_blocks_the_fix(&cluster);
    compose_10754_two_deploys_at_once_undo_each_other(&cluster);
    homedir_255_a_child_of_the_deploy_holds_the_lock_for_ever(&cluster);
}

fn postgres_operator_2895_one_database_goes_back_and_all_others_are_wiped(cluster: &PrivateCluster) {
    let ground = Ground::new(cluster, "crunchy");
    cluster.create("neighbour");
    cluster.sql("neighbour", "create table guests as select n from generate_series(1, 100) n");
    let good = ground.state();
    let id = ground.snapshot();
    ground.bad_release();
    cluster.sql("neighbour", "insert into guests values (101)");
    let look = "select oid, (select count(*) from pg_stat_activity where datname = 'neighbour') from pg_database where datname = 'neighbour'";
    // A session there lives through the restore.
    let mut session = cluster.client("psql");
    let mut session =
        session.args(["-Xq", "-U", "postgres", "-d", "neighbour"]).stdin(Stdio::piped()).spawn().expect("psql");
    wait_until("the neighbour is connected", || cluster.sql("postgres", look).ends_with("|1"));
    let before = (cluster.dump("neighbour"), cluster.sql("postgres", look));
    let _ = ground.backstay.run(&["restore", &id, "--yes"]).ended(0);
    assert_eq!(ground.state(), good);
    assert_eq!((cluster.dump("neighbour"), cluster.sql("postgres", look)), before);
    drop(session.stdin.take());
    let _ = session.wait().expect("psql ends with its input");
}

fn pgbackweb_104_an_open_session_makes_the_restore_fail_unseen(cluster: &PrivateCluster) {
    let ground = Ground::new(cluster, "pgbackweb");
    let good = ground.state();
    let id = ground.snapshot();
    ground.bad_release();
    let mut session = cluster.client("psql");
    session.args(["-Xq", "-U", "postgres", "-d", "pgbackweb"]).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut session = session.spawn().expect("psql");
    let mut input = session.stdin.take().expect("psql's input");
    input.write_all(b"begin; update store.customers set name = 'half done';\n").expect("psql");
    wait_until("the transaction is open", || {
        ground
            .sql("select count(*) from pg_stat_activity where datname = 'pgbackweb' and state = 'idle in transaction'")
            == "1"
    });
    let _ = ground.backstay.run(&["restore", &id, "--yes"]).ended(0);
    assert_eq!(ground.state(), good);
    drop(input);
    let _ = session.wait().expect("psql ends");
}

fn hawk_1429_an_alarm_from_before_blocks_the_fix(cluster: &PrivateCluster) {
    let ground = Ground::new(cluster, "hawk");
    ground.configure(
        "[guard]\nsettle_window = \"1s\"\n[health.alarm]\ncommand = [\"false\"]\n[health.shop]\ncommand = [\"true\"]",
    );
    let seen = ground.backstay.run(&["health", "--json"]).ended(21).json();
    assert_eq!(seen["condition"], "unhealthy", "there is no alarm, so this shows nothing");
    let fix = ground.script("fix", "echo 'greeting = mended' >config/shop.conf");
    let kept = ground.backstay.run(&["guard", "--json", "--", &fix]).ended(0).json();
    assert_eq!(kept["decision"], "keep");
    assert_eq!(std::fs::read_to_string(ground.path("config/shop.conf")).ok().as_deref(), Some("greeting = mended\n"));
}

fn compose_10754_two_deploys_at_once_undo_each_other(cluster: &PrivateCluster) {
    let ground = Ground::new(cluster, "compose");
    ground.configure("[guard]\nsettle_window = \"1s\"");
    ground.reconfigure("[repository]", "[repository]\nlease_wait = \"1s\"");
    let slow = ground
        .script("slow", "touch began\nuntil [ -e go ]; do sleep 0.1; done\necho 'greeting = first' >config/shop.conf");
    let mut first = ground.backstay.command(&["guard", "--", &slow]);
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("guard starts");
    wait_until("the first deploy is at work", || ground.path("began").exists());
    let second = ground.script("second", "echo 'greeting = second' >config/shop.conf");
    let held = ground.backstay.run(&["guard", "--json", "--", &second]).ended(22).json();
    assert_eq!(held["outcome"], "refused");
    assert_eq!(held["changed"], false);
    ground.write("go", "");
    assert_eq!(first.wait().expect("guard ends").code(), Some(0));
    assert_eq!(std::fs::read_to_string(ground.path("config/shop.conf")).ok().as_deref(), Some("greeting = first\n"));
}

fn homedir_255_a_child_of_the_deploy_holds_the_lock_for_ever(cluster: &PrivateCluster) {
    let ground = Ground::new(cluster, "homedir");
    ground.configure("[guard]\nsettle_window = \"1s\"");
    let deploy = ground.script(
        "deploy",
        "setsid sleep 600 >/dev/null 2>&1 </dev/null &\necho $! >daemon\necho 'greeting = new' >config/shop.conf",
    );
    let _ = ground.backstay.run(&["guard", "--", &deploy]).ended(0);
    let daemon = std::fs::read_to_string(ground.path("daemon")).expect("the daemon's number").trim().to_owned();
    assert!(std::path::Path::new("/proc").join(&daemon).exists(), "there is no child, so this shows nothing");
    let _ = ground.backstay.run(&["snapshot"]).ended(0);
    let _ = ground.backstay.run(&["restore", "before-deploy", "--yes"]).ended(0);
    let _ = Command::new("kill").args(["-KILL", &daemon]).status().expect("kill");
}
