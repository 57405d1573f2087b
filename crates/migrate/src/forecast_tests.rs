//! The rules by which a plan says what statements lock, held against servers that run them.

use std::collections::{BTreeMap, BTreeSet};

use backstay_run::Context;
use backstay_testkit::{PrivateCluster, left_out, majors};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::LockMode::{
    self, AccessExclusive, AccessShare, Exclusive, RowExclusive, Share, ShareRowExclusive, ShareUpdateExclusive,
};
use crate::foreseen::{Forecasts, foresee};
use crate::observe::Recorder;
use crate::session::{Mode, Session, place};
use crate::sql::{Expected, split};
use crate::stand::{context, files, fresh, read};
use crate::{Measured, RunOptions, Target, blocker};

const SCHEMA: &str = "
create table t (i int not null, n int, v varchar(10), x text, at timestamp);
insert into t select g, g, 'v', 'x', now() from generate_series(1, 500) g;
create unique index t_i on t (i); create index t_v on t (v);
alter table t add constraint positive check (n > 0) not valid;
create table r (id int primary key); insert into r select generate_series(1, 500);
create table c (r_id int constraint c_r references r, i int); insert into c select g, g from generate_series(1, 100) g;
create table a (id int primary key, n int); create table b (a_id int references a);
create table p (i int not null) partition by range (i); create table p1 partition of p for values from (1) to (1000);
insert into p select generate_series(1, 100); create table q (i int not null); insert into q values (2000);
create table o (i int); insert into o values (1);
create view w as select i from t; create materialized view m as select id as n from r; create unique index m_n on m (n);
create function nothing() returns trigger language plpgsql as 'begin return new; end';
create trigger tr before insert on t for each row execute function nothing();
create rule ru as on insert to o do also select 1; create policy po on o; create sequence s;
analyze";

