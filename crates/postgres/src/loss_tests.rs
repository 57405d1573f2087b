use std::os::unix::fs::PermissionsExt;

use backstay_part::Part;

use super::*;
use crate::bench::Bench;

const SHOP: &str = "
    create table customers (id bigint primary key, name text);
    insert into customers select i, 'customer ' || i from generate_series(-50, 50) i;
    create table orders (id int generated always as identity primary key, customer bigint references customers, note text);
    insert into orders (customer, note) select 1, null from generate_series(1, 100);
    create table tags (name text, kind text, colour text, primary key (kind, name));
    insert into tags select 'tag' || i, 'k', 'red' from generate_series(1, 30) i;
    create table events (it text);
    insert into events select 'same' from generate_series(1, 5);
    insert into events values ('only before');
    create table \"Odd \"\"Name\" (a int, \"b c\" text);
    create table sessions (id int primary key);
    create table _sqlx_migrations (version bigint primary key, description text not null,
        installed_on timestamptz not null default now(), success boolean not null, checksum bytea not null,
        execution_time bigint not null);
    create table shape (id int primary key, stays text, goes text);
    insert into shape values (1, 'x', 'y')";

const WRITES: &str = "
    insert into customers values (-1000, E'tab\\tand \\\\ and ''quote'''), (1000, null);
    update customers set name = 'changed' where id in (-50, 50);
    delete from customers where id = 7;
    insert into orders (customer, note) values (1000, 'of a new customer');
    update tags set colour = 'blue' where name = 'tag3';
    insert into tags values ('new', 'k', 'green'); delete from tags where name = 'tag30';
    insert into events values ('same'), ('same'), ('new'); delete from events where it = 'only before';
    insert into \"Odd \"\"Name\" values (1, 'x'), (1, 'x'), (null, null);
    insert into sessions values (1), (2);
    insert into _sqlx_migrations values (1, 'first', now(), true, 'x', 1);
    alter table shape drop goes, add came text default 'z'; update shape set stays = 'w';
    create table later (id int primary key, what text); insert into later values (1, 'one'), (2, 'two')";

fn told(loss: &Loss) -> Vec<String> {
    let one = |table: &TableLoss| {
        format!("{} {} +{} ~{} -{}", table.database, table.table, table.inserted, table.updated, table.deleted)
    };
    loss.tables.iter().map(one).collect()
}

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_kept_database_holds_is_counted_written_out_and_can_be_loaded_again() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.create("shop");
    bench.cluster.sql("shop", SHOP);
    let part = bench.part_with("postgres", &["shop"], &["public.sessions"], crate::Options::default());
    let recorded = bench.capture_to_restore(&part).await;
    bench.cluster.sql("shop", WRITES);
    let staged = part.stage(&bench.context, &recorded).await.unwrap();
    let proof = part.prove(&bench.context, &recorded, &staged).await.unwrap();
    assert_eq!(proof.findings, Vec::<String>::new());
    let token = part.activate(&bench.context, &staged).await.unwrap();

    let loss = part.loss(&bench.context, &token).await.unwrap().unwrap();
    let expected = [
        "shop public.Odd \"Name +3 ~0 -0",
        "shop public.customers +2 ~2 -1",
        "shop public.events +3 ~0 -1",
        "shop public.later +2 ~0 -0",
        "shop public.orders +1 ~0 -0",
        "shop public.shape +0 ~1 -0",
        "shop public.tags +1 ~1 -1",
    ];
    assert_eq!(told(&loss), expected);
    assert!(loss.exact, "{loss:?}");
    assert!(loss.caveats.iter().any(|caveat| caveat.contains("public.shape differs in its columns")), "{loss:?}");
    assert!(loss.caveats.iter().any(|caveat| caveat.contains("public.sessions are left out")), "{loss:?}");
    let both = Both::open(&part, &bench.context, &token).await.unwrap().unwrap();
    let sampled = compare(&part, both, -1).await.unwrap();
    assert!(!sampled.exact && sampled.rows().is_multiple_of(SAMPLE_PARTS), "{sampled:?}");

    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("rescued");
    let report = part.rescue(&bench.context, &token, &folder).await.unwrap();
    assert_eq!(mode(&folder), 0o700);
    let rows: Vec<_> = report.tables.iter().map(|table| (table.table.as_str(), table.rows)).collect();
    let expected = [
        ("public.Odd \"Name", 3),
        ("public.customers", 4),
        ("public.events", 3),
        ("public.later", 2),
        ("public.orders", 1),
        ("public.shape", 1),
        ("public.tags", 2),
    ];
    assert_eq!(rows, expected);
    for entry in std::fs::read_dir(&folder).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    let readme = std::fs::read_to_string(folder.join("README.txt")).unwrap();
    assert!(readme.contains("-f 'load-shop.sql'"), "{readme}");
    let again = part.rescue(&bench.context, &token, &folder).await.unwrap_err();
    assert_eq!(again.kind(), backstay_part::ErrorKind::Refused);

    let loaded = bench
        .cluster
        .client("psql")
        .args(["-X", "-U", "postgres", "-d", "shop", "-f", "load-shop.sql"])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    // Only what was deleted, and what the live side has no table for, is left of it.
    let loss = part.loss(&bench.context, &token).await.unwrap().unwrap();
    let expected = [
        "shop public.customers +0 ~0 -1",
        "shop public.events +0 ~0 -1",
        "shop public.later +2 ~0 -0",
        "shop public.tags +0 ~0 -1",
    ];
    assert_eq!(told(&loss), expected);

    part.settle(&bench.context, &token).await.unwrap();
    assert_eq!(part.loss(&bench.context, &token).await.unwrap(), None);
    let gone = part.rescue(&bench.context, &token, &folder.join("more")).await.unwrap_err();
    assert_eq!(gone.kind(), backstay_part::ErrorKind::Refused);
}

