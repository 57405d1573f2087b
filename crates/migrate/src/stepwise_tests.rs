use std::time::Duration;

use backstay_model::{Event, with_causes};
use backstay_testkit::{PrivateCluster, wait_until};
use sqlx::{Connection, Executor, PgConnection};

use crate::stand::{context, files, fresh, history, read, target, write};
use crate::{Consequence, DownTo, Error, RunOptions, down, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_outside_of_a_transaction_stops_half_way_and_goes_on_where_it_stopped() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let target = fresh(&cluster, "shop");
    cluster.sql("shop", "create table t (i int); insert into t values (1), (1)");
    let folder = files(&[
        (
            "1_i.up.sql",
            "-- no-transaction\ninsert into t values (5);\ncreate unique index concurrently if not exists t_i on t (i);\nvacuum t;",
        ),
        ("1_i.down.sql", "-- no-transaction\ndrop index concurrently t_i; delete from t where i = 5"),
    ]);
    let (context, _) = context();
    let error = run(&context, &target, &read(&folder), &RunOptions::default()).await.unwrap_err();
    assert_eq!(error.consequence(), Consequence::Changed);
    assert!(with_causes(&error).starts_with("1_i.up.sql line 3"), "{}", with_causes(&error));
    assert_eq!(error.stands().unwrap(), "what 1_i.up.sql did before line 3 stays");
    // What the failed statement left is gone, and the history says that the version is half done.
    assert_eq!(cluster.sql("shop", "select count(*) from pg_index where not indisvalid"), "0");
    assert!(history(&cluster, "shop").contains("|f|"));
    let half = crate::status(&target, Some(&read(&folder))).await.unwrap();
    assert_eq!((half.half_done, half.faults.len()), (vec![1], 0));

    // A leftover of the same name would pass for the real one.
    let _ = cluster.sql_as("postgres", "shop", "create unique index concurrently t_i on t (i)");
    assert_eq!(cluster.sql("shop", "select count(*) from pg_index where not indisvalid"), "1");
    cluster.sql("shop", "delete from t where ctid in (select max(ctid) from t where i = 1)");
    let report = run(&context, &target, &read(&folder), &RunOptions::default()).await.unwrap();
    assert_eq!(report.applied, ["1_i.up.sql"]);
    assert!(report.aftermath.invalid_indexes.is_empty());
    assert_eq!(cluster.sql("shop", "select indisvalid from pg_index where indexrelid = 't_i'::regclass"), "t");
    assert_eq!(cluster.sql("shop", "select string_agg(i::text, ',' order by i) from t"), "1,5");

    let back = down(&context, &target, &read(&folder), DownTo::Steps(1), &RunOptions::default()).await.unwrap();
    assert_eq!((back.reverted, back.head), (vec!["1_i.down.sql".to_owned()], None));
    assert_eq!(cluster.sql("shop", "select count(*) from t"), "1");
    run(&context, &target, &read(&folder), &RunOptions::default()).await.unwrap();
    assert_eq!(cluster.sql("shop", "select count(*) from t"), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_whose_end_nobody_saw_is_not_run_again_blindly() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let target = fresh(&cluster, "shop");
    let folder = files(&[("1_d.sql", "-- no-transaction\nselect 1; create database other")]);
    let (context, _) = context();
    cluster.create("other");
    run(&context, &target, &read(&folder), &RunOptions::default()).await.unwrap_err();
    cluster.sql(
        "shop",
        "insert into backstay.statements select run, 1, 'up', 1, 2, sha256('create database other'), 'intent', null from backstay.runs",
    );
    let error = run(&context, &target, &read(&folder), &RunOptions::default()).await.unwrap_err();
    assert!(matches!(error, Error::Unfinished { .. }), "{}", with_causes(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocker_is_named_and_when_it_goes_the_run_succeeds() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let target = fresh(&cluster, "shop");
    cluster.sql("shop", "create table t (i int)");
    let folder = files(&[("1_a.sql", "alter table t add column j int")]);
    let mut blocker = PgConnection::connect(&cluster.url("shop")).await.unwrap();
    blocker
        .execute("set application_name = 'the long report'; begin; lock table t in access share mode")
        .await
        .unwrap();
    let (context, heard) = context();
    let short = Duration::from_millis(300);
    let options = RunOptions { lock_timeout: short, retry_for: short, ..RunOptions::default() };
    let planned = crate::plan(&target, &read(&folder), &options).await.unwrap();
    assert_eq!(planned.blockers[0].application, "the long report");
    let error = run(&context, &target, &read(&folder), &options).await.unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{}", with_causes(&error));

    let patient = RunOptions { retry_for: Duration::from_secs(120), ..options };
    let named = {
        let heard = heard.clone();
        tokio::task::spawn_blocking(move || {
            wait_until("the blocker is named", || {
                let names = |event: &Event| matches!(event, Event::Waiting { on } if on.contains("the long report"));
                heard.events().iter().any(names)
            });
        })
    };
    let release = async {
        named.await.unwrap();
        blocker.execute("commit").await.unwrap();
    };
    let folder = read(&folder);
    let (ran, ()) = tokio::join!(run(&context, &target, &folder, &patient), release);
    assert_eq!(ran.unwrap().applied, ["1_a.sql"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_runners_one_works_and_the_others_find_it_done() {
    let Some(cluster) = PrivateCluster::start() else { return };
    fresh(&cluster, "shop");
    let folder = files(&[("1_a.sql", "create table t (i int); insert into t values (1); select pg_sleep(0.2)")]);
    let folder = read(&folder);
    let mut all = Vec::new();
    for _ in 0..4 {
        let (target, folder) = (target(&cluster, "shop"), folder.clone());
        all.push(tokio::spawn(async move {
            let (context, _) = context();
            let options = RunOptions { lock_wait: Duration::from_secs(120), ..RunOptions::default() };
            run(&context, &target, &folder, &options).await.unwrap().applied.len()
        }));
    }
    let mut applied = 0;
    for one in all {
        applied += one.await.unwrap();
    }
    assert_eq!((applied, cluster.sql("shop", "select count(*) from t").as_str()), (1, "1"));
    assert_eq!(cluster.sql("shop", "select count(*) from pg_locks where locktype = 'advisory'"), "0");

    // An application with sqlx inside holds the same lock while it migrates.
    let mut application = PgConnection::connect(&cluster.url("shop")).await.unwrap();
    sqlx::migrate::Migrate::lock(&mut application).await.unwrap();
    let (context, _) = context();
    let options = RunOptions { lock_wait: Duration::from_millis(1), ..RunOptions::default() };
    let error = run(&context, &target(&cluster, "shop"), &folder, &options).await.unwrap_err();
    assert_eq!(error.consequence(), Consequence::Busy, "{}", with_causes(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_need_a_commit_between_them_get_one_and_no_other() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let target = fresh(&cluster, "shop");
    let folder = files(&[
        ("1_a.sql", "create type mood as enum ('sad'); create table t (m mood)"),
        ("2_b.sql", "set local lock_timeout = '7s'; alter type mood add value 'happy'"),
        ("3_c.sql", "insert into t values ('happy')"),
        (
            "4_d.sql",
            "create table p (i int primary key); create table c (i int references p deferrable initially deferred);
             insert into p values (1); insert into c values (1)",
        ),
        ("5_e.sql", "alter table c add column j int"),
        // The value's use is hidden from a look at the text.
        ("6_f.sql", "alter type mood add value 'calm'"),
        ("7_g.sql", "insert into t values (('ca' || 'lm')::mood)"),
        ("8_h.sql", "create table l as select current_setting('lock_timeout') as v"),
    ]);
    let (context, _) = context();
    let planned = crate::plan(&target, &read(&folder), &RunOptions::default()).await.unwrap();
    let before: Vec<_> = planned.cuts.iter().map(|cut| cut.before.as_str()).collect();
    assert_eq!(before, ["3_c.sql", "5_e.sql"]);
    let report = run(&context, &target, &read(&folder), &RunOptions::default()).await.unwrap();
    assert_eq!((report.applied.len(), report.transactions), (8, 4));
    assert_eq!(report.cuts.last().unwrap().before, "7_g.sql");
    assert_eq!(cluster.sql("shop", "select v from l"), "2s");
    write(folder.path(), "9_i.sql", "alter table c add foreign key (j) references p not valid");
    let report = run(&context, &target, &read(&folder), &RunOptions::default()).await.unwrap();
    assert_eq!(report.aftermath.unvalidated, ["public.c c_j_fkey"]);
    cluster.sql("shop", "create table by_hand (i int)");
    let planned = crate::plan(&target, &read(&folder), &RunOptions::default()).await.unwrap();
    assert!(planned.drift.iter().any(|change| change.object == "table public.by_hand"));
}