/// A statement, what it locks more strongly than reading does, and whether the server writes anew and
/// reads whole; a question mark where the text alone does not tell.
struct Row(&'static str, &'static [(&'static str, LockMode)], &'static str, &'static str);

const T: &[(&str, LockMode)] = &[("t", AccessExclusive)];
const T_WEAKLY: &[(&str, LockMode)] = &[("t", ShareUpdateExclusive)];
const T_ROWS: &[(&str, LockMode)] = &[("t", RowExclusive)];
const KEY: &[(&str, LockMode)] = &[("r", ShareRowExclusive), ("t", ShareRowExclusive)];
const BOTH_SIDES: &[(&str, LockMode)] = &[("c", AccessExclusive), ("r", AccessExclusive)];
const FAMILY: &[(&str, LockMode)] = &[("p", AccessExclusive), ("p1", AccessExclusive)];

const ROWS: &[Row] = &[
    Row("alter table t add column c int default 5", T, "no", "no"),
    Row("alter table t add column c timestamptz default now()", T, "no", "no"),
    Row("alter table t add column c timestamptz not null default current_timestamp", T, "no", "no"),
    Row("alter table t add c numeric(10, 2) default 0.5, add d text default 'a, b'", T, "no", "no"),
    Row("alter table t add column c timestamptz default clock_timestamp()", T, "yes", "yes"),
    Row("alter table t add column c uuid default gen_random_uuid()", T, "yes", "yes"),
    Row("alter table t add column c text default upper('a')", T, "no?", "no?"),
    Row("alter table t add column c int generated always as identity", T, "yes", "yes"),
    Row("alter table t add column c int generated always as (n + 1) stored", T, "yes", "yes"),
    Row("alter table t add column c bigserial", T, "yes", "yes"),
    Row("alter table t add column c int check (c > 0)", T, "no", "yes"),
    Row("alter table t add column c int unique", T, "no", "yes"),
    Row("alter table t add column c int references r", &[("r", ShareRowExclusive), ("t", AccessExclusive)], "no", "no"),
    Row("alter table t alter n type bigint", T, "yes?", "yes?"),
    Row("alter table t alter column v type varchar(5)", T, "yes?", "yes?"),
    Row("alter table only t alter x type varchar(50)", T, "yes?", "yes?"),
    Row("alter table t alter v type varchar(20)", T, "no?", "no?"),
    Row("alter table t alter v set data type text", T, "no?", "no?"),
    Row("alter table t alter at type timestamptz", T, "no?", "no?"),
    Row("set local timezone = 'Asia/Tokyo'; alter table t alter at type timestamptz", T, "yes?", "yes?"),
    Row("alter table t alter n set not null", T, "no", "yes?"),
    Row("alter table t alter n drop not null, alter n set default 1", T, "no", "no"),
    Row("alter table t add check (n > 0)", T, "no", "yes"),
    Row("alter table t add constraint k check (n > 0) not valid", T, "no", "no"),
    Row("alter table t validate constraint positive", T_WEAKLY, "no", "yes?"),
    Row("alter table t add foreign key (i) references r", KEY, "no", "yes"),
    Row("alter table t add constraint k foreign key (i) references r not valid", KEY, "no", "no"),
    Row("alter table t add unique (n)", T, "no", "yes"),
    Row("alter table t add primary key (n)", T, "no", "yes"),
    Row("alter table t add constraint k unique using index t_i", T, "no", "no?"),
    Row("alter table t add exclude using btree (n with =)", T, "no", "yes"),
    Row("create index on t (n)", &[("t", Share)], "no", "yes"),
    Row("create unique index if not exists k on only public.t using btree (n)", &[("t", Share)], "no", "yes"),
    Row(
        "create trigger k before update of n on t for each row execute function nothing()",
        &[("t", ShareRowExclusive)],
        "no",
        "no",
    ),
    Row(
        "create or replace trigger tr before insert on t execute function nothing()",
        &[("t", ShareRowExclusive)],
        "no",
        "no",
    ),
    Row("alter table t disable trigger tr", &[("t", ShareRowExclusive)], "no", "no"),
    Row("drop trigger tr on t", T, "no", "no"),
    Row("create rule k as on update to t do also select 1", T, "no", "no"),
    Row("create policy k on t using (n > 0)", T, "no", "no"),
    Row("drop policy if exists po on o", &[("o", AccessExclusive)], "no", "no"),
    Row("drop rule ru on o", &[("o", AccessExclusive)], "no", "no"),
    Row("alter table t drop column n", T, "no", "no"),
    Row("alter table t rename column n to k", T, "no", "no"),
    Row("alter table t rename to k", T, "no", "no"),
    Row("alter table t rename constraint positive to k", T, "no", "no"),
    Row("alter table t alter n set default 7", T, "no", "no"),
    Row("alter table t alter x set storage plain", T, "no", "no"),
    Row("alter table t enable row level security", T, "no", "no"),
    Row("alter table t owner to postgres, replica identity full", T, "no", "no"),
    Row("alter table t set (fillfactor = 70)", T_WEAKLY, "no", "no"),
    Row("alter table t alter n set statistics 50", T_WEAKLY, "no", "no"),
    Row("alter table t cluster on t_i", T_WEAKLY, "no", "no"),
    Row("comment on table t is 'a'", T_WEAKLY, "no", "no"),
    Row("comment on column public.t.n is 'a'", T_WEAKLY, "no", "no"),
    Row("create statistics k on n, i from t", T_WEAKLY, "no", "no"),
    Row("alter table t set unlogged", T, "yes", "yes?"),
    Row("alter table if exists t set schema pg_catalog", T, "no", "no"),
    Row("create table k (i int references r (id), j int)", &[("r", ShareRowExclusive)], "no", "no"),
    Row("create table k partition of p for values from (1000) to (1001)", &[("p", AccessExclusive)], "no", "no"),
    Row("create table k () inherits (t)", T_WEAKLY, "no", "no"),
    Row(
        "alter table p attach partition q for values from (2000) to (3000)",
        &[("p", ShareUpdateExclusive), ("q", AccessExclusive)],
        "no",
        "yes?",
    ),
    Row("alter table p detach partition p1", FAMILY, "no", "no"),
    Row("alter table p add column c int", FAMILY, "no", "no"),
    Row("truncate t", T, "yes", "no"),
    Row("truncate table only o, q restart identity", &[("o", AccessExclusive), ("q", AccessExclusive)], "yes", "no"),
    Row("refresh materialized view m", &[("m", AccessExclusive)], "yes", "yes?"),
    Row("refresh materialized view concurrently m", &[("m", Exclusive)], "no", "yes?"),
    Row("drop table o, q", &[("o", AccessExclusive), ("q", AccessExclusive)], "no", "no"),
    Row("drop table c", BOTH_SIDES, "no", "no"),
    Row("drop table if exists p cascade", FAMILY, "no", "no"),
    Row("alter table c drop constraint c_r", BOTH_SIDES, "no", "no"),
    Row("alter table c drop column if exists r_id, drop i", BOTH_SIDES, "no", "no"),
    Row("alter table a drop column id cascade", &[("a", AccessExclusive), ("b", AccessExclusive)], "no", "no"),
    Row("alter table c alter column r_id type bigint", BOTH_SIDES, "yes?", "yes?"),
    Row("alter table c drop column i", &[("c", AccessExclusive)], "no", "no"),
    Row("drop index t_v", T, "no", "no"),
    Row("drop view w", &[("w", AccessExclusive)], "no", "no"),
    Row("drop materialized view public.m", &[("m", AccessExclusive)], "no", "no"),
    Row("cluster t using t_i", T, "yes", "yes?"),
    Row("reindex table t", &[("t", Share)], "yes", "yes"),
    Row("reindex index t_v", &[("t", Share)], "yes", "yes"),
    Row("analyze t", T_WEAKLY, "no", "no"),
    Row("insert into t (i) values (-1)", T_ROWS, "no", "no"),
    Row("update t set n = n + 1", T_ROWS, "no", "yes"),
    Row("delete from only t where n < 3", T_ROWS, "no", "yes?"),
    Row("lock table t in share mode", &[("t", Share)], "no", "no"),
    Row("lock t", T, "no", "no"),
    Row("create view k as select * from t", &[], "no", "no"),
    Row("grant select on t to public", &[], "no", "no"),
    Row("create table k as select 1 as one", &[], "no", "no"),
];

/// What only newer servers know.
const OF_18: &[Row] = &[
    Row("alter table t add constraint k not null n not valid", T, "no", "no"),
    Row("alter table t add constraint k not null n", T, "no", "yes"),
    Row("alter table t add column c int generated always as (n + 1)", T, "no", "no"),
];

/// Every difference is told, not only the first.
fn same<T: PartialEq + std::fmt::Debug>(wrong: &mut Vec<String>, what: &str, found: &T, wanted: &T) {
    if found != wanted {
        wrong.push(format!("{what}: {found:?} instead of {wanted:?}"));
    }
}

struct Bench<'c> {
    session: Session<'c>,
    other: PgConnection,
    tables: BTreeMap<String, i64>,
}

impl<'c> Bench<'c> {
    async fn open(cluster: &PrivateCluster, context: &'c Context, target: &Target) -> Self {
        let session = Session::open(context, target, &RunOptions::default(), Mode::InPlace).await.unwrap();
        let mut other = PgConnection::connect(&cluster.url("shop")).await.unwrap();
        let sql = "select relname::text, oid::bigint from pg_class where relnamespace = 'public'::regnamespace
            and relkind in ('r', 'p', 'm', 'v')";
        let tables = sqlx::query_as(sql).fetch_all(&mut other).await.unwrap().into_iter().collect();
        Self { session, other, tables }
    }

    /// What a statement did, by the recorder and by catalogs read beside it, before it is rolled back.
    async fn run(&mut self, row: &Row) -> (Measured, BTreeMap<String, LockMode>, bool, bool) {
        let session = &mut self.session;
        let (setting, sql) = row.0.rsplit_once("; ").unwrap_or(("", row.0));
        session.execute("begin").await.result.unwrap();
        session.execute(setting).await.result.unwrap();
        let mut recorder = Recorder::default();
        recorder.begin_batch(&mut session.connection).await.unwrap();
        let before = nodes(&mut session.connection).await;
        let at = place("a.sql", &split(sql).unwrap()[0]);
        let ran = recorder.measure(session, &at, sql).await.unwrap();
        ran.result.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let after = nodes(&mut session.connection).await;
        let rewritten = before.iter().any(|(oid, (node, _))| after.get(oid).is_some_and(|(now, _)| now != node));
        let scanned = before.iter().any(|(oid, (_, rows))| after.get(oid).is_some_and(|(_, now)| now > rows));
        let held: Vec<(i64, String)> = sqlx::query_as(
            "select relation::bigint, mode from pg_locks where pid = pg_backend_pid() and locktype = 'relation' and granted",
        )
        .fetch_all(&mut session.connection)
        .await
        .unwrap();
        let mut locks = BTreeMap::new();
        for (name, oid) in &self.tables {
            let modes = LockMode::ALL.into_iter().filter(|mode| held.contains(&(*oid, mode.catalog_name().to_owned())));
            if let Some(strongest) = modes.max().filter(|mode| *mode >= RowExclusive) {
                locks.insert(name.clone(), strongest);
            }
        }
        (recorder.measured.remove(0), locks, rewritten, scanned)
    }

    /// Whether another session gets this lock at once.
    async fn gets(&mut self, table: &str, mode: LockMode) -> bool {
        let sql = format!("begin; lock table only public.{table} in {mode} mode nowait");
        let got = self.other.execute(AssertSqlSafe(sql)).await;
        self.other.execute("rollback").await.unwrap();
        got.is_ok()
    }

    /// Whether the statement waits while another session holds `held` on the tables it needs.
    async fn waits(&mut self, row: &Row, held: LockMode) -> bool {
        let session = &mut self.session;
        session.execute("begin; set local lock_timeout = '20ms'").await.result.unwrap();
        let ran = session.execute(row.0).await.result;
        session.roll_back().await;
        match ran {
            Ok(()) => false,
            Err(error) if crate::failure::is_contention(&error) => true,
            Err(error) => panic!("{} beside {held}: {error}", row.0),
        }
    }
}

async fn nodes(connection: &mut PgConnection) -> BTreeMap<i64, (i64, i64)> {
    let rows: Vec<(i64, i64, i64)> = sqlx::query_as(
        "select oid::bigint, pg_relation_filenode(oid)::bigint, pg_stat_get_xact_tuples_returned(oid) from pg_class
         where relkind in ('r', 'm', 'i') and relnamespace = 'public'::regnamespace",
    )
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    let tables: Vec<i64> = sqlx::query_scalar("select oid::bigint from pg_class where relkind in ('r', 'm')")
        .fetch_all(connection)
        .await
        .unwrap();
    // An index that is looked into is not read whole.
    rows.into_iter().map(|(oid, node, rows)| (oid, (node, if tables.contains(&oid) { rows } else { 0 }))).collect()
}

async fn foreseen(connection: &mut PgConnection, sql: &str) -> Forecasts {
    let folder = read(&files(&[("1_a.sql", sql)]));
    foresee(connection, &[&folder.migrations[0]]).await.unwrap()
}

fn as_expected(wanted: &str, expected: Expected) -> bool {
    match expected {
        Expected::No => wanted == "no",
        Expected::Yes => wanted == "yes",
        Expected::Depends(_) => wanted.ends_with('?'),
    }
}

async fn hold_to(bench: &mut Bench<'_>, row: &Row) -> Vec<String> {
    let mut wrong = Vec::new();
    let Row(sql, locks, rewrites, scans) = row;
    let wanted: BTreeMap<String, LockMode> = locks.iter().map(|(name, mode)| ((*name).to_owned(), *mode)).collect();
    let forecasts = foreseen(&mut bench.other, sql).await;
    let said = forecasts.statements.last();
    let told: BTreeMap<String, LockMode> = said
        .into_iter()
        .flat_map(|one| &one.locks)
        .map(|lock| (lock.on.trim_start_matches("public.").to_owned(), lock.mode))
        .filter(|(_, mode)| *mode >= RowExclusive)
        .collect();
    same(&mut wrong, &format!("foreseen for {sql}"), &told, &wanted);
    let (measured, held, rewritten, scanned) = bench.run(row).await;
    same(&mut wrong, &format!("held by {sql}"), &held, &wanted);
    same(
        &mut wrong,
        &format!("done by {sql}"),
        &(rewritten, scanned),
        &(rewrites.starts_with("yes"), scans.starts_with("yes")),
    );
    if let Some(said) = said {
        same(&mut wrong, &format!("{sql} rewrites, {:?}", said.rewrites), &as_expected(rewrites, said.rewrites), &true);
        same(&mut wrong, &format!("{sql} scans, {:?}", said.scans), &as_expected(scans, said.scans), &true);
    }
    let recorded: BTreeMap<String, LockMode> = measured
        .locks
        .iter()
        .map(|lock| (lock.on.trim_start_matches("public.").to_owned(), lock.mode))
        .filter(|(name, mode)| *mode >= RowExclusive && bench.tables.contains_key(name))
        .collect();
    same(&mut wrong, &format!("recorded for {sql}"), &recorded, &wanted);
    let measures = (!measured.rewrites.is_empty(), !measured.scans.is_empty());
    same(&mut wrong, &format!("recorded for {sql}"), &measures, &(rewritten, scanned));
    for (table, mode) in wanted.iter().filter(|(name, _)| *name != "m") {
        let reads = bench.gets(table, AccessShare).await;
        let writes = bench.gets(table, RowExclusive).await;
        let blocks = mode.blocks();
        same(&mut wrong, &format!("{sql}: {table} is read, {blocks}"), &reads, &!blocks.contains("reads included"));
        let blocked = blocks.contains("all writes") || blocks.contains("everything");
        same(&mut wrong, &format!("{sql}: {table} is written, {blocks}"), &writes, &!blocked);
    }
    bench.session.roll_back().await;
    wrong
}

/// Beside a reader and beside a writer: who is named is who is waited for, and nobody else.
async fn beside_others(bench: &mut Bench<'_>, row: &Row, wrong: &mut Vec<String>) {
    let tables: BTreeSet<&str> =
        row.1.iter().map(|(name, _)| *name).filter(|name| !["m", "w"].contains(name)).collect();
    if tables.is_empty() {
        return;
    }
    let forecasts = foreseen(&mut bench.other, row.0).await;
    for held in [AccessShare, RowExclusive] {
        let only = tables.iter().map(|name| format!("only public.{name}")).collect::<Vec<_>>().join(", ");
        bench.other.execute(AssertSqlSafe(format!("begin; lock table {only} in {held} mode"))).await.unwrap();
        let named = blocker::of_wanted(&mut bench.session.connection, &forecasts.wanted).await.unwrap();
        let waits = bench.waits(row, held).await;
        bench.other.execute("rollback").await.unwrap();
        same(wrong, &format!("{} waits beside {held}, {named:?}", row.0), &waits, &!named.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plan_foresees_is_what_the_server_does_and_what_a_rehearsal_measures() {
    let found = majors();
    if found.is_empty() {
        left_out("PostgreSQL", "no server programs here");
    }
    let full = std::env::var_os("BACKSTAY_TEST_FULL").is_some();
    let (context, _) = context();
    let mut wrong = Vec::new();
    for (index, bin) in found.iter().enumerate() {
        if !full && index > 0 && index + 1 < found.len() {
            continue;
        }
        let cluster = PrivateCluster::start_from(bin, &[]);
        let target = fresh(&cluster, "shop");
        cluster.sql("shop", SCHEMA);
        let mut bench = Bench::open(&cluster, &context, &target).await;
        let newer: &[Row] = if cluster.major() >= 18 { OF_18 } else { &[] };
        for row in ROWS.iter().chain(newer) {
            let mut found = hold_to(&mut bench, row).await;
            if full || index == 0 {
                beside_others(&mut bench, row, &mut found).await;
            }
            wrong.extend(found.into_iter().map(|text| format!("{}: {text}", cluster.major())));
        }
        bench.session.close().await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
