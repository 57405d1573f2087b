//! What servers do to a run in its middle: they restart, end its sessions, run out of disk, of time, of locks.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use backstay_part::{ErrorKind, Part, Standing, Token};
use backstay_testkit::{PrivateCluster, left_out, majors, wait_until};

use crate::bench::{Bench, places_to_try};
use crate::swap::Switch;
use crate::{Error, LocalTools, Options, ServerPart, Tool, ToolCall, ToolOutcome, Tools, literal};

const SHOP: &str = "create table goods as select n as id, 'good ' || n as name from generate_series(1, 2000) n;
    alter table goods add primary key (id); create table more (id int references goods); insert into more values (7);
    create materialized view seen as select count(*) from goods";

/// The databases of the cluster that are not the server's own.
fn databases(bench: &Bench) -> Vec<String> {
    let sql = "select datname from pg_database where datname !~ '^(postgres|template.)$' order by 1";
    bench.cluster.sql("postgres", sql).lines().map(str::to_owned).collect()
}

/// One `psql` beside the test.
fn psql(bench: &Bench, database: &str, sql: &str) -> Child {
    let mut command = bench.cluster.client("psql");
    command.args(["-XAtq", "-U", "postgres", "-d", database, "-c", sql]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn ended(mut child: Child) {
    let _ = child.kill();
    child.wait().unwrap();
}

#[derive(Debug, Clone, Copy)]
enum Trouble {
    Restart,
    /// Every session of ours ends; those of others go on.
    Terminate,
    /// A session that copies rows ends while it copies.
    TerminateCopy,
}

/// Lets trouble come at one call of a program.
struct Troubled {
    tools: Arc<LocalTools>,
    bench: Arc<Bench>,
    at: u32,
    calls: AtomicU32,
    trouble: Trouble,
}

impl Troubled {
    fn come(&self, database: &str) {
        match self.trouble {
            Trouble::Restart => self.bench.cluster.restart(),
            Trouble::Terminate => {
                let ours = "select pg_terminate_backend(pid, 60000) from pg_stat_activity where application_name like 'backstay %'";
                self.bench.cluster.sql("postgres", ours);
            }
            Trouble::TerminateCopy => {
                let bench = Arc::clone(&self.bench);
                let holder = psql(&bench, database, "begin; lock table goods; select pg_sleep(3600)");
                let locked = "select count(*) from pg_locks where granted and mode = 'AccessExclusiveLock' and relation = 'goods'::regclass";
                wait_until("goods is locked", || bench.cluster.sql(database, locked) == "1");
                let database = database.to_owned();
                std::thread::spawn(move || {
                    let waits = format!(
                        "select count(pg_terminate_backend(pid)) from pg_stat_activity
                         where application_name = 'backstay stage rows' and wait_event_type = 'Lock' and datname = {}",
                        literal(&database)
                    );
                    wait_until("a copy was ended", || bench.cluster.sql("postgres", &waits) != "0");
                    ended(holder);
                });
            }
        }
    }
}

#[async_trait]
impl Tools for Troubled {
    async fn version(&self, tool: Tool, major: u32) -> Result<String, Error> {
        self.tools.version(tool, major).await
    }

    async fn run(&self, call: ToolCall<'_>) -> Result<ToolOutcome, Error> {
        let database = call.settings.map(|settings| settings.database().to_owned());
        let Some(database) = database else { return self.tools.run(call).await };
        let troubled = self.calls.fetch_add(1, Ordering::SeqCst) == self.at;
        let within = matches!(self.trouble, Trouble::TerminateCopy);
        if troubled && !within {
            self.come(&database);
        }
        let outcome = self.tools.run(call).await;
        if troubled && within {
            self.come(&database);
        }
        outcome
    }
}

fn troubled(bench: &Arc<Bench>, at: u32, trouble: Trouble) -> ServerPart {
    let tools = Troubled { tools: bench.tools(), bench: Arc::clone(bench), at, calls: AtomicU32::new(0), trouble };
    let shop = bench.part("postgres", &["shop"]);
    ServerPart::new("database".parse().unwrap(), shop.databases().to_vec(), Arc::new(tools), Options::default())
}

async fn started() -> Option<Arc<Bench>> {
    let bench = Bench::start().await?;
    bench.cluster.create("shop");
    bench.cluster.sql("shop", SHOP);
    Some(Arc::new(bench))
}

async fn is_whole_and_open(bench: &Bench) {
    assert_eq!(bench.cluster.sql("shop", "select count(*), sum(id) from goods"), "2000|2001000");
    assert_eq!(databases(bench), ["shop"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_restarts_or_ends_sessions_while_a_copy_is_built_leaves_nothing_behind() {
    let Some(bench) = started().await else { return };
    let well = bench.part("postgres", &["shop"]);
    let recorded = bench.capture_to_restore(&well).await;
    // Of pg_restore's calls: before the rows, indexes, rights; then pg_dump of the proof.
    let troubles = [(0, Trouble::Restart), (1, Trouble::Restart), (0, Trouble::TerminateCopy), (1, Trouble::Terminate)];
    for (at, trouble) in troubles {
        let failed = troubled(&bench, at, trouble).stage(&bench.context, &recorded).await.unwrap_err();
        assert!(matches!(failed.kind, ErrorKind::Failed | ErrorKind::Environment), "{trouble:?}: {failed:?}");
        well.abandon(&bench.context, &bench.context.run, None).await.unwrap();
        is_whole_and_open(&bench).await;
    }
    let token = well.stage(&bench.context, &recorded).await.unwrap();
    // A proof reads the schema by one call of pg_dump.
    for trouble in [Trouble::Restart, Trouble::Terminate] {
        troubled(&bench, 0, trouble).prove(&bench.context, &recorded, &token).await.unwrap_err();
        let refused = well.activate(&bench.context, &token).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Refused, "it was not proven");
    }
    assert!(well.prove(&bench.context, &recorded, &token).await.unwrap().holds());
    well.abandon(&bench.context, &bench.context.run, None).await.unwrap();
    is_whole_and_open(&bench).await;

    // Nor is there a snapshot of what could not be read to its end.
    for trouble in [Trouble::Restart, Trouble::Terminate] {
        assert!(bench.capture(&troubled(&bench, 0, trouble)).await.is_err(), "{trouble:?}");
    }
    bench.capture(&well).await.unwrap();
}

/// Waits until a script of ours waits for a lock.
fn is_held_up(bench: &Bench) {
    let sql = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like 'do $%'";
    wait_until("the switch is held up", || bench.cluster.sql("postgres", sql) == "1");
}

/// Lets a server crash in the middle of the one transaction that switches: the databases are closed, renamed, and
/// nothing is committed.
async fn crashed_within<T: Send + 'static>(bench: &Arc<Bench>, work: impl Future<Output = T> + Send + 'static) -> T {
    // Settings of databases are changed after both have been renamed.
    let hold = "begin; lock table pg_catalog.pg_db_role_setting in exclusive mode; select pg_sleep(3600)";
    let holder = psql(bench, "postgres", hold);
    let held = "select count(*) from pg_locks where granted and relation = 'pg_db_role_setting'::regclass and mode = 'ExclusiveLock'";
    wait_until("settings are locked", || bench.cluster.sql("postgres", held) == "1");
    let working = tokio::spawn(work);
    let (server, crashing) = (Arc::clone(bench), Arc::clone(bench));
    tokio::task::spawn_blocking(move || is_held_up(&server)).await.unwrap();
    tokio::task::spawn_blocking(move || {
        crashing.cluster.stop();
        crashing.cluster.start_again();
    })
    .await
    .unwrap();
    ended(holder);
    working.await.unwrap()
}

/// A copy of the shop as it is, ready to be switched.
async fn proven(bench: &Bench) -> (ServerPart, Token) {
    let part = bench.part("postgres", &["shop"]);
    let recorded = bench.capture_to_restore(&part).await;
    let token = part.stage(&bench.context, &recorded).await.unwrap();
    assert!(part.prove(&bench.context, &recorded, &token).await.unwrap().holds());
    (part, token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_in_the_middle_of_a_switch_comes_back_with_the_old_or_the_new() {
    let Some(bench) = started().await else { return };
    let (part, token) = proven(&bench).await;
    bench.cluster.sql("shop", "delete from more");
    let act = |revert: bool| {
        let (bench, part, token): (_, _, Token) = (Arc::clone(&bench), part.clone(), token.clone());
        async move {
            match revert {
                true => part.revert(&bench.context, &token).await,
                false => part.activate(&bench.context, &token).await.map(drop),
            }
        }
    };
    let more = || bench.cluster.sql("shop", "select count(*) from more");
    let standing = async || part.standing(&bench.context, &token).await.unwrap();

    crashed_within(&bench, act(false)).await.unwrap_err();
    assert!(matches!(standing().await, Standing::Half(_)), "{:?}", standing().await);
    act(true).await.unwrap();
    assert_eq!((standing().await, more()), (Standing::NotSwitched, "0".to_owned()));

    crashed_within(&bench, act(false)).await.unwrap_err();
    act(false).await.unwrap();
    assert_eq!((standing().await, more()), (Standing::Switched, "1".to_owned()));

    crashed_within(&bench, act(true)).await.unwrap_err();
    assert!(matches!(standing().await, Standing::Half(_)), "{:?}", standing().await);
    act(true).await.unwrap();
    assert_eq!((standing().await, more()), (Standing::NotSwitched, "0".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_just_being_let_in_does_not_hold_a_switch_up() {
    let Some(bench) = started().await else { return };
    let (part, token) = proven(&bench).await;
    bench.cluster.sql("shop", "delete from more");
    // The server has looked whether the database is open and has not yet listed the session, which then stays.
    let mut client = bench.cluster.client("psql");
    client.args(["-XAtq", "-U", "postgres", "-d", "shop", "-c", "select pg_sleep(3600)"]);
    client.env("PGOPTIONS", "-c post_auth_delay=2").stdout(Stdio::null()).stderr(Stdio::null());
    let client = client.spawn().unwrap();
    let inside = "select count(*) from pg_locks l join pg_database d on d.oid = l.objid
        where l.classid = 'pg_database'::regclass and d.datname = 'shop' and l.mode = 'RowExclusiveLock'";
    wait_until("the client is inside", || bench.cluster.sql("postgres", inside) == "1");
    part.activate(&bench.context, &token).await.unwrap();
    assert_eq!(bench.cluster.sql("shop", "select count(*) from more"), "1");
    assert!(!client.wait_with_output().unwrap().status.success(), "it reads what is not live any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_with_nothing_to_do_are_ended_one_by_one() {
    let Some(bench) = started().await else { return };
    let (part, token) = proven(&bench).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(crate::connect_plainly(&part.databases()[0].settings, "client").await.unwrap());
    }
    let idle = "select count(*) from pg_stat_activity
        where datname = 'shop' and state = 'idle' and state_change < clock_timestamp() - interval '0.1 s'";
    wait_until("all clients are idle", || bench.cluster.sql("postgres", idle) == "50");
    let began = Instant::now();
    part.activate(&bench.context, &token).await.unwrap();
    // Fifty pauses.
    assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
}

/// A small disk of its own for a tablespace, gone when it is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn of(megabytes: u32, cluster: &PrivateCluster) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("bk-disk").tempdir_in("/tmp").unwrap();
        let size = format!("size={megabytes}m,mode=0700,uid={}", cluster.data().metadata().unwrap().uid());
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(folder)),
            _ => {
                left_out("a full disk", "no small file system can be mounted here");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tablespace_without_room_is_refused_beforehand_and_one_that_fills_up_leaves_nothing_behind() {
    let Some(bench) = Bench::start().await else { return };
    let Some(disk) = SmallDisk::of(34, &bench.cluster) else { return };
    let place = literal(&disk.path().display().to_string());
    bench.cluster.sql("postgres", &format!("create tablespace small location {place}"));
    bench.cluster.sql("postgres", "create database shop tablespace small");
    bench.cluster.sql("shop", SHOP);
    bench.cluster.sql("shop", "create table fill as select repeat(md5(n::text), 50) from generate_series(1, 8000) n");
    let part = bench.part("postgres", &["shop"]);
    let mut recorded = bench.capture_to_restore(&part).await;
    // Whoever may not look into the server's folder cannot know.
    if std::fs::read(bench.cluster.data().join("postmaster.pid")).is_ok() {
        let refusals = part.plan(&bench.context, &recorded).await.unwrap().refusals;
        let said = format!("the disk that {} lies on has", disk.path().display());
        assert!(refusals.iter().any(|why| why.contains(&said)), "{refusals:?}");
        assert_eq!(part.stage(&bench.context, &recorded).await.unwrap_err().kind, ErrorKind::Refused);
    }
    // As if it had filled up since.
    recorded.facts["databases"][0]["bytes"] = 0.into();
    let failed = part.stage(&bench.context, &recorded).await.unwrap_err();
    let said = backstay_model::with_causes(&failed);
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(failed.kind, ErrorKind::Failed);
    is_whole_and_open(&bench).await;
    drop(bench);
}

/// As short as it can be set, for the role and for the database.
const SHORT: &str = "
    alter role hasty set statement_timeout = '1ms'; alter role hasty set lock_timeout = '1ms';
    alter role hasty set idle_in_transaction_session_timeout = '1ms'; alter database shop set idle_session_timeout = '1ms';
    alter database shop set statement_timeout = '1ms'; alter role hasty in database shop set statement_timeout = '1ms';
    alter database shop set default_transaction_read_only = on; alter role hasty set idle_session_timeout = '1ms'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_timeout_of_a_role_or_a_database_ends_what_runs_in_its_name() {
    let bins = majors();
    let (oldest, newest) = (bins.first(), bins.last().filter(|_| bins.len() > 1));
    for bin in oldest.into_iter().chain(newest) {
        let bench = Bench::on(PrivateCluster::start_from(bin, &[])).await;
        bench.cluster.sql("postgres", "create role hasty login createdb; create database shop owner hasty");
        bench.cluster.sql_as("hasty", "shop", SHOP).unwrap();
        bench.cluster.sql("postgres", SHORT);
        if bench.cluster.major() >= 17 {
            bench.cluster.sql("postgres", "alter role hasty set transaction_timeout = '1s'");
        }
        let part = bench.part("hasty", &["shop"]);
        let recorded = bench.capture_to_restore(&part).await;
        let plan = part.plan(&bench.context, &recorded).await.unwrap();
        assert_eq!(plan.refusals, Vec::<String>::new());
        let token = part.stage(&bench.context, &recorded).await.unwrap();
        assert_eq!(part.prove(&bench.context, &recorded, &token).await.unwrap().findings, Vec::<String>::new());
        part.activate(&bench.context, &token).await.unwrap();
        part.loss(&bench.context, &token).await.unwrap();
        part.revert(&bench.context, &token).await.unwrap();
        part.activate(&bench.context, &token).await.unwrap();
        part.settle(&bench.context, &token).await.unwrap();
        assert_eq!(databases(&bench), ["shop"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_too_few_locks_for_the_tables_is_named_as_such() {
    let Some(bin) = majors().into_iter().next() else { return drop(Bench::start().await) };
    let few = [("max_locks_per_transaction", "10"), ("max_connections", "20"), ("max_prepared_transactions", "0")];
    let bench = Bench::on(PrivateCluster::start_from(&bin, &few)).await;
    bench.cluster.create("many");
    // Locks are taken of what is left over as well, so there have to be many more than these.
    for first in [1, 201, 401, 601, 801, 1001, 1201, 1401] {
        let make = "do $$ begin for n in FIRST..FIRST+199 loop execute format('create table t%s ()', n); commit; end loop; end $$";
        bench.cluster.sql("many", &make.replace("FIRST", &first.to_string()));
    }
    let part = bench.part("postgres", &["many"]);
    let findings = part.preflight(&bench.context).await.unwrap();
    assert!(findings.iter().any(|finding| finding.text.contains("capture needs 3200 locks")), "{findings:?}");
    let error = bench.capture(&part).await.unwrap_err();
    assert!(matches!(error, Error::TooFewLocks { tables: 1600, .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_that_find_what_they_need_only_by_a_search_path_are_given_one() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.create("shop");
    bench.cluster.sql("shop", BY_PATH);
    let part = bench.part("postgres", &["shop"]);
    let recorded = bench.capture_to_restore(&part).await;
    let token = part.stage(&bench.context, &recorded).await.unwrap();
    assert_eq!(part.prove(&bench.context, &recorded, &token).await.unwrap().findings, Vec::<String>::new());
    let staged = Switch::read(&token).unwrap().databases[0].staged.clone();
    part.activate(&bench.context, &token).await.unwrap();
    assert_eq!(bench.cluster.sql("shop", "select count(*), min(label) from store.goods"), "30|number 1");
    assert_eq!(bench.cluster.sql("shop", "select count(*) from store.seen where is_known"), "30");
    assert_eq!(
        bench.cluster.sql("postgres", &format!("select 1 from pg_database where datname = {}", literal(&staged))),
        ""
    );
    let told = bench.heard.events().iter().filter(|event| format!("{event:?}").contains("with a search path")).count();
    assert_eq!(told, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_role_may_not_make_again_is_said_by_doctor_and_refused_before_anything_is_copied() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.sql(
        "postgres",
        "create role other login; create role keeper login createdb; create database shop owner keeper",
    );
    bench.cluster.sql_as("keeper", "shop", SHOP).unwrap();
    let part = bench.part("keeper", &["shop"]);
    let good = part.preflight(&bench.context).await.unwrap();
    assert!(
        good.iter().all(|finding| !finding.text.contains("may not") && !finding.text.contains("put back")),
        "{good:?}"
    );
    bench.cluster.sql(
        "shop",
        "alter role other in database shop set search_path = other; alter role keeper in database shop set work_mem = '5MB';
         alter database shop set log_statement = 'ddl'; create table of_other (); alter table of_other owner to other;
         grant select on of_other to keeper",
    );
    let expected = [
        "shop has the setting log_statement, which only a superuser may give to a copy",
        "shop has the setting search_path for other, which this role may not give to a copy",
    ];
    let findings = part.preflight(&bench.context).await.unwrap();
    let of_other = "shop has objects of other, which keeper could not put back as theirs";
    for text in expected.iter().chain([&of_other]) {
        assert!(findings.iter().any(|finding| finding.text == *text), "{text}: {findings:?}");
    }
    let recorded = bench.capture_to_restore(&part).await;
    let plan = part.plan(&bench.context, &recorded).await.unwrap();
    assert_eq!(plan.refusals, expected);
    assert_eq!(part.stage(&bench.context, &recorded).await.unwrap_err().kind, ErrorKind::Refused);
    assert_eq!(databases(&bench), ["shop"]);
}

/// The schema of the table itself, the path of the database, and what everybody has.
const BY_PATH: &str = "
    create schema store; create schema known; set search_path = known, store, public;
    create table known.numbers as select n from generate_series(1, 50) n;
    create table store.labels as select n, 'number ' || n as label from generate_series(1, 50) n;
    create function public.is_known(x int) returns boolean language sql stable as $$ select exists (select from numbers where n = $1) $$;
    create function store.label_of(x int) returns text language plpgsql immutable as
        $$ begin return (select label from labels where n = x); end $$;
    alter database shop set search_path = known, store;
    create table store.goods (id int check (public.is_known(id)), label text generated always as (store.label_of(id)) stored);
    insert into store.goods select n from generate_series(1, 30) n;
    create materialized view store.seen as select id, public.is_known(id) as is_known from store.goods";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_in_other_encodings_come_back_and_such_as_are_no_text_are_refused() {
    let Some(bench) = Bench::start().await else { return };
    let names = "create table \"täß \"\" \\\\\" (\"ü\" text default 'ÿ', e text);
        insert into \"täß \"\" \\\\\" values ('ä', 'x'); comment on column \"täß \"\" \\\\\".\"ü\" is 'é';
        create type moods as enum ('ü', 'b'); create table of_moods (m moods); insert into of_moods values ('ü');
        create sequence \"sä\"; create materialized view \"mä\" as select * from of_moods;
        create view \"vä\" as select 'ä'::text as \"å\"; create schema \"ü\"";
    for encoding in ["LATIN1", "WIN1252", "SQL_ASCII"] {
        let name = encoding.to_lowercase();
        bench
            .cluster
            .sql("postgres", &format!("create database {name} template template0 encoding '{encoding}' locale 'C'"));
        bench.cluster.sql(&name, &format!("set client_encoding = 'UTF8'; {names}"));
        let part = bench.part("postgres", &[&name]);
        let recorded = bench.capture_to_restore(&part).await;
        let token = part.stage(&bench.context, &recorded).await.unwrap();
        let findings = part.prove(&bench.context, &recorded, &token).await.unwrap().findings;
        assert_eq!(findings, Vec::<String>::new(), "{encoding}");
        part.abandon(&bench.context, &bench.context.run, None).await.unwrap();
    }
    // One byte of LATIN1 where the server asks nobody what it means.
    bench.cluster.sql(
        "sql_ascii",
        "do $$ begin execute 'create table ' || quote_ident(convert_from('\\xe4', 'SQL_ASCII')) || ' ()'; end $$",
    );
    let error = bench.capture(&bench.part("postgres", &["sql_ascii"])).await.unwrap_err();
    assert!(matches!(error, Error::NotUtf8 { .. }), "{error:?}");
}

/// A field that is larger than most things that are larger than expected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_of_more_than_a_hundred_megabytes_come_back() {
    if places_to_try(1, 0).is_empty() {
        return;
    }
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.create("shop");
    bench.cluster.sql(
        "shop",
        "create table large (id int, body text, raw bytea);
         insert into large select 1, repeat(md5('a'), 4000000), null;
         insert into large select 2, null, decode(repeat(md5('b'), 3500000), 'hex'); insert into large values (3, 'x', 'y')",
    );
    let part = bench.part("postgres", &["shop"]);
    let recorded = bench.capture_to_restore(&part).await;
    let token = part.stage(&bench.context, &recorded).await.unwrap();
    assert_eq!(part.prove(&bench.context, &recorded, &token).await.unwrap().findings, Vec::<String>::new());
    part.activate(&bench.context, &token).await.unwrap();
    assert_eq!(
        bench.cluster.sql("shop", "select id, length(body), length(raw) from large order by id"),
        "1|128000000|\n2||56000000\n3|1|1"
    );
}
