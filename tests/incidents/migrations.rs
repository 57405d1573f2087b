//! Migrations that other tools lost, repeated, hid, or hung on.

use std::fs;
use std::process::Stdio;

use backstay_testkit::{PrivateCluster, wait_until};

use crate::ground::Ground;

#[test]
fn a_migration_that_fails_stands_where_it_says_it_stands() {
    let Some(cluster) = PrivateCluster::start() else { return };
    golang_migrate_282_a_file_that_failed_in_the_middle_is_dirty_and_nobody_knows_what_ran(&cluster);
    umami_3536_one_failed_migration_blocks_every_later_one(&cluster);
    contember_906_an_invalid_index_is_taken_for_the_index(&cluster);
    mediafusion_682_a_failed_migration_keeps_the_lock(&cluster);
    prisma_9869_there_is_no_way_down_without_the_old_files(&cluster);
}

#[test]
fn what_a_folder_contradicts_is_refused_by_name() {
    let Some(cluster) = PrivateCluster::start() else { return };
    sqlx_2659_line_ends_change_a_checksum_and_nobody_says_why(&cluster);
    open_bank_oss_1167_a_licence_header_restarts_the_service_55_times(&cluster);
    superplane_4812_a_migration_below_the_newest_is_skipped_in_silence(&cluster);
    goose_292_several_statements_outside_of_a_transaction_are_sent_as_one(&cluster);
}

#[test]
fn migrations_wait_look_and_start_without_harm() {
    let Some(cluster) = PrivateCluster::start() else { return };
    taskcluster_3632_a_migration_that_waits_makes_everybody_wait(&cluster);
    node_pg_migrate_1705_a_dry_run_creates_its_table_and_needs_to_write(&cluster);
    refinery_269_a_dry_run_that_cannot_say_whether_it_would_work(&cluster);
    dbmate_101_runners_started_together_race(&cluster);
    rustical_156_a_migration_without_a_backup(&cluster);
    curie_2296_the_old_image_refuses_the_history_it_does_not_know(&cluster);
}

fn project<'c>(cluster: &'c PrivateCluster, name: &str, files: &[(&str, &str)]) -> Ground<'c> {
    let ground = Ground::bare(cluster, name);
    for (file, text) in files {
        ground.write(&format!("migrations/{file}"), text);
    }
    let _ = ground.backstay.run(&["init", "--project", "shop"]).ended(0);
    ground
}

const HISTORY: &str = "select string_agg(version || ' ' || success, ', ' order by version) from _sqlx_migrations";

fn golang_migrate_282_a_file_that_failed_in_the_middle_is_dirty_and_nobody_knows_what_ran(cluster: &PrivateCluster) {
    let file = "-- no-transaction\ninsert into store.seen values (1);\ninsert into store.seen values (2);\ninsert into store.seen select 3 / n from store.zero;\ninsert into store.seen values (4);";
    let ground = project(cluster, "golang", &[("1_seen.sql", file)]);
    ground.sql("create table store.seen (n int); create table store.zero (n int); insert into store.zero values (0)");
    let failed = ground.backstay.run(&["migrate", "run", "--json"]).ended(13).json();
    assert!(failed["error"]["what"].to_string().contains("1_seen.sql line 4"), "{failed}");
    let status = ground.backstay.run(&["migrate", "status", "--json"]).ended(0).json();
    assert_eq!(status["status"]["half_done"], serde_json::json!([1]), "{status}");
    // No `force`, no version set by hand: the cause is mended, and the run goes on where it stopped.
    ground.sql("update store.zero set n = 1");
    let _ = ground.backstay.run(&["migrate", "run"]).ended(0);
    assert_eq!(ground.sql("select string_agg(n::text, ',' order by n) from store.seen"), "1,2,3,4");
    assert_eq!(ground.sql(HISTORY), "1 true");
}

