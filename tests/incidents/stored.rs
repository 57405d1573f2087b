//! What was stored and could not be had again, and what stood in the way.

use std::fs;
use std::process::Stdio;

use backstay_testkit::{PrivateCluster, wait_until};

use crate::ground::{Ground, bytes_under};

#[test]
fn what_is_stored_can_be_had_again() {
    let Some(cluster) = PrivateCluster::start() else { return };
    peertube_886_a_documented_restore_does_not_work_after_migrations(&cluster);
    kopia_3492_blobs_are_missing_and_backups_keep_succeeding(&cluster);
    pgbackweb_121_a_retention_that_leaves_nothing(&cluster);
    restic_2736_a_killed_backup_locks_the_repository(&cluster);
    mydumper_143_seventy_one_hours_without_a_word(&cluster);
    rancher_desktop_5653_a_switch_cannot_be_undone(&cluster);
}

/// Of the same kind: velero#469 and #8047, where what exists is not overwritten.
fn peertube_886_a_documented_restore_does_not_work_after_migrations(cluster: &PrivateCluster) {
    let ground = Ground::new(cluster, "peertube");
    let before = ground.state();
    let id = ground.snapshot();
    ground.bad_release();
    // What `pg_restore --clean` stumbles over: a view and a key that hang on what it wants to drop.
    ground.sql("create view store.late as select * from store.customers; create table store.badges (customer_id bigint references store.customers)");
    let _ = ground.backstay.run(&["restore", &id, "--yes"]).ended(0);
    assert_eq!(ground.state(), before);
}

/// Of the same kind: litestream#1164.
fn kopia_3492_blobs_are_missing_and_backups_keep_succeeding(cluster: &PrivateCluster) {
    let ground = Ground::new(cluster, "kopia");
    let before = ground.state();
    let id = ground.snapshot();
    for (file, _) in bytes_under(&ground.repository().join("objects")) {
        fs::remove_file(file).expect("an object is lost");
    }
    let found = ground.backstay.run(&["check", "--json"]).ended(20).json();
    assert!(found["damage"].to_string().contains(&id), "{found}");
    let live = ground.state();
    let _ = ground.backstay.run(&["restore", &id, "--yes"]).ended(20);
    assert_eq!(ground.state(), live);
    // The next one does not rely on what is not there.
    let healed = ground.snapshot();
    ground.bad_release();
    let _ = ground.backstay.run(&["restore", &healed, "--yes"]).ended(0);
    assert_eq!(ground.state(), before);
}

/// Of the same kind: orca#204, lionelpere/azure-devops-repository-backup#8.
fn pgbackweb_121_a_retention_that_leaves_nothing(cluster: &PrivateCluster) {
    let ground = Ground::new(cluster, "pgbackweb121");
    let good = ground.snapshot();
    ground.sql("insert into store.customers (name) values ('later')");
    let _ = ground.backstay.run(&["snapshot"]).ended(0);
    ground.reconfigure("keep_last = ", "keep_last = 1\nkeep_within = \"1s\"");
    let _ = ground.backstay.run(&["prune"]).ended(0);
    assert!(ground.snapshots().contains(&good), "the last proven one is gone");
    // Nor can a policy ask for it.
    ground.reconfigure("min_proven = ", "min_proven = 0");
    let refused = ground.backstay.run(&["prune", "--json"]).ended(3).json();
    assert!(refused["error"]["what"].to_string().contains("min_proven"), "{refused}");
    ground.reconfigure("min_proven = ", "min_proven = 1");
    assert_eq!(ground.snapshots().len(), 2);
}

/// Of the same kind: keelhaven#27, resticker#221.
fn restic_2736_a_killed_backup_locks_the_repository(cluster: &PrivateCluster) {
    let ground = Ground::new(cluster, "restic2736");
    ground.reconfigure("[repository]", "[repository]\nlease_wait = \"1s\"");
    let mut holder = cluster.client("psql");
    holder.args(["-XAtq", "-U", "postgres", "-d", "restic2736"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut holder = holder.spawn().expect("psql");
    let mut input = holder.stdin.take().expect("psql's input");
    std::io::Write::write_all(&mut input, b"begin; lock table store.orders in access exclusive mode;\n").expect("psql");
    let held = "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted and relation = 'store.orders'::regclass";
    wait_until("the table is locked", || ground.sql(held) == "1");
    let mut run = ground.backstay.command(&["snapshot"]);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a run");
    wait_until("the snapshot is in the middle", || {
        run.try_wait().expect("the run is ours").is_some()
            || ground.sql("select count(*) from pg_locks where not granted") != "0"
    });
    run.kill().expect("it is in the middle, and is killed");
    let _ = run.wait().expect("the run is ours");
    drop(input);
    let _ = holder.wait().expect("psql ends with its input");
    // Nobody unlocks anything, and what needs the repository for itself alone has it at once.
    let _ = ground.backstay.run(&["prune"]).ended(0);
    let _ = ground.snapshot();
    assert_eq!(ground.snapshots().len(), 1);
}

/// Of the same kind: pgbackrest#1490, heroku/cli#285.
fn mydumper_143_seventy_one_hours_without_a_word(cluster: &PrivateCluster) {
    let ground = Ground::new(cluster, "mydumper");
    let events = ground.backstay.run(&["snapshot", "--events"]).ended(0).stderr;
    let events: Vec<serde_json::Value> =
        events.lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect();
    for table in ["store.customers", "store.orders"] {
        let of_it =
            events.iter().filter(|event| event["subject"].as_str().is_some_and(|subject| subject.contains(table)));
        let kinds: Vec<_> = of_it.map(|event| event["event"].as_str().unwrap_or_default()).collect();
        assert!(kinds.contains(&"transfer_began") && kinds.contains(&"transfer_ended"), "{table}: {kinds:?}");
    }
    assert!(events.iter().all(|event| event["at"].is_string()), "an event has no time");
}

/// Of the same kind: d365fo.tools#298, HWIS#104.
fn rancher_desktop_5653_a_switch_cannot_be_undone(cluster: &PrivateCluster) {
    let ground = Ground::new(cluster, "rancher");
    let before = ground.state();
    let id = ground.snapshot();
    ground.bad_release();
    let bad = ground.state();
    let _ = ground.backstay.run(&["restore", &id, "--yes"]).ended(0);
    assert_eq!(ground.state(), before);
    let _ = ground.backstay.run(&["undo", "--yes"]).ended(0);
    assert_eq!(ground.state(), bad);
    let _ = ground.backstay.run(&["undo", "--yes"]).ended(0);
    assert_eq!(ground.state(), before);
}
