//! A run whose process is killed for real: a child of the test, ended by a signal that nothing catches.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use backstay_model::with_causes;
use backstay_testkit::{PrivateCluster, wait_until};
use sqlx::{Connection, Executor, PgConnection};

use crate::stand::{context, files, fresh, read, target, target_at};
use crate::{Consequence, Folder, RunOptions, run, status};

const URL: &str = "BACKSTAY_TEST_VICTIM_URL";
const FOLDER: &str = "BACKSTAY_TEST_VICTIM_FOLDER";

/// Long enough that whoever holds the gate decides when the run goes on.
fn patient() -> RunOptions {
    RunOptions { lock_timeout: Duration::from_secs(600), ..RunOptions::default() }
}

/// Not a test by itself: the process that the others start and kill.
#[tokio::test(flavor = "multi_thread")]
async fn the_victim_runs_what_it_is_told_and_else_nothing() {
    let (Some(url), Some(folder)) = (std::env::var_os(URL), std::env::var_os(FOLDER)) else { return };
    let folder = Folder::read(Path::new(&folder)).unwrap();
    let (context, _) = context();
    let _ = run(&context, &target_at(url.to_str().unwrap()), &folder, &patient()).await;
}

fn victim(cluster: &PrivateCluster, database: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed_tests::the_victim_runs_what_it_is_told_and_else_nothing"])
        .env(URL, cluster.url(database))
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Keeps `gate` until the run waits for it, kills the run there, and opens the gate.
async fn kill_at_the_gate(cluster: &PrivateCluster, database: &str, folder: &Path) {
    let mut keeper = PgConnection::connect(&cluster.url(database)).await.unwrap();
    keeper.execute("begin; lock table gate in share row exclusive mode").await.unwrap();
    let mut child = victim(cluster, database, folder);
    let waiting = "select count(*) from pg_stat_activity where application_name = 'backstay migrate run' and wait_event_type = 'Lock'";
    wait_until("the run waits at the gate", || cluster.sql(database, waiting) != "0");
    child.kill().unwrap();
    child.wait().unwrap();
    keeper.execute("rollback").await.unwrap();
}

const STATE: &str =
    "select (select string_agg(version || ' ' || success, ', ' order by version) from _sqlx_migrations),
    (select string_agg(i::text, ', ' order by i) from a), (select n from gate)";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_says_where_it_stands_and_the_next_one_ends_it() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let (context, _) = context();
    let whole = files(&[
        ("1_a.sql", "create table a (i int); insert into a values (1)"),
        ("2_b.sql", "insert into a values (2); update gate set n = n + 1; insert into a values (3)"),
    ]);
    let outside = files(&[
        ("1_a.sql", "create table a (i int); insert into a values (1)"),
        (
            "2_b.sql",
            "-- no-transaction\ninsert into a values (2); update gate set n = n + 1; vacuum a; insert into a values (3)",
        ),
    ]);
    let index = files(&[
        ("1_a.sql", "create table a (i int); insert into a values (1), (2)"),
        (
            "2_b.sql",
            "-- no-transaction\ninsert into a values (3); create index concurrently gate_n on gate (n); update gate set n = n + 1",
        ),
    ]);
    // What the status says after the kill: pending, and half done.
    let cases: [(&str, &tempfile::TempDir, usize, &[i64]); 3] =
        [("whole", &whole, 2, &[]), ("outside", &outside, 1, &[2]), ("concurrently", &index, 1, &[2])];
    for (database, folder, pending, half) in cases {
        let live = fresh(&cluster, database);
        cluster.sql(database, "create table gate (n int); insert into gate values (0)");
        kill_at_the_gate(&cluster, database, folder.path()).await;
        let stands = status(&live, Some(&read(folder))).await.unwrap();
        assert_eq!((stands.pending.len(), stands.half_done.as_slice()), (pending, half), "{database}: {stands:?}");
        assert!(stands.faults.is_empty(), "{database}: {:?}", stands.faults);
        let ended = run(&context, &live, &read(folder), &patient()).await;
        ended.unwrap_or_else(|error| panic!("{database}: {}", with_causes(&error)));
        assert_eq!(cluster.sql(database, STATE), "1 true, 2 true|1, 2, 3|1", "{database}");
        assert_eq!(cluster.sql(database, "select count(*) from pg_index where not indisvalid"), "0", "{database}");
        let left = "select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())";
        wait_until("no lock is left", || cluster.sql(database, left) == "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_under_a_run_loses_nothing_but_the_run() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let live = fresh(&cluster, "shop");
    cluster.sql("shop", "create table gate (n int); insert into gate values (0)");
    let folder = files(&[
        ("1_a.sql", "create table a (i int); insert into a values (1), (2)"),
        ("2_b.sql", "-- no-transaction\ninsert into a values (3); update gate set n = n + 1"),
    ]);
    let mut keeper = PgConnection::connect(&cluster.url("shop")).await.unwrap();
    keeper.execute("begin; lock table gate in share row exclusive mode").await.unwrap();
    let (context, _) = context();
    let running = {
        let (context, folder) = (context.clone(), read(&folder));
        let live = target(&cluster, "shop");
        tokio::spawn(async move { run(&context, &live, &folder, &patient()).await })
    };
    let waiting = "select count(*) from pg_stat_activity where application_name = 'backstay migrate run' and wait_event_type = 'Lock'";
    let cluster = tokio::task::spawn_blocking(move || {
        wait_until("the run waits at the gate", || cluster.sql("shop", waiting) != "0");
        cluster.restart();
        cluster
    })
    .await
    .unwrap();
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.consequence(), Consequence::Changed, "{}", with_causes(&error));
    let stands = status(&live, Some(&read(&folder))).await.unwrap();
    assert_eq!((stands.pending.len(), stands.half_done), (1, vec![2]));
    run(&context, &live, &read(&folder), &patient()).await.unwrap();
    assert_eq!(cluster.sql("shop", STATE), "1 true, 2 true|1, 2, 3|1");
}
