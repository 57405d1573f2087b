//! The oracle: a staged copy reads, as `pg_dump` writes it, like a copy that `pg_dump` and
//! `pg_restore` made of the same database by themselves.

use std::path::Path;
use std::process::{Command, Stdio};

use backstay_part::Part;
use backstay_testkit::{PrivateCluster, left_out, majors};

use crate::bench::Bench;
use crate::swap::Switch;
use crate::{identifier, literal};

const SMALL_TABLES: u32 = 300;
const SMALL_TABLES_FULL: u32 = 5_000;

/// Captures `database` from one server, stages it on another (or the same), proves it, and holds what
/// `pg_dump` says of it against what it says of a plain copy.
async fn reads_like_a_plain_copy(source: &Bench, target: &Bench, role: &str, database: &str) {
    let title = format!("{} to {} as {role}", source.cluster.major(), target.cluster.major());
    let (captured, _) = source.capture(&source.part(role, &[database])).await.unwrap();
    let recorded = source.recorded(&captured).await;
    let part = target.part(role, &[database]);
    let plan = part.plan(&target.context, &recorded).await.unwrap();
    let blocking: Vec<_> = plan.refusals.iter().filter(|refusal| !refusal.contains("subscription")).collect();
    assert!(blocking.is_empty(), "{title}: {blocking:?}");
    let token = part.stage(&target.context, &recorded).await.unwrap_or_else(|error| panic!("{title}: {error:?}"));
    let proof =
        part.prove(&target.context, &recorded, &token).await.unwrap_or_else(|error| panic!("{title}: {error:?}"));
    assert_eq!(proof.findings, Vec::<String>::new(), "{title}");

    let staged = Switch::read(&token).unwrap().databases[0].staged.clone();
    target.cluster.sql("postgres", &format!("alter database {} allow_connections true", identifier(&staged)));
    let plain = format!("{database} plain");
    copy_plainly(&source.cluster, &target.cluster, role, database, &plain);
    let (ours, theirs) = (text(&target.cluster, &staged), text(&target.cluster, &plain));
    assert!(ours.len() > 1_000, "{title}: {ours}");
    assert_same(&title, &ours, &theirs);
    if theirs.contains("CREATE TABLE app.feelings (") {
        let rows = |name: &str| target.cluster.sql(name, "select * from app.feelings order by id");
        assert_eq!((rows(&staged), rows(&plain).lines().count()), (rows(&plain), 500), "{title}");
    }
    let properties = |name: &str| properties(&target.cluster, name);
    assert_eq!(properties(&staged), properties(&plain), "{title}");
    part.abandon(&target.context, &target.context.run, Some(&token)).await.unwrap();
    target.cluster.sql("postgres", &format!("drop database {}", identifier(&plain)));
}

/// What anybody would do who has no Backstay. The database takes its own name on the way, because only
/// `--create` brings what stands beside it.
fn copy_plainly(source: &PrivateCluster, target: &PrivateCluster, role: &str, database: &str, plain: &str) {
    let archive = tempfile::NamedTempFile::new().unwrap();
    let dumped = source
        .client("pg_dump")
        .args(["-Fc", "-U", role, "-d", database])
        .stdout(archive.reopen().unwrap())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    let rename = |from: &str, to: &str| {
        target.sql("postgres", &format!("alter database {} rename to {}", identifier(from), identifier(to)));
    };
    let aside = format!("{database} aside");
    let taken = target.sql("postgres", &format!("select 1 from pg_database where datname = {}", literal(database)));
    if !taken.is_empty() {
        rename(database, &aside);
    }
    restore(target.client("pg_restore").args(["-U", role]), archive.path());
    rename(database, plain);
    if !taken.is_empty() {
        rename(&aside, database);
    }
}

fn restore(command: &mut Command, archive: &Path) {
    command.args(["--create", "--exit-on-error", "--no-subscriptions", "--dbname=postgres"]).arg(archive);
    let restored = command.stdin(Stdio::null()).output().unwrap();
    assert!(restored.status.success(), "a plain restore fails: {}", String::from_utf8_lossy(&restored.stderr));
}

