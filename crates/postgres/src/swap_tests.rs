use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backstay_model::{Environment, Listener, Severity, Silent, SystemClock};
use backstay_part::Part;
use backstay_run::Interrupt;
use backstay_testkit::{Memory, PrivateCluster};

use super::*;
use crate::bench::places_to_try;
use crate::fuse::Fuse;
use crate::session::{connect, connect_plainly};
use crate::{Database, LocalTools, Options, Settings, Surroundings};

/// A cluster, a part of it, and runs.
struct Ground {
    cluster: PrivateCluster,
    part: ServerPart,
}

const RUNS: [&str; 4] =
    ["20251022_153000_0001", "20251022_153001_0002", "20251022_153002_0003", "20251022_153003_0004"];

impl Ground {
    fn new(role: &str, databases: &[&str]) -> Option<Self> {
        Self::on(PrivateCluster::start()?, role, databases)
    }

    fn on(cluster: PrivateCluster, role: &str, databases: &[&str]) -> Option<Self> {
        let configured = databases.iter().enumerate().map(|(index, name)| Database {
            label: format!("db{index}"),
            settings: settings(&cluster, role, name),
            standbys: Vec::new(),
            exclude_rows: Vec::new(),
            assertions: Vec::new(),
        });
        let tools = Arc::new(LocalTools::only(vec![cluster.bin().to_owned()]));
        let part = ServerPart::new("database".parse().unwrap(), configured.collect(), tools, Options::default());
        Some(Self { cluster, part })
    }

    fn switch(&self, run: &str) -> Switch {
        let run: RunId = run.parse().unwrap();
        let trio = |database: &Database| {
            let live = database.settings.database().to_owned();
            let (staged, kept) = (staged_name(&live, &run), kept_name(&live, &run));
            Trio { label: database.label.clone(), live, staged, kept }
        };
        Switch { databases: self.part.databases().iter().map(trio).collect(), run }
    }

    /// A live database that says `old` and a proven copy that says `new`, for every name.
    fn fill(&self, run: &str) -> Switch {
        let switch = self.switch(run);
        for trio in &switch.databases {
            self.make(&trio.live, "old");
            self.stage(&switch.run, trio, "new");
        }
        switch
    }

    fn make(&self, database: &str, says: &str) {
        self.cluster.create(database);
        self.cluster.sql(database, &format!("create table says (it text); insert into says values ('{says}')"));
    }

    fn stage(&self, run: &RunId, trio: &Trio, says: &str) {
        self.make(&trio.staged, says);
        let mark = with_mark(Some("the copy's words"), Some(&Mark::new(run, State::Proven, &trio.live))).unwrap();
        let name = crate::identifier(&trio.staged);
        let owner = self.part.databases()[0].settings.user().to_owned();
        self.cluster.sql(
            "postgres",
            &format!(
                "comment on database {name} is {}; alter database {name} owner to {owner};
                 alter database {name} allow_connections false",
                crate::literal(&mark)
            ),
        );
    }

    fn says(&self, database: &str) -> String {
        self.cluster.sql(database, "select string_agg(it, ' ' order by it) from says")
    }

    fn all_say(&self, switch: &Switch, what: &str) {
        for trio in &switch.databases {
            assert_eq!(self.says(&trio.live), what, "{}", trio.live);
        }
    }

    fn databases(&self) -> Vec<String> {
        let sql = "select datname from pg_database where datname !~ '^(postgres|template.)$' order by 1";
        self.cluster.sql("postgres", sql).lines().map(str::to_owned).collect()
    }

    async fn standing(&self, switch: &Switch) -> Standing {
        self.part.standing(&context(switch.run.as_str()), &switch.token().unwrap()).await.unwrap()
    }
}

fn settings(cluster: &PrivateCluster, role: &str, database: &str) -> Settings {
    Settings::parse(&cluster.url_as(role, "postgres"), &Surroundings::default()).unwrap().with_database(database)
}