/// Of the same kind: Prisma's P3009.
fn umami_3536_one_failed_migration_blocks_every_later_one(cluster: &PrivateCluster) {
    let ground = project(cluster, "umami", &[("1_a.sql", "create table store.a (i int); select 1 / 0;")]);
    let before = ground.state();
    let _ = ground.backstay.run(&["migrate", "run"]).ended(11);
    assert_eq!(ground.state(), before, "a failed migration left a row of history or a table");
    ground.write("migrations/1_a.sql", "create table store.a (i int);");
    ground.write("migrations/2_b.sql", "create table store.b (i int);");
    let _ = ground.backstay.run(&["migrate", "run"]).ended(0);
    assert_eq!(ground.sql(HISTORY), "1 true, 2 true");
}

fn contember_906_an_invalid_index_is_taken_for_the_index(cluster: &PrivateCluster) {
    let file = "-- no-transaction\ncreate unique index concurrently if not exists one_each on store.twice (n);";
    let ground = project(cluster, "contember", &[("1_index.sql", file)]);
    ground.sql("create table store.twice as select n % 5 as n from generate_series(1, 10) n");
    let _ = ground.backstay.run(&["migrate", "run"]).ended(13);
    assert_ne!(
        ground.sql("select count(*) from _sqlx_migrations where success"),
        "1",
        "called done over an invalid index"
    );
    ground.sql("truncate store.twice; insert into store.twice values (1)");
    let _ = ground.backstay.run(&["migrate", "run"]).ended(0);
    assert_eq!(ground.sql("select indisvalid from pg_index where indexrelid = 'store.one_each'::regclass"), "t");
    assert_eq!(ground.sql(HISTORY), "1 true");
}

/// Of the same kind: lakekeeper#1790.
fn mediafusion_682_a_failed_migration_keeps_the_lock(cluster: &PrivateCluster) {
    let ground = project(cluster, "mediafusion", &[("1_a.sql", "select 1 / 0;")]);
    let _ = ground.backstay.run(&["migrate", "run"]).ended(11);
    let locks = "select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())";
    wait_until("no lock is left", || ground.sql(locks) == "0");
    ground.write("migrations/1_a.sql", "select 1;");
    let _ = ground.backstay.run(&["migrate", "run"]).ended(0);
}

/// Of the same kind: pocket-id#874.
fn prisma_9869_there_is_no_way_down_without_the_old_files(cluster: &PrivateCluster) {
    let files = [("1_a.up.sql", "create table store.a (i int);"), ("1_a.down.sql", "drop table store.a;")];
    let ground = project(cluster, "prisma", &files);
    let before = cluster.dump_with("prisma", &["--schema=store"]);
    let _ = ground.backstay.run(&["migrate", "run"]).ended(0);
    // The checkout is the old release's: it never heard of the file.
    for (file, _) in files {
        fs::remove_file(ground.path("migrations").join(file)).expect("the file goes");
    }
    let _ = ground.backstay.run(&["migrate", "down", "--yes"]).ended(0);
    assert_eq!(cluster.dump_with("prisma", &["--schema=store"]), before);
}

fn sqlx_2659_line_ends_change_a_checksum_and_nobody_says_why(cluster: &PrivateCluster) {
    let ground = project(cluster, "sqlx", &[("1_a.sql", "create table store.a (i int);\n")]);
    let _ = ground.backstay.run(&["migrate", "run"]).ended(0);
    let before = ground.state();
    ground.write("migrations/1_a.sql", "create table store.a (i int);\r\n");
    let refused = ground.backstay.run(&["migrate", "run", "--json"]).ended(10).json();
    let what = refused["error"]["what"].as_str().expect("what is wrong");
    assert!(what.contains("1_a.sql") && what.contains("line end"), "{what}");
    assert_eq!(ground.state(), before);
    ground.write("migrations/1_a.sql", "create table store.a (i int);\n");
    let _ = ground.backstay.run(&["migrate", "run"]).ended(0);
}

