use backstay_model::with_causes;
use backstay_testkit::PrivateCluster;

use crate::stand::{context, files, fresh, history, read};
use crate::{Consequence, RunOptions, plan, rehearse_in_place, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_takes_back_every_file_of_the_transaction_and_says_where() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let target = fresh(&cluster, "shop");
    let empty = cluster.dump("shop");
    let folder =
        files(&[("1_a.sql", "create table a (i int);"), ("2_b.sql", "create table b (i int);\n\nselect 1/0;")]);
    let (context, _) = context();
    let error = run(&context, &target, &read(&folder), &RunOptions::default()).await.unwrap_err();
    assert_eq!(error.consequence(), Consequence::Unchanged);
    assert_eq!(with_causes(&error), "2_b.sql line 3 (`select 1/0`) failed: division by zero (22012)");
    assert_eq!(cluster.dump("shop"), empty);
    let options = RunOptions { per_file: true, ..RunOptions::default() };
    let error = run(&context, &target, &read(&folder), &options).await.unwrap_err();
    assert_eq!(error.consequence(), Consequence::Changed);
    assert_eq!(error.stands().unwrap(), "1_a.sql was committed and stays; nothing of the rest was changed");
    assert_eq!(history(&cluster, "shop").lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_a_file_takes_reaches_neither_the_history_nor_the_next_file() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let target = fresh(&cluster, "shop");
    cluster.sql("shop", "create role clerk; create schema office authorization clerk");
    let folder = files(&[
        ("1_a.sql", "set role clerk; create table office.one (i int);"),
        ("2_b.sql", "create table two (i int); set session authorization clerk; create table office.three (i int);"),
        (
            "3_c.sql",
            "-- no-transaction\nset role clerk;\ncreate table office.four (i int);\ncreate index concurrently i on office.four (i);",
        ),
        ("4_d.sql", "create table five (i int);"),
    ]);
    let (context, _) = context();
    let report = run(&context, &target, &read(&folder), &RunOptions::default()).await.unwrap();
    assert_eq!(report.applied.len(), 4);
    let owned = "select string_agg(relname || ' ' || relowner::regrole, ', ' order by relname) from pg_class
         where relname in ('one', 'two', 'three', 'four', 'five')";
    assert_eq!(cluster.sql("shop", owned), "five postgres, four clerk, one clerk, three clerk, two postgres");
    assert_eq!(history(&cluster, "shop").lines().count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_and_rehearsal_in_place_leave_the_database_equal_to_the_byte() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let target = fresh(&cluster, "shop");
    cluster.sql("shop", "create table t (i int); insert into t select generate_series(1, 1000)");
    let folder = files(&[
        ("1_a.sql", "alter table t alter column i type bigint; create table a (i int)"),
        ("2_b.sql", "update t set i = i + 1 where i < 11; alter table t alter column i set not null;"),
    ]);
    let before = cluster.dump("shop");
    let (context, _) = context();
    let planned = plan(&target, &read(&folder), &RunOptions::default()).await.unwrap();
    assert_eq!(planned.pending(), 2);
    assert_eq!(cluster.dump("shop"), before);
    let rehearsal = rehearse_in_place(&context, &target, &read(&folder), &RunOptions::default()).await.unwrap();
    assert_eq!(cluster.dump("shop"), before);
    eprintln!("{}", serde_json::to_string_pretty(&rehearsal).unwrap());
    assert_eq!(rehearsal.statements.len(), 4);
    assert_eq!(rehearsal.statements[0].rewrites[0].relation, "public.t");
    assert_eq!(rehearsal.statements[2].rows[0].updated, 10);
    assert_eq!(rehearsal.statements[3].scans[0].rows, 1000);
}
