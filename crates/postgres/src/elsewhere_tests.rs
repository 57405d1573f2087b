//! Capture where it is not the usual server: a standby, one behind a lock, one without the roles.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use backstay_part::Part;
use backstay_repository::Secret;
use backstay_testkit::{PrivateCluster, majors, wait_until};

use crate::bench::Bench;
use crate::session::connect;
use crate::swap::Switch;
use crate::{Database, Error, LocalTools, Options, ServerFacts, ServerPart, Tool, ToolCall, ToolOutcome, Tools};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_captured_but_for_what_it_does_not_have() {
    let Some(primary) = Bench::start().await else { return };
    primary.torture("tortured");
    let standby = Bench::around(primary.cluster.standby(&[]), &Secret::None).await;
    standby.cluster.catch_up(&primary.cluster);
    let (_, there) = primary.capture(&primary.part("postgres", &["tortured"])).await.unwrap();
    let (captured, facts) = standby.capture(&standby.part("postgres", &["tortured"])).await.unwrap();

    assert!(facts.standby && !there.standby);
    let rows = |facts: &ServerFacts, unlogged: bool| {
        let tables = facts.databases[0].tables.iter().filter(|table| table.unlogged == unlogged);
        tables.map(|table| (table.name.clone(), table.rows, table.fingerprint, table.excluded)).collect::<Vec<_>>()
    };
    assert_eq!(rows(&facts, false), rows(&there, false));
    assert!(rows(&facts, true).len() == 2 && rows(&facts, true).iter().all(|(.., excluded)| *excluded));
    assert_eq!(facts.databases[0].objects, there.databases[0].objects);
    assert_eq!(facts.databases[0].moment.counters, None, "a standby counts nothing that the primary wrote");
    let sequences = |facts: &ServerFacts| facts.databases[0].sequences.clone();
    let logged = sequences(&there).into_iter().filter(|one| one.name != "unlogged_sequence").collect::<Vec<_>>();
    assert_eq!(sequences(&facts), logged);
    for name in ["table app.unlogged", "sequence app.unlogged_sequence"] {
        assert!(captured.not_covered.iter().any(|what| what.contains(name)), "{name}: {:?}", captured.not_covered);
    }

    // What it gave comes back on the primary, without the rows it did not have.
    let recorded = standby.recorded(&captured).await;
    let part = primary.part("postgres", &["tortured"]);
    let token = part.stage(&primary.context, &recorded).await.unwrap();
    assert_eq!(part.prove(&primary.context, &recorded, &token).await.unwrap().findings, Vec::<String>::new());
    part.abandon(&primary.context, &primary.context.run, Some(&token)).await.unwrap();
    let refused = standby.part("postgres", &["tortured"]).stage(&standby.context, &recorded).await.unwrap_err();
    assert!(refused.to_string().contains("stage"), "{refused:?}");

    let delay = "alter system set max_standby_streaming_delay = '10ms'";
    standby.cluster.sql("postgres", delay);
    standby.cluster.sql("postgres", "select pg_reload_conf()");
    let mut reader = connect(&standby.settings("postgres", "tortured"), "test").await.unwrap();
    reader.execute("begin", "begin isolation level repeatable read; select count(*) from app.orders").await.unwrap();
    let reading = tokio::spawn(async move { reader.execute("read", "select pg_catalog.pg_sleep(3600)").await });
    primary.cluster.sql("tortured", "truncate app.orders");
    let error = reading.await.unwrap().unwrap_err().on_standby("tortured");
    assert!(matches!(error, Error::RecoveryConflict { .. }), "{error:?}");
    assert!(error.to_string().contains("hot_standby_feedback"), "{error}");
}

/// Lets somebody come to wait for a table before pg_dump locks it.
struct Crossed {
    tools: Arc<LocalTools>,
    cluster: Arc<Bench>,
    left: AtomicU32,
}

#[async_trait]
impl Tools for Crossed {
    async fn version(&self, tool: Tool, major: u32) -> Result<String, Error> {
        self.tools.version(tool, major).await
    }