fn open_bank_oss_1167_a_licence_header_restarts_the_service_55_times(cluster: &PrivateCluster) {
    let ground = project(cluster, "openbank", &[("1_a.sql", "create table store.a (i int);\n")]);
    let _ = ground.backstay.run(&["migrate", "run"]).ended(0);
    ground.write("migrations/1_a.sql", "-- SPDX-License-Identifier: MIT\ncreate table store.a (i int);\n");
    ground.write("migrations/2_b.sql", "create table store.b (i int);\n");
    let before = ground.state();
    // The plan says it before anything is deployed, and a run says the same and begins nothing.
    for arguments in [["migrate", "plan", "--json"], ["migrate", "run", "--json"]] {
        let refused = ground.backstay.run(&arguments).ended(10).json();
        assert!(refused["error"]["what"].to_string().contains("1_a.sql"), "{refused}");
        assert_eq!(refused["changed"], false);
        assert_eq!(ground.state(), before);
    }
}

/// Of the same kind: maragudk/glue#186, flyway#79.
fn superplane_4812_a_migration_below_the_newest_is_skipped_in_silence(cluster: &PrivateCluster) {
    let ground = project(cluster, "superplane", &[("1_a.sql", "select 1;"), ("3_c.sql", "select 3;")]);
    let _ = ground.backstay.run(&["migrate", "run"]).ended(0);
    ground.write("migrations/2_b.sql", "create table store.b (i int);");
    let refused = ground.backstay.run(&["migrate", "run", "--json"]).ended(10).json();
    assert!(refused["error"]["what"].to_string().contains("2_b.sql"), "{refused}");
}

/// Of the same kind: sqlx#3693, golang-migrate#1237, hydra#3523.
fn goose_292_several_statements_outside_of_a_transaction_are_sent_as_one(cluster: &PrivateCluster) {
    let file = "-- no-transaction\ncreate index concurrently a on store.orders (status);\nvacuum store.orders;\ncreate index concurrently b on store.orders (note);";
    let ground = project(cluster, "goose", &[("1_indexes.sql", file)]);
    let _ = ground.backstay.run(&["migrate", "run"]).ended(0);
    assert_eq!(
        ground.sql(
            "select count(*) from pg_index where indexrelid::regclass::text in ('store.a', 'store.b') and indisvalid"
        ),
        "2"
    );
}