/// The hash of an enum's value is another in every copy, so each of these partitions holds other rows there.
const MOODS: &str = "
    create type mood as enum ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h');
    create table moods (id int, mood mood, primary key (id, mood)) partition by hash (mood);
    create table moods_0 partition of moods for values with (modulus 3, remainder 0);
    create table moods_1 partition of moods for values with (modulus 3, remainder 1);
    create table moods_2 partition of moods for values with (modulus 3, remainder 2);
    insert into moods select n, m from generate_series(1, 20) n, unnest(enum_range(null::mood)) m;
    select lo_create(9)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_lie_in_another_partition_of_a_copy_are_not_called_lost() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.create("shop");
    bench.cluster.sql("shop", MOODS);
    let part = bench.part("postgres", &["shop"]);
    let recorded = bench.capture_to_restore(&part).await;
    bench
        .cluster
        .sql("shop", "insert into moods values (21, 'a'), (21, 'b'); delete from moods where id = 1 and mood = 'h'");
    let staged = part.stage(&bench.context, &recorded).await.unwrap();
    assert!(part.prove(&bench.context, &recorded, &staged).await.unwrap().holds());
    let token = part.activate(&bench.context, &staged).await.unwrap();
    let loss = part.loss(&bench.context, &token).await.unwrap().unwrap();
    assert_eq!(told(&loss), ["shop public.moods +2 ~0 -1"]);
    assert_eq!(loss.caveats, ["large objects were not compared"]);

    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("rescued");
    let report = part.rescue(&bench.context, &token, &folder).await.unwrap();
    assert_eq!(report.tables.iter().map(|table| table.rows).collect::<Vec<_>>(), [2]);
    let mut psql = bench.cluster.client("psql");
    psql.args(["-X", "-U", "postgres", "-d", "shop", "-f", "load-shop.sql"]).current_dir(&folder);
    let loaded = psql.output().unwrap();
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    assert_eq!(told(&part.loss(&bench.context, &token).await.unwrap().unwrap()), ["shop public.moods +0 ~0 -1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_says_zero_only_where_nothing_was_written() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.create("shop");
    bench.cluster.sql("shop", SHOP);
    let part = bench.part_with("postgres", &["shop"], &["public.sessions"], crate::Options::default());
    let recorded = bench.capture_to_restore(&part).await;
    let plan = async || part.plan(&bench.context, &recorded).await.unwrap();
    assert_eq!(plan().await.loss.unwrap().rows(), 0);

    // Elsewhere, and rows that are nobody's: no session is left that could know more.
    bench.cluster.sql("postgres", "create table elsewhere (id int)");
    bench.cluster.sql("shop", "insert into sessions values (1)");
    bench.cluster.sql("shop", "insert into _sqlx_migrations values (1, 'first', now(), true, 'x', 1)");
    assert_eq!(plan().await.loss.unwrap().rows(), 0);

    // A session that has written and not yet committed: nobody counts its rows.
    let mut writer = connect(&bench.settings("postgres", "shop"), "client").await.unwrap();
    writer.execute("write", "begin; insert into public.customers values (1001, 'x')").await.unwrap();
    let unsure = plan().await;
    assert_eq!(unsure.loss, None);
    assert!(unsure.warnings.iter().any(|text| text.contains("sessions are at work")), "{:?}", unsure.warnings);
    // Committed, it may keep the count to itself for a while: that is waited for.
    writer.execute("commit", "commit").await.unwrap();
    assert_eq!(told(&plan().await.loss.unwrap()), ["shop public.customers +1 ~0 -0"]);
    writer.close().await;

    bench.cluster.sql("shop", "update tags set colour = 'blue' where name = 'tag3'; delete from orders where id < 4");
    let expected = ["shop public.customers +1 ~0 -0", "shop public.orders +0 ~0 -3", "shop public.tags +0 ~1 -0"];
    assert_eq!(told(&plan().await.loss.unwrap()), expected);
    bench.cluster.sql("shop", "drop table events");
    assert!(told(&plan().await.loss.unwrap()).contains(&"shop public.events +0 ~0 -6".to_owned()));

    bench.cluster.sql("shop", "truncate orders");
    let unsure = plan().await;
    assert_eq!(unsure.loss, None);
    assert!(unsure.warnings.iter().any(|text| text.contains("public.orders was truncated")), "{:?}", unsure.warnings);
    bench.cluster.sql("shop", "select pg_stat_reset()");
    assert!(plan().await.warnings.iter().any(|text| text.contains("counters were reset")));
    bench.cluster.sql("postgres", "drop database shop with (force)");
    bench.cluster.create("shop");
    assert!(plan().await.warnings.iter().any(|text| text.contains("another database")));
}
