//! The real sqlx beside us: folders of every layout give the same history to the byte and the same
//! database, whoever of the two starts and whoever goes on.

use std::path::Path;

use backstay_model::with_causes;
use backstay_testkit::{PrivateCluster, left_out, majors};
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::stand::{context, dump, files, fresh, history, read, target, write};
use crate::{DownTo, RunOptions, down, plan, run};

struct Layout {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
}

/// Files that sqlx runs as well as we do: what names and bytes may look like, and what statements.
const LAYOUTS: &[Layout] = &[
    Layout {
        name: "files",
        files: &[
            ("1_users.sql", "create table users (id bigint primary key, name text not null);\ninsert into users values (1, 'a;b');"),
            ("2_crlf.sql", "create table c (\r\n  i int, -- one\r\n  s text default 'a\r\nb'\r\n);\r\ninsert into c values (1);\r\n"),
            ("3_größe_名前_и_имя.sql", "create table \"größe; 名前\" (\"имя\" text); insert into \"größe; 名前\" values ('ü; 🦀');"),
            ("4_a__b___c.sql", "comment on table c is 'two  spaces'"),
            ("5_with.dots.and.sql.sql", "insert into c values (2)"),
            ("6_tail.sql", "insert into c values (3);\n\n\n-- the end; really"),
            ("0007_orders.up.sql", "create table orders (id bigint primary key); insert into orders values (7);"),
            ("0007_orders.down.sql", "drop table orders;"),
            ("0008_note.up.sql", "alter table orders add column note text default 'it''s; new';"),
            ("0008_note.down.sql", "alter table orders drop column note;"),
            // By number, not by name.
            ("10_c.sql", "insert into c values (10)"),
            ("9_d.sql", "insert into c values (9)"),
            ("20240101000000_more.sql", "alter table users add column email text;"),
            ("20240101000001_empty.sql", ""),
            ("20240101000002_only_a_remark.sql", "-- nothing to do here\n/* and nothing /* here */ */ ;\n"),
            ("seeds/11_e.sql", "insert into a values (1)"),
            ("README.md", "not a migration"),
            (".gitkeep", ""),
        ],
    },
    Layout {
        name: "statements",
        files: &[
            ("1_mood.sql", "create type mood as enum ('sad'); create table m (v mood default 'sad', at timestamptz);"),
            ("2_value.sql", "alter type mood add value 'happy';"),
            ("3_use.sql", "insert into m values ('happy', '2024-01-01'); alter table m alter v set default 'happy';"),
            (
                "4_keys.sql",
                "create table p (i int primary key); create table k (i int references p deferrable initially deferred);
                 insert into k values (1); insert into p values (1);",
            ),
            ("5_alter.sql", "alter table k add column j int; create materialized view mv as select count(*) from k;"),
            ("6_local.sql", "set local search_path = pg_temp, public; create table public.in_public (i int);"),
            ("7_after.sql", "create table where_am_i (i int); refresh materialized view mv;"),
            (
                "8_parts.sql",
                "create table parts (i int) partition by range (i);
                 create table parts_1 partition of parts for values from (1) to (9);
                 insert into parts values (1); create unique index on parts (i); grant select on parts to public;",
            ),
            (
                "9_bodies.sql",
                "create function one() returns int language plpgsql as $body$ begin return (select 1); -- ;\n exception when others then return $in$;$in$::text::int; end $body$;
                 do $$ begin perform 1; execute 'create table made (i int); insert into made values (1)'; end $$;
                 create function two(a int) returns int language sql begin atomic select case when a > 1 then 2 else 1 end; end;
                 create or replace procedure three() language sql begin atomic insert into made values (3); end;
                 create rule also as on insert to made do also (select 1; select 2);",
            ),
            (
                "10_strings.sql",
                "insert into made values (4); create table s (v text);
                 insert into s values (E'it\\'s; \\\\'), ('back\\slash;'), (U&'d\\0061t\\+000061;'), ($q$ $$;$$ $q$), ('a'\n'b;');
                 create or replace view names as select v as \"a;b\", 'c' as begin from s; call three();",
            ),
            ("11_t.sql", "create table t (i int); insert into t select generate_series(1, 50);"),
            ("12_i.sql", "-- no-transaction\ncreate index concurrently t_i on t (i);"),
            ("13_v.sql", "-- no-transaction, because VACUUM wants that\nvacuum t"),
            (
                "14_b.sql",
                "-- no-transaction\ndo $$ begin update t set i = i + 1; commit; insert into t values (0); end $$",
            ),
            ("15_c.sql", "alter table t add column j int;"),
        ],
    },
];

async fn sqlx_runs(cluster: &PrivateCluster, database: &str, folder: &Path) {
    let mut connection = PgConnection::connect(&cluster.url(database)).await.unwrap();
    let migrator = Migrator::new(folder).await.unwrap();
    let ran = migrator.run_direct(None, &mut connection, false).await;
    ran.unwrap_or_else(|error| panic!("sqlx in {database}: {error}"));
}

async fn we_run(cluster: &PrivateCluster, database: &str, folder: &TempDir) {
    let (context, _) = context();
    let ran = run(&context, &target(cluster, database), &read(folder), &RunOptions::default()).await;
    ran.unwrap_or_else(|error| panic!("Backstay in {database}: {}", with_causes(&error)));
}

/// The first files of a layout, which a release before it had.
fn beginning(layout: &Layout) -> TempDir {
    let mut versions: Vec<i64> = layout.files.iter().filter_map(|(name, _)| version(name)).collect();
    versions.sort_unstable();
    let last = versions[versions.len() / 2];
    let first: Vec<_> =
        layout.files.iter().filter(|(name, _)| version(name).is_some_and(|one| one < last)).copied().collect();
    files(&first)
}

fn version(name: &str) -> Option<i64> {
    name.split_once('_')?.0.parse().ok()
}

async fn same_files(layout: &Layout, folder: &TempDir) {
    let ours = read(folder);
    let theirs = Migrator::new(folder.path()).await.unwrap();
    let up: Vec<_> = theirs
        .iter()
        .filter(|one| one.migration_type.is_up_migration())
        .map(|one| (one.version, one.description.to_string(), one.checksum.to_vec(), one.no_tx))
        .collect();
    let seen: Vec<_> = ours
        .migrations
        .iter()
        .map(|one| (one.version, one.description.clone(), one.up.checksum.clone(), one.up.no_transaction))
        .collect();
    assert_eq!(seen, up, "{}", layout.name);
}

/// Each alone and, where `crosswise`, one after the other both ways round: the databases must be the same.
async fn compare(cluster: &PrivateCluster, layout: &Layout, crosswise: bool) {
    let (folder, begun) = (files(layout.files), beginning(layout));
    same_files(layout, &folder).await;
    let named = |who: &str| format!("{}_{who}", layout.name);
    let (ours, theirs, we_first, they_first) = (named("ours"), named("theirs"), named("we_first"), named("they_first"));
    let mut alike = vec![&ours];
    fresh(cluster, &ours);
    we_run(cluster, &ours, &folder).await;
    fresh(cluster, &theirs);
    sqlx_runs(cluster, &theirs, folder.path()).await;
    if crosswise {
        alike.extend([&we_first, &they_first]);
        fresh(cluster, &we_first);
        we_run(cluster, &we_first, &begun).await;
        sqlx_runs(cluster, &we_first, folder.path()).await;
        fresh(cluster, &they_first);
        sqlx_runs(cluster, &they_first, begun.path()).await;
        we_run(cluster, &they_first, &folder).await;
    }
    let (rows, wanted) = (history(cluster, &theirs), dump(cluster, &theirs));
    for database in alike {
        assert_eq!(history(cluster, database), rows, "{database}");
        assert_eq!(dump(cluster, database), wanted, "{database}");
    }
    // Each finds nothing more to do after the other.
    sqlx_runs(cluster, &ours, folder.path()).await;
    let planned = plan(&target(cluster, &theirs), &read(&folder), &RunOptions::default()).await.unwrap();
    assert_eq!((planned.pending(), planned.faults), (0, Vec::new()), "{}", layout.name);
}

/// Every major that is here; all layouts on the oldest, and on the others too where time is given.
#[tokio::test(flavor = "multi_thread")]
async fn folders_of_every_layout_give_what_sqlx_gives_whoever_begins() {
    let full = std::env::var_os("BACKSTAY_TEST_FULL").is_some();
    let found = majors();
    if found.is_empty() {
        left_out("PostgreSQL", "no server programs here");
    }
    for (place, bin) in found.iter().enumerate() {
        let cluster = PrivateCluster::start_from(bin, &[]);
        let thorough = full || place == 0;
        for layout in LAYOUTS.iter().filter(|layout| thorough || layout.name == "statements") {
            compare(&cluster, layout, thorough).await;
        }
        if thorough {
            both_ways(&cluster).await;
        }
    }
}

/// What the one applied the other takes down again.
async fn both_ways(cluster: &PrivateCluster) {
    let reversible = |name: &str| name.starts_with("000");
    let chosen: Vec<_> = LAYOUTS[0].files.iter().filter(|(name, _)| reversible(name)).copied().collect();
    let folder = files(&chosen);
    let (ours, theirs) = (fresh(cluster, "down_ours"), fresh(cluster, "down_theirs"));
    we_run(cluster, "down_ours", &folder).await;
    sqlx_runs(cluster, "down_theirs", folder.path()).await;
    let migrator = Migrator::new(folder.path()).await.unwrap();
    let mut connection = PgConnection::connect(&cluster.url("down_ours")).await.unwrap();
    migrator.undo(&mut connection, 7).await.unwrap();
    let (context, _) = context();
    let back = down(&context, &theirs, &read(&folder), DownTo::Version(7), &RunOptions::default()).await.unwrap();
    assert_eq!((back.reverted.len(), back.head), (1, Some(7)));
    assert_eq!(history(cluster, "down_ours"), history(cluster, "down_theirs"));
    assert_eq!(dump(cluster, "down_ours"), dump(cluster, "down_theirs"));
    // What sqlx took down is simply pending again, and then nothing is.
    let again = run(&context, &ours, &read(&folder), &RunOptions::default()).await.unwrap();
    assert_eq!((again.applied, again.transactions, again.head), (vec!["0008_note.up.sql".to_owned()], 1, Some(8)));
    let again = run(&context, &ours, &read(&folder), &RunOptions::default()).await.unwrap();
    assert_eq!((again.applied.len(), again.transactions), (0, 0));
}

/// What sqlx cannot run and we can still leaves a history that sqlx accepts.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_sqlx_alone_would_not_run_leave_a_history_that_it_accepts() {
    let Some(cluster) = PrivateCluster::start() else { return };
    fresh(&cluster, "shop");
    let folder = files(&[
        ("1_mark.sql", "\u{feff}create table t (i int);\r\n"),
        // As pg_dump begins its files: nothing is found by its bare name from here on.
        (
            "2_dumped.sql",
            "set statement_timeout = 0;\nselect pg_catalog.set_config('search_path', '', false);\ncreate table public.u (i int);",
        ),
        (
            "3_outside.sql",
            "-- no-transaction\nvacuum public.t; insert into public.t values (1); create index concurrently t_i on public.t (i)",
        ),
        ("4_last.sql", "insert into public.u values (1)"),
    ]);
    we_run(&cluster, "shop", &folder).await;
    let before = (history(&cluster, "shop"), dump(&cluster, "shop"));
    sqlx_runs(&cluster, "shop", folder.path()).await;
    assert_eq!((history(&cluster, "shop"), dump(&cluster, "shop")), before);
    write(folder.path(), "5_theirs.sql", "insert into u values (2)");
    sqlx_runs(&cluster, "shop", folder.path()).await;
    assert_eq!(cluster.sql("shop", "select count(*) from u"), "2");
    // Across a rollback too, where the table itself has to be made again.
    fresh(&cluster, "again");
    write(folder.path(), "4_last.sql", "insert into public.u values (1 / 0)");
    let (context, _) = context();
    let options = RunOptions { per_file: true, ..RunOptions::default() };
    let error = run(&context, &target(&cluster, "again"), &read(&folder), &options).await.unwrap_err();
    assert!(with_causes(&error).contains("division by zero"), "{}", with_causes(&error));
    assert_eq!(history(&cluster, "again").lines().count(), 3);
}