fn context(run: &str) -> Context {
    Context {
        run: run.parse().unwrap(),
        project: "shop".parse().unwrap(),
        environment: Environment::unnamed(),
        host: "here".to_owned(),
        state: PathBuf::new(),
        clock: Arc::new(SystemClock::default()),
        listener: Arc::new(Silent),
        interrupt: Interrupt::default(),
    }
}

/// What the catalog says of everything that a switch may change, but for the marks.
fn attributes(ground: &Ground, database: &str) -> String {
    ground.cluster.sql(
        "postgres",
        &format!(
            "select datallowconn, datconnlimit, datistemplate, datdba::regrole,
                    (select string_agg(item, ',' order by item) from (
                       select grantee::regrole || privilege_type || is_grantable as item
                         from aclexplode(coalesce(datacl, acldefault('d', datdba)))) items),
                    (select string_agg(setrole || setconfig::text, ',' order by setrole)
                       from pg_db_role_setting where setdatabase = d.oid),
                    shobj_description(d.oid, 'pg_database')
               from pg_database d where datname = {}",
            crate::literal(database)
        ),
    )
}

#[tokio::test]
async fn a_switch_and_its_way_back_leave_every_attribute_as_it_was() {
    let Some(ground) = Ground::new("postgres", &["shop", "My \"Shop\" 'ä'"]) else { return };
    let switch = ground.fill(RUNS[0]);
    ground.cluster.sql(
        "postgres",
        "create role app login; create role reader login;
         comment on database shop is 'The shop''s \\ data';
         alter database shop connection limit 7;
         revoke connect on database shop from public; grant connect on database shop to app;
         grant create on database shop to reader with grant option;
         alter database shop set work_mem = '5MB'; alter role app in database shop set statement_timeout = '3s';
         alter database shop set default_transaction_read_only = off",
    );
    let before: Vec<_> = switch.databases.iter().map(|trio| attributes(&ground, &trio.live)).collect();
    let (context, token) = (context(RUNS[0]), switch.token().unwrap());
    assert_eq!(ground.standing(&switch).await, Standing::NotSwitched);

    let activated = ground.part.activate(&context, &token).await.unwrap();
    assert_eq!(ground.standing(&switch).await, Standing::Switched);
    ground.all_say(&switch, "new");
    let kept = &switch.databases[0].kept;
    assert_eq!(ground.says(kept), "old");
    assert!(ground.cluster.sql_as("app", kept, "select 1").is_err(), "the kept database lets others in");
    let written = ground.cluster.sql_as("postgres", kept, "insert into says values ('more')").unwrap_err();
    assert!(written.contains("read-only"), "{written}");
    ground.part.activate(&context, &token).await.unwrap();

    ground.part.revert(&context, &activated).await.unwrap();
    assert_eq!(ground.standing(&switch).await, Standing::NotSwitched);
    ground.all_say(&switch, "old");
    ground.cluster.sql_as("app", "shop", "select 1").unwrap();
    let after: Vec<_> = switch.databases.iter().map(|trio| attributes(&ground, &trio.live)).collect();
    assert_eq!(after, before);
    ground.part.revert(&context, &activated).await.unwrap();
    ground.part.activate(&context, &token).await.unwrap();
    ground.all_say(&switch, "new");
}