/// The dump, with the rows of each table in order, and without those that lie where each copy puts them.
fn text(cluster: &PrivateCluster, database: &str) -> String {
    let dump = cluster.dump_with(database, &["--exclude-table-data=app.feelings*"]);
    let mut lines: Vec<_> = dump.lines().collect();
    let mut at = 0;
    while let Some(begin) = lines.iter().skip(at).position(|line| line.starts_with("COPY ")).map(|begin| at + begin + 1)
    {
        let end = lines.iter().skip(begin).position(|line| *line == "\\.").map_or(lines.len(), |length| begin + length);
        lines[begin..end].sort_unstable();
        at = end;
    }
    lines.join("\n")
}

/// What stands beside a database: locale, owner, grants, settings. Its comment is where a run leaves its mark.
fn properties(cluster: &PrivateCluster, database: &str) -> String {
    let name = literal(database);
    cluster.sql(
        "postgres",
        &format!(
            "select pg_encoding_to_char(encoding), datcollate, datctype, datlocprovider, datdba::regrole,
                    array(select item::text from unnest(datacl) item order by 1)
               from pg_database where datname = {name};
             select setrole::regrole, setting from pg_db_role_setting, unnest(setconfig) setting
              where setdatabase = (select oid from pg_database where datname = {name}) order by 1::text, 2"
        ),
    )
}

/// Names the lines that differ instead of printing two whole dumps.
#[track_caller]
fn assert_same(title: &str, ours: &str, theirs: &str) {
    if ours == theirs {
        return;
    }
    let (ours, theirs): (Vec<_>, Vec<_>) = (ours.lines().collect(), theirs.lines().collect());
    let differing = ours.iter().zip(&theirs).enumerate().filter(|(_, (ours, theirs))| ours != theirs);
    let shown: Vec<_> =
        differing.take(12).map(|(at, (ours, theirs))| format!("{at}\n  - {ours}\n  + {theirs}")).collect();
    panic!("{title}: ours (-) has {} lines, a plain copy (+) {}\n{}", ours.len(), theirs.len(), shown.join("\n"));
}