/// Of the same kind: preloop#785, and ai-memory-mcp#2614, where one lock timeout without a second try ended the start.
fn taskcluster_3632_a_migration_that_waits_makes_everybody_wait(cluster: &PrivateCluster) {
    let ground = project(cluster, "taskcluster", &[("1_a.sql", "alter table store.orders add column a int;")]);
    ground.reconfigure("folder = \"migrations\"", "folder = \"migrations\"\nlock_timeout = \"300ms\"");
    let mut reader = cluster.client("psql");
    reader.args(["-XAtq", "-U", "postgres", "-d", "taskcluster"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut reader = reader.spawn().expect("psql");
    let mut input = reader.stdin.take().expect("psql's input");
    std::io::Write::write_all(&mut input, b"begin; select count(*) from store.orders;\n").expect("psql");
    let idle = "select count(*) from pg_stat_activity where datname = 'taskcluster' and state = 'idle in transaction'";
    wait_until("the report reads", || cluster.sql("postgres", idle) == "1");
    let said = fs::File::create(ground.path("said")).expect("a file for what is said");
    let mut run = ground.backstay.command(&["migrate", "run"]);
    let mut run = run.stdout(Stdio::null()).stderr(said).spawn().expect("a run");
    // It gave up the lock, says for whom it waits, and lets others read meanwhile.
    wait_until("the run says who is in the way", || {
        fs::read_to_string(ground.path("said")).is_ok_and(|said| said.contains("waiting: a lock for 1_a.sql"))
    });
    assert_eq!(ground.sql("select count(*) from store.orders"), "200");
    assert!(run.try_wait().expect("the run is ours").is_none(), "one lock that was not had ended it");
    drop(input);
    let _ = reader.wait().expect("psql ends with its input");
    assert_eq!(run.wait().expect("the run is ours").code(), Some(0));
    assert_eq!(ground.sql("select count(a), count(*) from store.orders"), "0|200");
}

/// Of the same kind: nextly#737, dbmate#59.
fn node_pg_migrate_1705_a_dry_run_creates_its_table_and_needs_to_write(cluster: &PrivateCluster) {
    let ground = project(cluster, "nodepg", &[("1_a.sql", "alter table store.orders add column a int;")]);
    ground.sql("create role nodepg_reader login; grant usage on schema store to nodepg_reader; grant select on all tables in schema store to nodepg_reader");
    let url = cluster.url_as("nodepg_reader", "nodepg");
    ground.write(".env", &format!("DATABASE_URL={url}\n"));
    let before = ground.state();
    let planned = ground.backstay.run(&["migrate", "plan", "--json"]).ended(0).json();
    assert!(planned["plan"].to_string().contains("1_a.sql"), "{planned}");
    assert_eq!(ground.state(), before, "a look left something behind");
}

/// Of the same kind: sqlx#2857, goose#281.
fn refinery_269_a_dry_run_that_cannot_say_whether_it_would_work(cluster: &PrivateCluster) {
    let ground =
        project(cluster, "refinery", &[("1_a.sql", "alter table store.orders add constraint few check (id < 100);")]);
    let before = ground.state();
    // Only rows can tell: the text is fine.
    let failed = ground.backstay.run(&["migrate", "run", "--dry-run=in-place", "--json"]);
    let said = failed.json();
    assert!(said.to_string().contains("few"), "{said}");
    assert_ne!(failed.code, Some(0), "{said}");
    assert_eq!(ground.state(), before, "a rehearsal left something behind");
}

/// Of the same kind: rhesis#2574, aegra#565, romm#4486.
fn dbmate_101_runners_started_together_race(cluster: &PrivateCluster) {
    let ground =
        project(cluster, "dbmate", &[("1_a.sql", "create table store.a (i int); insert into store.a values (1);")]);
    let runs: Vec<_> = (0..3).map(|_| ground.backstay.start(&["migrate", "run"])).collect();
    for run in runs {
        let ended = run.wait_with_output().expect("the run is ours");
        assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    assert_eq!(ground.sql("select count(*) from store.a"), "1");
}

/// Of the same kind: Arcturus#392, Modelibr#566: everybody writes that backup by hand, until somebody forgets it.
fn rustical_156_a_migration_without_a_backup(cluster: &PrivateCluster) {
    let ground = project(cluster, "rustical", &[("1_a.sql", "alter table store.orders drop column note;")]);
    ground.reconfigure("project = ", "project = \"shop\"\nproduction = true");
    let before = ground.state();
    let refused = ground.backstay.run(&["migrate", "run", "--json"]).ended(10).json();
    assert!(refused["error"]["hint"].to_string().contains("backstay snapshot --prove"), "{refused}");
    assert_eq!(ground.state(), before);
    let id = ground.snapshot();
    let done = ground.backstay.run(&["migrate", "run", "--json"]).ended(0).json();
    assert_eq!(done["snapshot"]["id"], id.as_str());
    let _ = ground.backstay.run(&["restore", &id, "--only", "database", "--yes"]).ended(0);
    assert_eq!(ground.state(), before);
}

/// Of the same kind: centaur#1481, PeerDB#4615, kagent#1963.
fn curie_2296_the_old_image_refuses_the_history_it_does_not_know(cluster: &PrivateCluster) {
    let ground = project(cluster, "curie", &[("1_a.sql", "create table store.a (i int);")]);
    let _ = ground.backstay.run(&["migrate", "run"]).ended(0);
    let known = ground.sql("select version, encode(checksum, 'hex'), success from _sqlx_migrations order by 1");
    let id = ground.snapshot();
    ground.write("migrations/2_b.sql", "create table store.b (i int);");
    let _ = ground.backstay.run(&["migrate", "run"]).ended(0);
    assert_eq!(ground.sql("select count(*) from _sqlx_migrations"), "2");
    let _ = ground.backstay.run(&["restore", &id, "--yes"]).ended(0);
    // What the old image asks for when it starts is what it knows.
    assert_eq!(ground.sql("select version, encode(checksum, 'hex'), success from _sqlx_migrations order by 1"), known);
}