    async fn run(&self, call: ToolCall<'_>) -> Result<ToolOutcome, Error> {
        let crossing = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if let (Tool::PgDump, Ok(left)) = (call.tool, crossing) {
            let mut command = self.cluster.cluster.client("psql");
            let sql = format!("alter table goods add column more_{left} integer");
            let mut waiter = command.args(["-XAtq", "-U", "postgres", "-d", "shop", "-c", &sql]).spawn().unwrap();
            let waiting = "select count(*) from pg_locks where not granted and mode = 'AccessExclusiveLock'";
            wait_until("ALTER waits", || self.cluster.cluster.sql("shop", waiting) == "1");
            // Ended once it has run.
            std::thread::spawn(move || waiter.wait());
        }
        self.tools.run(call).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_between_the_locks_and_pg_dump_is_let_through_or_named() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.create("shop");
    bench.cluster.sql("shop", "create table goods as select n as id from generate_series(1, 10) n");
    let bench = Arc::new(bench);
    let part = |times, lock_wait| {
        let database = Database {
            label: "shop".to_owned(),
            settings: bench.settings("postgres", "shop"),
            standbys: Vec::new(),
            exclude_rows: Vec::new(),
            assertions: Vec::new(),
        };
        let tools = Crossed { tools: bench.tools(), cluster: Arc::clone(&bench), left: AtomicU32::new(times) };
        let options = Options { lock_timeout: Duration::from_millis(300), lock_wait, ..Options::default() };
        ServerPart::new("database".parse().unwrap(), vec![database], Arc::new(tools), options)
    };
    let (_, facts) = bench.capture(&part(1, Duration::from_secs(600))).await.unwrap();
    let goods = &facts.databases[0].tables[0];
    assert_eq!((goods.rows, goods.columns.len()), (10, 2), "it was let through, and all is as it left it");

    let error = bench.capture(&part(100, Duration::ZERO)).await.unwrap_err();
    let Error::Locked { blocker, .. } = &error else { panic!("{error:?}") };
    for told in ["waits to lock public.goods", "psql", "postgres", "alter table goods add column more_100"] {
        assert!(blocker.contains(told), "{told} is missing in: {blocker}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_that_are_missing_come_back_with_their_passwords_and_nobody_sees_them() {
    let Some(bin) = majors().into_iter().next() else { return drop(Bench::start().await) };
    let secret = Secret::KeyFile(b"a key that protects nothing at all".to_vec().into());
    let source = Bench::around(PrivateCluster::start_from(&bin, &[]), &secret).await;
    source.cluster.sql(
        "postgres",
        "create role keepers; create role shop login password 'open sesame' connection limit 7 in role keepers;
         alter role shop set work_mem = '7MB'; create role \"O'Neil\" noinherit createdb;
         create database shop owner shop",
    );
    source.cluster.sql(
        "shop",
        "create table goods (id int); alter table goods owner to shop; grant select on goods to \"O'Neil\"",
    );
    let (captured, facts) = source.capture(&source.part("postgres", &["shop"])).await.unwrap();
    let recorded = source.recorded(&captured).await;
    let secret_text = source.cluster.sql("postgres", "select rolpassword from pg_authid where rolname = 'shop'");
    assert!(secret_text.starts_with("SCRAM-SHA-256"), "{secret_text}");
    assert!(!format!("{facts:?} {} {:?}", captured.facts, captured.not_covered).contains("SCRAM"));

    let settings = [("log_statement", "all"), ("log_min_duration_statement", "0")];
    let target = Bench::around(PrivateCluster::start_from(&bin, &settings), &secret).await;
    let part = target.part("postgres", &["shop"]);
    let plan = part.plan(&target.context, &recorded).await.unwrap();
    assert_eq!(plan.refusals, Vec::<String>::new());
    assert!(plan.steps.iter().any(|step| step.contains("make the role O'Neil")), "{:?}", plan.steps);
    let roles = |bench: &Bench| {
        let columns = "rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolconnlimit, rolpassword, rolconfig,
            array(select roleid::regrole::text from pg_auth_members where member = a.oid)";
        bench.cluster.sql("postgres", &format!("select {columns} from pg_authid a left join pg_db_role_setting s on s.setrole = a.oid where rolname !~ '^pg_' order by 1").replace("rolconfig", "setconfig"))
    };
    let before = roles(&target);
    let token = part.stage(&target.context, &recorded).await.unwrap();
    assert_eq!(roles(&target), roles(&source));
    assert_eq!(part.prove(&target.context, &recorded, &token).await.unwrap().findings, Vec::<String>::new());
    assert!(!target.cluster.log().contains("SCRAM-SHA-256"), "the server's log holds a verifier");
    part.abandon(&target.context, &target.context.run, Some(&token)).await.unwrap();
    assert_eq!(roles(&target), before);

    // Live, they stay.
    let token = part.stage(&target.context, &recorded).await.unwrap();
    part.prove(&target.context, &recorded, &token).await.unwrap();
    part.activate(&target.context, &token).await.unwrap();
    part.abandon(&target.context, &Switch::read(&token).unwrap().run, None).await.unwrap();
    assert_eq!(roles(&target), roles(&source));

    // Without a seal, or without the right to read them, passwords are not recorded, and that is said.
    let open = Bench::around(source.cluster, &Secret::None).await;
    let (captured, facts) = open.capture(&open.part("postgres", &["shop"])).await.unwrap();
    assert_eq!(facts.verifiers_stream, None);
    assert!(captured.not_covered.iter().any(|what| what.contains("passwords of") && what.contains("not sealed")));
    let (captured, _) = open.capture(&open.part("shop", &["shop"])).await.unwrap();
    assert!(captured.not_covered.iter().any(|what| what.contains("only a superuser")), "{:?}", captured.not_covered);
}
