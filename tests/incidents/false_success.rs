//! What failed and was called a success.

use std::fs;

use backstay_testkit::{Backstay, PrivateCluster};

use crate::ground::{Ground, bytes_under};

#[test]
fn what_failed_is_never_called_done() {
    let Some(cluster) = PrivateCluster::start() else { return };
    dbackup_154_a_dump_that_cannot_connect_is_a_success_of_zero_bytes(&cluster);
    restic_4251_a_dump_that_dies_half_way_is_stored_as_whole(&cluster);
}

#[test]
fn what_was_not_restored_is_never_called_restored() {
    let Some(cluster) = PrivateCluster::start() else { return };
    coolify_7987_a_restore_that_fails_has_dropped_everything_first(&cluster);
    genesis_1209_a_missing_snapshot_is_recorded_as_rolled_back(&cluster);
    databasus_a_restore_that_is_only_planned_is_logged_as_done(&cluster);
    openpalm_667_a_deploy_that_failed_ends_with_zero_and_loses_its_backup(&cluster);
}

fn dbackup_154_a_dump_that_cannot_connect_is_a_success_of_zero_bytes(cluster: &PrivateCluster) {
    let ground = Ground::new(cluster, "dbackup");
    let good = ground.snapshot();
    ground.reconfigure("keep_last = ", "keep_last = 1\nkeep_within = \"1s\"");
    cluster.stop();
    for _ in 0..3 {
        let failed = ground.backstay.run(&["snapshot", "--json"]).ended(3).json();
        assert_eq!(failed["outcome"], "refused");
        assert!(failed["snapshot"].is_null(), "{failed}");
    }
    // The database is down at the time of the rollback as well: that is said, and nothing is begun.
    let _ = ground.backstay.run(&["restore", &good, "--yes"]).ended(3);
    // What failed pushes out nothing.
    let _ = ground.backstay.run(&["prune"]).ended(0);
    assert_eq!(ground.snapshots(), [good.as_str()]);
    cluster.start_again();
    let _ = ground.backstay.run(&["prove", &good]).ended(0);
}

fn restic_4251_a_dump_that_dies_half_way_is_stored_as_whole(cluster: &PrivateCluster) {
    let ground = Ground::new(cluster, "restic");
    let good = ground.snapshot();
    for program in ["pg_dump", "pg_restore", "psql"] {
        let real = cluster.bin().join(program);
        let dies = "case \"$*\" in *--schema-only*) head -c 2000 /dev/zero; echo 'server closed the connection' >&2; exit 1;; esac";
        let body = if program == "pg_dump" { dies } else { "" };
        ground.script(&format!("programs/{program}"), &format!("{body}\nexec {} \"$@\"", real.display()));
    }
    let backstay = Backstay::in_folder(&ground.path("."))
        .with("BACKSTAY_STATE", ground.backstay.state())
        .with("BACKSTAY_PG_BIN_DIRS", ground.path("programs"));
    let failed = backstay.run(&["snapshot", "--json"]).ended(11).json();
    assert_eq!(failed["changed"], false);
    assert!(failed["error"]["what"].to_string().contains("server closed the connection"), "{failed}");
    assert_eq!(ground.snapshots(), [good.as_str()], "half a dump counts as a snapshot");
}

/// Of the same kind: usagov-2021#2526, which printed "complete" after "Failed to prepare", and
/// percona-postgresql-operator#887, where one failed restore blocked all later ones.
fn coolify_7987_a_restore_that_fails_has_dropped_everything_first(cluster: &PrivateCluster) {
    let ground = Ground::new(cluster, "coolify");
    let good = ground.state();
    let id = ground.snapshot();
    ground.bad_release();
    let live = ground.state();
    let databases = "select string_agg(datname || oid, ',' order by oid) from pg_database";
    let before = cluster.sql("postgres", databases);
    let objects = bytes_under(&ground.repository().join("objects"));
    for (file, bytes) in &objects {
        let mut damaged = bytes.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x40;
        fs::write(file, damaged).expect("an object is damaged");
    }
    let failed = ground.backstay.run(&["restore", &id, "--yes", "--json"]).ended(20).json();
    assert_eq!(failed["changed"], false);
    assert_eq!(cluster.sql("postgres", databases), before, "a restore that failed touched a database");
    assert_eq!(ground.state(), live);

    for (file, bytes) in &objects {
        fs::write(file, bytes).expect("an object is whole again");
    }
    let _ = ground.backstay.run(&["restore", &id, "--yes"]).ended(0);
    assert_eq!(ground.state(), good);
}

fn genesis_1209_a_missing_snapshot_is_recorded_as_rolled_back(cluster: &PrivateCluster) {
    let ground = Ground::new(cluster, "genesis");
    let before = ground.state();
    for id in ["20200101_000000", "latest", "before-deploy"] {
        let refused = ground.backstay.run(&["restore", id, "--yes", "--json"]).ended(10).json();
        assert_eq!(refused["outcome"], "refused");
    }
    let runs = ground.backstay.run(&["history", "--json"]).ended(0).json();
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(0), "{runs}");
    assert_eq!(ground.state(), before);
}

fn databasus_a_restore_that_is_only_planned_is_logged_as_done(cluster: &PrivateCluster) {
    let ground = Ground::new(cluster, "databasus");
    let _ = ground.snapshot();
    ground.bad_release();
    let bad = ground.state();
    let _ = ground.backstay.run(&["restore", "latest", "--plan"]).ended(0);
    let _ = ground.backstay.run(&["restore", "latest", "--non-interactive"]).ended(10);
    let runs = ground.backstay.run(&["history", "--json"]).ended(0).json();
    let commands: Vec<_> = runs["runs"].as_array().into_iter().flatten().map(|run| run["command"].clone()).collect();
    assert!(!commands.contains(&"restore".into()), "{runs}");
    assert_eq!(ground.state(), bad);
}

/// And hackmyagent#267, which deleted the backup after calling the failed rollback done.
fn openpalm_667_a_deploy_that_failed_ends_with_zero_and_loses_its_backup(cluster: &PrivateCluster) {
    let ground = Ground::new(cluster, "openpalm");
    let before = ground.state();
    let deploy = ground.script("deploy", "echo 'greeting = broken' >config/shop.conf\nexit 1");
    let taken_back = ground.backstay.run(&["guard", "--json", "--", &deploy]).ended(12).json();
    assert_eq!(taken_back["outcome"], "taken_back");
    assert_eq!(ground.state(), before);
    let id = taken_back["snapshot"]["id"].as_str().expect("the snapshot of the deploy").to_owned();
    let _ = ground.backstay.run(&["prune"]).ended(0);
    assert_eq!(ground.snapshots(), [id.as_str()]);
    let _ = ground.backstay.run(&["check", &id]).ended(0);
}