#[tokio::test]
async fn a_run_that_dies_at_any_statement_can_be_ended_in_either_direction() {
    let Some(ground) = Ground::new("postgres", &["shop", "More"]) else { return };
    let switch = ground.fill(RUNS[0]);
    let (context, token) = (context(RUNS[0]), switch.token().unwrap());
    let (done, places) = Fuse::counted(ground.part.activate(&context, &token)).await;
    done.unwrap();
    let (done, places_back) = Fuse::counted(ground.part.revert(&context, &token)).await;
    done.unwrap();
    assert!(places > 12 && places_back > 12, "{places} {places_back}");
    for place in places_to_try(places.max(places_back), 8) {
        for begins_forward in [true, false] {
            let ends_forward = begins_forward == (place % 2 == 0);
            if begins_forward {
                let (died, _) = Fuse::lit(place, ground.part.activate(&context, &token)).await;
                assert_eq!(died.is_ok(), place >= places, "{place}");
            } else {
                ground.part.activate(&context, &token).await.unwrap();
                let (died, _) = Fuse::lit(place, ground.part.revert(&context, &token)).await;
                assert_eq!(died.is_ok(), place >= places_back, "{place}");
            }
            let standing = ground.standing(&switch).await;
            assert!(!matches!(standing, Standing::Unclear(_) | Standing::Settled), "{place}: {standing:?}");
            if ends_forward {
                ground.part.activate(&context, &token).await.unwrap();
                ground.all_say(&switch, "new");
                assert_eq!(ground.standing(&switch).await, Standing::Switched);
            }
            ground.part.revert(&context, &token).await.unwrap();
            ground.all_say(&switch, "old");
            assert_eq!(ground.standing(&switch).await, Standing::NotSwitched);
        }
    }
}

#[tokio::test]
async fn settling_lets_go_once_and_for_all_wherever_it_dies() {
    let Some(ground) = Ground::new("postgres", &["shop", "more"]) else { return };
    let mut places = 1;
    let mut place = 0;
    while place < places {
        let run = RunId::new(Default::default(), u16::try_from(place).unwrap());
        let switch = if place == 0 { ground.fill(run.as_str()) } else { ground.switch(run.as_str()) };
        if place > 0 {
            switch.databases.iter().for_each(|trio| ground.stage(&run, trio, "new"));
        }
        let (context, token) = (context(run.as_str()), switch.token().unwrap());
        ground.part.activate(&context, &token).await.unwrap();
        let (died, count) = Fuse::lit(place, ground.part.settle(&context, &token)).await;
        assert!(died.is_err());
        let standing = ground.standing(&switch).await;
        assert!(matches!(standing, Standing::Switched | Standing::Settled), "{standing:?}");
        let (done, more) = Fuse::counted(ground.part.settle(&context, &token)).await;
        done.unwrap();
        places = places.max(count).max(more);
        assert_eq!(ground.standing(&switch).await, Standing::Settled);
        assert_eq!(ground.databases(), ["more", "shop"]);
        ground.all_say(&switch, "new");
        assert!(ground.part.revert(&context, &token).await.is_err());
        place += 1;
    }
    assert!(places > 6, "{places}");
}

#[tokio::test]
async fn an_undo_can_itself_be_undone_and_nothing_kept_is_overwritten() {
    let Some(ground) = Ground::new("postgres", &["shop"]) else { return };
    ground.cluster.sql("postgres", "create role app login");
    let first = ground.fill(RUNS[0]);
    let original = attributes(&ground, "shop");
    let mut token = ground.part.activate(&context(RUNS[0]), &first.token().unwrap()).await.unwrap();
    for (round, run) in RUNS.iter().enumerate().skip(1) {
        let staged = ground.part.stage_kept(&context(run), &token).await.unwrap();
        let names = ground.databases();
        token = ground.part.activate(&context(run), &staged).await.unwrap();
        ground.part.revert(&context(run), &staged).await.unwrap();
        assert_eq!(ground.databases(), names);
        // The kept one is kept as before: what it replaced can still be undone, and it is closed to others.
        let kept = &Switch::read(&staged).unwrap().databases[0].staged;
        assert!(ground.cluster.sql_as("app", kept, "select 1").is_err());
        ground.part.activate(&context(run), &staged).await.unwrap();
        assert_eq!(ground.databases().len(), 2);
        ground.all_say(&first, if round % 2 == 1 { "old" } else { "new" });
        ground.cluster.sql_as("app", "shop", "select 1").unwrap();
        ground.cluster.sql_as("app", "shop", "create temp table x ()").unwrap();
    }
    assert_eq!(ground.says("shop"), "old");
    let (words, _) = attributes(&ground, "shop").rsplit_once('|').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert!(original.starts_with(&words), "{original} {words}");
    // A restore of another run before anything was settled keeps a second one.
    let more = ground.switch("20251022_153009_0009");
    ground.stage(&more.run, &more.databases[0], "third");
    ground.part.activate(&context(more.run.as_str()), &more.token().unwrap()).await.unwrap();
    assert_eq!(ground.says("shop"), "third");
    assert_eq!(ground.databases().len(), 3);
    assert!(matches!(ground.standing(&Switch::read(&token).unwrap()).await, Standing::Unclear(_)));
    let listed = ground.part.leftovers().await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|left| left.bytes.unwrap() > 1_000_000 && left.remove == "backstay settle"));
}

