use backstay_testkit::PrivateCluster;
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection};

use crate::stand::{context, dump, files, fresh, history, read, target, told, write};
use crate::{Consequence, RunOptions, plan, rehearse_in_place, run, status};

const SHOP: &[(&str, &str)] = &[
    (
        "1_users.sql",
        "create table users (id bigint primary key, name text not null);\ninsert into users values (1, 'a;b');",
    ),
    ("20240101000000_add_orders.up.sql", "\u{feff}"),
    ("20240101000000_add_orders.down.sql", "drop table orders;"),
];

async fn sqlx_runs(cluster: &PrivateCluster, database: &str, folder: &std::path::Path) -> Result<(), String> {
    let mut connection = PgConnection::connect(&cluster.url(database)).await.unwrap();
    let migrator = Migrator::new(folder).await.unwrap();
    migrator.run_direct(None, &mut connection, false).await.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlx_and_backstay_continue_each_others_history() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let folder = files(SHOP);
    write(
        folder.path(),
        "20240101000000_add_orders.up.sql",
        "create table orders (id bigint primary key, user_id bigint references users);\r\ninsert into orders values (7, 1);\r\n",
    );
    let (context, _) = context();
    let (ours, theirs) = (fresh(&cluster, "ours"), fresh(&cluster, "theirs"));
    let report = run(&context, &ours, &read(&folder), &RunOptions::default()).await.unwrap();
    assert_eq!(report.applied, ["1_users.sql", "20240101000000_add_orders.up.sql"]);
    assert_eq!((report.transactions, report.head), (1, Some(20_240_101_000_000)));
    sqlx_runs(&cluster, "theirs", folder.path()).await.unwrap();
    assert_eq!(history(&cluster, "ours"), history(&cluster, "theirs"));
    assert_eq!(dump(&cluster, "ours"), dump(&cluster, "theirs"));

    write(folder.path(), "20240102000000_more.sql", "alter table users add column email text;");
    sqlx_runs(&cluster, "ours", folder.path()).await.unwrap();
    run(&context, &theirs, &read(&folder), &RunOptions::default()).await.unwrap();
    assert_eq!(history(&cluster, "ours"), history(&cluster, "theirs"));
    assert_eq!(dump(&cluster, "ours"), dump(&cluster, "theirs"));
    let again = run(&context, &ours, &read(&folder), &RunOptions::default()).await.unwrap();
    assert_eq!((again.applied.len(), again.transactions), (0, 0));
    assert!(status(&target(&cluster, "ours"), Some(&read(&folder))).await.unwrap().pending.is_empty());
}

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
    assert_eq!(told(&error), "2_b.sql line 3 (`select 1/0`) failed: division by zero (22012)");
    assert_eq!(cluster.dump("shop"), empty);
    let options = RunOptions { per_file: true, ..RunOptions::default() };
    let error = run(&context, &target, &read(&folder), &options).await.unwrap_err();
    assert_eq!(error.consequence(), Consequence::Changed);
    assert_eq!(history(&cluster, "shop").lines().count(), 1);
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