/// A bench on every major that is here, oldest first.
async fn benches() -> Vec<Bench> {
    let mut benches = Vec::new();
    for bin in majors() {
        benches.push(Bench::on(PrivateCluster::start_from(&bin, &[])).await);
    }
    if benches.is_empty() {
        left_out("PostgreSQL", "no server programs here; `scripts/lab up postgres` installs them");
    }
    benches
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_staged_copy_reads_like_a_plain_one_on_every_major() {
    for bench in benches().await {
        bench.torture("tortured");
        reads_like_a_plain_copy(&bench, &bench, "postgres", "tortured").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_without_more_rights_gets_what_a_plain_copy_would_be() {
    let Some(bench) = Bench::start().await else { return };
    bench.torture_of_owner("Owned \"by\" one");
    reads_like_a_plain_copy(&bench, &bench, "torture_owner", "Owned \"by\" one").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_server_takes_what_an_older_one_recorded() {
    let benches = benches().await;
    if benches.len() < 2 {
        return left_out("going up to a newer PostgreSQL", "fewer than two majors here");
    }
    let newest = benches.len() - 1;
    let mut pairs = vec![(0, newest), (0, 1), (1, newest)];
    // With two majors, these are one and the same.
    pairs.retain(|(from, to)| from < to);
    pairs.dedup();
    benches.iter().take(2).for_each(|bench| bench.torture("tortured"));
    for (source, target) in pairs.into_iter().map(|(from, to)| (&benches[from], &benches[to])) {
        let xml = "select xml '<a/>'";
        if target.cluster.sql_as("postgres", "postgres", xml).is_err() {
            source.cluster.sql("tortured", "update app.\"Every \"\"Value\" set markup = null");
        }
        let of_icu = "begin; create collation tried (provider = icu, locale = 'und'); rollback";
        if target.cluster.sql_as("postgres", "postgres", of_icu).is_err() {
            source.cluster.sql(
                "tortured",
                "drop table if exists app.collated; drop collation if exists app.any_case; drop collation if exists app.phone_book",
            );
        }
        reads_like_a_plain_copy(source, target, "postgres", "tortured").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_small_tables_are_as_a_plain_copy_has_them() {
    let Some(bench) = Bench::start().await else { return };
    let full = std::env::var_os("BACKSTAY_TEST_FULL").is_some();
    let tables = if full { SMALL_TABLES_FULL } else { SMALL_TABLES };
    bench.cluster.sql("postgres", "create database many");
    // In several transactions: one holds a lock for every table it makes.
    for first in (1..=tables).step_by(500) {
        let last = (first + 499).min(tables);
        let make = format!(
            "do $$ begin for n in {first}..{last} loop
                 execute format('create table t%s (id serial primary key, what text default %L)', n, 'of ' || n);
                 execute format('insert into t%s select from generate_series(1, %s)', n, n % 7);
             end loop; end $$"
        );
        bench.cluster.sql("many", &make);
    }
    reads_like_a_plain_copy(&bench, &bench, "postgres", "many").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_of_other_encodings_and_manners_come_back() {
    let Some(bench) = Bench::start().await else { return };
    let folder = bench.cluster.socket_folder().join("space");
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::chown(
        &folder,
        Some(std::os::unix::fs::MetadataExt::uid(&bench.cluster.data().metadata().unwrap())),
        None,
    )
    .unwrap();
    bench
        .cluster
        .sql("postgres", &format!("create tablespace space location {}", literal(&folder.display().to_string())));
    for (name, how) in [
        ("latin", "encoding 'LATIN1' locale 'C'"),
        ("bytes", "encoding 'SQL_ASCII' locale 'C'"),
        ("japanese", "encoding 'EUC_JP' locale 'C'"),
        ("a name of sixty-three bytes, which is all that a name may have", "tablespace space"),
    ] {
        let quoted = identifier(name);
        bench
            .cluster
            .sql("postgres", &format!("create database {quoted} template template0 owner torture_owner {how}"));
        bench.cluster.sql_as("torture_owner", name, MANNERS).unwrap();
        if name == "bytes" {
            bench.cluster.sql(name, "insert into of_bytes values (convert_from('\\xff80c328', 'SQL_ASCII'))");
        } else if name == "latin" {
            bench.cluster.sql(name, "insert into of_bytes values (convert_from('\\xe4f6fcff', 'LATIN1'))");
        } else if name == "japanese" {
            // In the server's encoding these are ordered otherwise than in ours.
            let table = |name| format!("create table \"{name}\" as select '{name}' as \"{name}\"");
            let tables = ["亜", "一", "漢", "ア", "ｱ", "あ", "丂"].map(table).join(";");
            bench.cluster.sql(name, &format!("set client_encoding = 'UTF8'; {tables}"));
        }
        bench.cluster.sql(
            name,
            "create function forbid() returns event_trigger language plpgsql as
             $$ begin raise exception 'nobody changes anything here'; end $$;
             create event trigger forbid on ddl_command_start execute function forbid()",
        );
        // Whoever reads or writes rows under these gets other text than under the server's own.
        for (setting, value) in SETTINGS {
            bench.cluster.sql("postgres", &format!("alter database {quoted} set {setting} = '{value}'"));
        }
        let values = || bench.cluster.sql(name, "select of_settings, amount from public.of_settings");
        let before = values();
        assert!(before.contains("04.03.2024 23:36:07.123456 IST"), "{name}: the settings show nothing: {before}");
        let part = bench.part("postgres", &[name]);
        let (captured, facts) = bench.capture(&part).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let recorded = bench.recorded(&captured).await;
        let token = part.stage(&bench.context, &recorded).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let proof =
            part.prove(&bench.context, &recorded, &token).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(proof.findings, Vec::<String>::new(), "{name}");
        part.activate(&bench.context, &token).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let (_, again) = bench.capture(&part).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let rows = |table: &crate::TableFacts| (table.name.clone(), table.rows);
        let counted = |facts: &crate::ServerFacts| facts.databases[0].tables.iter().map(rows).collect::<Vec<_>>();
        assert_eq!(counted(&again), counted(&facts), "{name}");
        assert_eq!(values(), before, "{name}");
        for table in &facts.databases[0].tables {
            assert!(
                table.rows_of == crate::RowsOf::PartitionedTable || !table.ranges.is_empty(),
                "{name}: {}",
                table.name
            );
        }
        assert_eq!(again.databases[0].tablespace, if name.starts_with("a name") { "space" } else { "pg_default" });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_users_added_to_the_tables_of_an_extension_comes_back() {
    let Some(bin) = majors().into_iter().next() else { return drop(Bench::start().await) };
    let control = "default_version = '1.0'\nrelocatable = false\nschema = ledger\n";
    let bench = Bench::on(PrivateCluster::with_extension(&bin, "ledger", control, LEDGER)).await;
    bench.cluster.sql("postgres", "create database extended owner torture_owner");
    bench.cluster.sql(
        "extended",
        "create extension ledger; create table plain as select 1 as id;
         insert into ledger.settings values ('mine', 'kept', false); update ledger.settings set value = 'lost' where builtin;
         insert into ledger.zz_accounts select n from generate_series(501, 900) n;
         insert into ledger.aa_entries select n, n from generate_series(501, 900) n;
         insert into ledger.inner_cache values (1);
         select nextval('ledger.tickets'), nextval('ledger.tickets')",
    );
    let (captured, facts) = bench.capture(&bench.part("postgres", &["extended"])).await.unwrap();
    let rows = facts.databases[0].tables.iter().map(|table| (table.name.as_str(), table.rows)).collect::<Vec<_>>();
    assert_eq!(rows, [("aa_entries", 400), ("settings", 1), ("zz_accounts", 400), ("plain", 1)]);
    assert!(captured.not_covered.iter().any(|what| what.contains("ledger.inner_cache")), "{:?}", captured.not_covered);
    assert_eq!(facts.databases[0].sequences[0].last_value, 2);
    reads_like_a_plain_copy(&bench, &bench, "postgres", "extended").await;
}

const LEDGER: &str = "
    create table settings (name text primary key, value text, builtin boolean not null default false);
    insert into settings values ('theirs', 'builtin', true);
    create table zz_accounts (id integer primary key);
    create table aa_entries (id integer primary key, account integer not null references zz_accounts);
    create table inner_cache (id integer);
    create sequence tickets;
    select pg_catalog.pg_extension_config_dump('settings', 'where not builtin');
    select pg_catalog.pg_extension_config_dump('zz_accounts', '');
    select pg_catalog.pg_extension_config_dump('aa_entries', '');
    select pg_catalog.pg_extension_config_dump('tickets', '');
";

const SETTINGS: [(&str, &str); 10] = [
    ("timezone", "Asia/Kolkata"),
    ("datestyle", "German"),
    ("intervalstyle", "sql_standard"),
    ("bytea_output", "escape"),
    ("extra_float_digits", "-15"),
    ("lc_monetary", "C.utf8"),
    ("standard_conforming_strings", "off"),
    ("xmloption", "document"),
    ("search_path", "nowhere"),
    ("default_transaction_read_only", "on"),
];

const MANNERS: &str = "
    create table of_settings as select timestamptz '2024-03-04 18:06:07.123456+00' as moment, interval '1 year -2 days' as span,
        '\\x00ff5c27'::bytea as raw, 0.1::float8 + 0.2 as sum, '-1234.56'::money as amount, e'a\\\\b' as text,
        date '2024-02-29' as day;
    create table of_bytes (text text);
    create materialized view seen as select count(*) from of_bytes;
    create table parts (id int, at timestamptz) partition by range (at);
    create table parts_1 partition of parts for values from (minvalue) to ('2024-01-01 00:00:00+00');
    create table parts_2 partition of parts default;
    insert into parts select n, timestamptz '2023-06-01 00:00:00+00' + n * interval '1 day' from generate_series(1, 500) n;
    create function checked(int) returns boolean language sql as 'select $1 > 0';
    create table of_checks (a int check (checked(a)), b int generated always as identity);
    insert into of_checks values (1), (2);
    create schema lonely;
    drop schema if exists emptied";