#[tokio::test]
async fn a_hundred_clients_that_come_back_do_not_hold_a_switch_up() {
    let Some(ground) = Ground::new("postgres", &["shop"]) else { return };
    let switch = ground.fill(RUNS[0]);
    let (context, token) = (context(RUNS[0]), switch.token().unwrap());
    let live = settings(&ground.cluster, "postgres", "shop");
    let stop = Arc::new(AtomicBool::new(false));
    let connected = Arc::new(AtomicU64::new(0));
    // The longest time between two answers that any client saw.
    let outage = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for _ in 0..100 {
        let (live, stop, connected) = (live.clone(), Arc::clone(&stop), Arc::clone(&connected));
        let outage = Arc::clone(&outage);
        clients.push(tokio::spawn(async move {
            let mut answered: Option<Instant> = None;
            while !stop.load(Ordering::SeqCst) {
                let Ok(mut connection) = connect_plainly(&live, "client").await else {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                };
                connected.fetch_add(1, Ordering::SeqCst);
                while !stop.load(Ordering::SeqCst) {
                    let said = sqlx::query_scalar::<_, String>("select it from says").fetch_one(&mut connection).await;
                    if said.is_err() {
                        break;
                    }
                    if let Some(before) = answered.replace(Instant::now()) {
                        let gap = u64::try_from(before.elapsed().as_millis()).unwrap();
                        outage.fetch_max(gap, Ordering::SeqCst);
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }));
    }
    while connected.load(Ordering::SeqCst) < 100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..3 {
        let start = Instant::now();
        ground.part.activate(&context, &token).await.unwrap();
        println!("switched in {:?}", start.elapsed());
        ground.all_say(&switch, "new");
        ground.part.revert(&context, &token).await.unwrap();
        ground.all_say(&switch, "old");
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    println!("of six switches, the longest that a client was without an answer: {} ms", outage.load(Ordering::SeqCst));
}

#[tokio::test]
async fn what_hinders_a_switch_is_said_before_anything_changed() {
    let Some(ground) = Ground::new("owner", &["shop"]) else { return };
    ground.cluster.sql("postgres", "create role owner login createdb; create role app login; create role other login");
    let switch = ground.fill(RUNS[0]);
    ground.cluster.sql("postgres", "alter database shop owner to owner");
    let (context, token) = (context(RUNS[0]), switch.token().unwrap());
    let refused = async |with: &str| {
        let before = attributes(&ground, "shop");
        let error = ground.part.activate(&context, &token).await.unwrap_err();
        assert_eq!(error.kind, backstay_part::ErrorKind::Refused);
        let text = error.source.to_string();
        assert!(text.contains(with), "{text}");
        assert_eq!(attributes(&ground, "shop"), before);
        assert_eq!(ground.standing(&switch).await, Standing::NotSwitched);
    };
    let postgres = |sql: &str| ground.cluster.sql("postgres", sql);

    ground.cluster.sql("shop", "begin; insert into says values ('prepared'); prepare transaction 'p1'");
    refused("prepared transactions (p1)").await;
    ground.cluster.sql("shop", "rollback prepared 'p1'");
    ground.cluster.sql("shop", "select pg_create_logical_replication_slot('cdc', 'pgoutput')");
    refused("logical replication slots (cdc)").await;
    postgres("select pg_drop_replication_slot('cdc')");
    ground.cluster.sql("shop", "create subscription feed connection '' publication x with (connect = false)");
    refused("subscriptions (feed)").await;
    ground.cluster.sql("shop", "alter subscription feed set (slot_name = none); drop subscription feed");
    postgres("alter role owner nocreatedb");
    refused("grant it CREATEDB").await;
    postgres("alter role owner createdb; alter database shop owner to other");
    refused("belongs to other").await;
    postgres("alter database shop owner to owner");
    let mut other = connect_plainly(&settings(&ground.cluster, "other", "shop"), "client").await.unwrap();
    refused("1 sessions of other in shop").await;
    postgres("grant pg_signal_backend to owner");
    let staged = crate::identifier(&switch.databases[0].staged);
    postgres(&format!("alter database {staged} allow_connections true"));
    refused("was opened to connections since it was proven").await;
    postgres(&format!("alter database {staged} allow_connections false"));

    postgres("alter role owner set statement_timeout = '1ms'; alter role owner set lock_timeout = '1ms'");
    ground.part.activate(&context, &token).await.unwrap();
    ground.all_say(&switch, "new");
    assert!(sqlx::query("select 1").execute(&mut other).await.is_err(), "an old session goes on");
    ground.part.revert(&context, &token).await.unwrap();
    ground.all_say(&switch, "old");
}

#[tokio::test]
async fn a_session_that_cannot_be_ended_leaves_the_database_open() {
    let Some(ground) = Ground::new("owner", &["shop"]) else { return };
    ground.cluster.sql("postgres", "create role owner login createdb");
    let switch = ground.fill(RUNS[0]);
    ground.cluster.sql("postgres", "alter database shop owner to owner");
    let mut session = connect_outside(&ground.part, &switch.names(), "test").await.unwrap();
    let superuser = connect_plainly(&settings(&ground.cluster, "postgres", "shop"), "client").await.unwrap();
    // As if it had come between the look and the switch.
    let entries = look_up(&mut session, &switch.names()).await.unwrap();
    let mut script = script::Script::default();
    script.close("shop", entries["shop"].oid, true);
    script.step("alter database shop rename to gone".to_owned());
    script.run(&mut session, "switch").await.unwrap_err();
    ground.all_say(&switch, "old");
    assert_eq!(ground.standing(&switch).await, Standing::NotSwitched);
    // Nor does it take a database for another of the same name.
    drop(superuser);
    ground.cluster.sql("postgres", "alter role owner superuser");
    let mut script = script::Script::default();
    script.close("shop", 1, true);
    script.step("alter database shop rename to gone".to_owned());
    let mut session = connect_outside(&ground.part, &switch.names(), "test").await.unwrap();
    assert!(script.run(&mut session, "switch").await.is_err());
    ground.all_say(&switch, "old");
}

#[tokio::test]
async fn abandoning_drops_what_was_staged_and_nothing_else() {
    let Some(ground) = Ground::new("postgres", &["shop", &"Long ü ".repeat(7)]) else { return };
    let switch = ground.fill(RUNS[0]);
    let other = ground.switch(RUNS[1]);
    other.databases.iter().for_each(|trio| ground.stage(&other.run, trio, "other"));
    let (context, token) = (context(RUNS[0]), switch.token().unwrap());
    ground.part.activate(&context, &token).await.unwrap();
    ground.part.abandon(&context, &switch.run, None).await.unwrap();
    assert_eq!(ground.standing(&switch).await, Standing::Switched);
    ground.part.revert(&context, &token).await.unwrap();
    ground.part.abandon(&context, &other.run, None).await.unwrap();
    let names: Vec<_> = switch.databases.iter().flat_map(|trio| [trio.live.clone(), trio.staged.clone()]).collect();
    let mut left = ground.databases();
    left.sort();
    let mut wanted = names.clone();
    wanted.sort();
    assert_eq!(left, wanted);
    ground.all_say(&switch, "old");
}

#[tokio::test]
async fn a_database_that_is_gone_comes_back_and_the_way_back_is_that_it_is_gone() {
    let Some(ground) = Ground::new("postgres", &["shop"]) else { return };
    let switch = ground.fill(RUNS[0]);
    ground.cluster.sql("postgres", "drop database shop");
    let (context, token) = (context(RUNS[0]), switch.token().unwrap());
    ground.part.activate(&context, &token).await.unwrap();
    assert_eq!(ground.standing(&switch).await, Standing::Switched);
    assert_eq!(ground.says("shop"), "new");
    ground.part.revert(&context, &token).await.unwrap();
    assert_eq!(ground.databases(), [switch.databases[0].staged.clone()]);
    ground.part.activate(&context, &token).await.unwrap();
    ground.part.settle(&context, &token).await.unwrap();
    assert_eq!(ground.databases(), ["shop"]);
    assert_eq!(ground.standing(&switch).await, Standing::Settled);
}

/// Without being named they go on reading what was live before; so they do on one that lags behind, and that is said.
#[tokio::test]
async fn sessions_on_a_named_standby_are_ended_once_it_has_replayed_the_switch() {
    let Some(mut ground) = Ground::new("postgres", &["shop"]) else { return };
    let switch = ground.fill(RUNS[0]);
    let token = switch.token().unwrap();
    let standby = ground.cluster.standby(&[]);
    let there = settings(&standby, "postgres", "shop");
    let heard = Arc::new(Memory::default());
    let context = Context { listener: Arc::clone(&heard) as Arc<dyn Listener>, ..context(RUNS[0]) };
    let says =
        async |session: &mut crate::Session| session.row::<(String,)>("read", "select it from public.says").await;
    standby.catch_up(&ground.cluster);
    let mut reader = connect(&there, "test").await.unwrap();
    ground.part.activate(&context, &token).await.unwrap();
    standby.catch_up(&ground.cluster);
    assert_eq!(says(&mut reader).await.unwrap().0, "old", "nobody named the standby");
    ground.part.revert(&context, &token).await.unwrap();

    let mut databases = ground.part.databases().to_vec();
    databases[0].standbys.push(there.clone());
    ground.part =
        ServerPart::new("database".parse().unwrap(), databases, ground.part.tools().clone(), Options::default());
    assert_eq!(looked_at(&ground, &context, "the standby").await, Severity::Good);
    ground.part.activate(&context, &token).await.unwrap();
    assert!(says(&mut reader).await.is_err(), "it reads what was live before");
    let mut reader = connect(&there, "test").await.unwrap();
    assert_eq!(says(&mut reader).await.unwrap().0, "new");
    ground.part.revert(&context, &token).await.unwrap();
    assert!(says(&mut reader).await.is_err(), "it reads what was taken back");
    assert_eq!(heard.events(), [], "nothing went wrong");

    let mut reader = connect(&there, "test").await.unwrap();
    standby.sql("postgres", "select pg_wal_replay_pause()");
    ground.part.activate(&context, &token).await.unwrap();
    let warned = format!("{:?}", heard.events());
    assert!(warned.contains("may go on reading") && warned.contains("has not replayed"), "{warned}");
    assert_eq!(says(&mut reader).await.unwrap().0, "old");
    ground.all_say(&switch, "new");
    standby.stop();
    assert_eq!(looked_at(&ground, &context, "the standby").await, Severity::Warning);
}

/// How bad it is what `doctor` says in these words.
async fn looked_at(ground: &Ground, context: &Context, words: &str) -> Severity {
    let findings = ground.part.preflight(context).await.unwrap();
    let found = findings.iter().find(|finding| finding.text.contains(words));
    found.unwrap_or_else(|| panic!("nothing of `{words}`: {findings:?}")).severity
}
