use backstay_part::{Part, Standing};
use backstay_testkit::{PrivateCluster, majors};

use super::*;
use crate::bench::{Bench, places_to_try};
use crate::fuse::Fuse;

/// The databases of the cluster that are not the server's own.
fn databases(bench: &Bench) -> Vec<String> {
    let sql = "select datname from pg_database where datname !~ '^(postgres|template.)$' order by 1";
    bench.cluster.sql("postgres", sql).lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_with_one_of_everything_comes_back_as_it_was() {
    let Some(bench) = Bench::start().await else { return };
    bench.torture("tortured");
    let part = bench.part("postgres", &["tortured"]);
    let (captured, facts) = bench.capture(&part).await.unwrap();
    let recorded = bench.recorded(&captured).await;
    let plan = part.plan(&bench.context, &recorded).await.unwrap();
    assert_eq!(plan.differences, []);

    let token = part.stage(&bench.context, &recorded).await.unwrap();
    let switch = Switch::read(&token).unwrap();
    let proof = part.prove(&bench.context, &recorded, &token).await.unwrap();
    assert_eq!(proof.findings, Vec::<String>::new());
    assert_eq!(databases(&bench).len(), 2);
    assert!(bench.cluster.sql_as("postgres", &switch.databases[0].staged, "select 1").is_err(), "it is open");

    let refused = part.activate(&bench.context, &token).await.unwrap_err().source.to_string();
    assert!(refused.contains("has subscriptions (subscribed)"), "{refused}");
    bench.cluster.sql(
        "tortured",
        "alter subscription subscribed disable; alter subscription subscribed set (slot_name = none);
         drop subscription subscribed",
    );
    part.activate(&bench.context, &token).await.unwrap();
    let (again, facts_again) = bench.capture(&part).await.unwrap();
    let told = |facts: &ServerFacts| {
        let mut database = facts.databases[0].clone();
        database.moment = crate::Moment::default();
        (database.bytes, database.comment) = (0, None);
        // Which of these holds a row is decided anew by every copy; the proof has compared them together.
        database.tables.retain(|table| !table.name.starts_with("feelings_"));
        // pg_dump puts the columns of a parent first, whatever their order was.
        database.tables.retain(|table| table.name != "adopted");
        database.tables.iter_mut().for_each(|table| table.ranges.clear());
        // Said in other words after a restore; the proof has compared what they say.
        database.objects.clear();
        database
    };
    assert_eq!(told(&facts_again), told(&facts));
    drop(again);
    part.revert(&bench.context, &token).await.unwrap();
    assert_eq!(part.standing(&bench.context, &token).await.unwrap(), Standing::NotSwitched);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_not_what_was_captured_is_told_by_name() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.create("shop");
    bench.cluster.sql(
        "shop",
        "create table orders (id serial primary key, what text); insert into orders (what) select 'x' from generate_series(1, 10);
         create table lines (id int); insert into lines values (1), (2); select lo_from_bytea(7, 'abc')",
    );
    bench.cluster.sql("shop", "alter table lines add constraint few check (id < 9)");
    let asserted =
        ["select count(*) = 10 from orders", "select id = 2 from lines", "select true from nowhere", "select 1"];
    let part = bench.part_that_asserts("shop", &asserted);
    let recorded = bench.capture_to_restore(&part).await;
    let token = part.stage(&bench.context, &recorded).await.unwrap();
    let staged = Switch::read(&token).unwrap().databases[0].staged.clone();
    assert!(part.activate(&bench.context, &token).await.is_err(), "it was not proven");
    let name = identifier(&staged);
    bench.cluster.sql("postgres", &format!("alter database {name} allow_connections true"));
    bench.cluster.sql(
        &staged,
        "update orders set what = 'y' where id = 3; delete from lines where id = 2; select nextval('orders_id_seq');
         alter table orders add more int; create table extra (); select lo_put(7, 0, 'x');
         alter table lines drop constraint few; alter table lines add constraint few check (id < 9) not valid;
         insert into lines values (3), (4); delete from lines where id > 1",
    );
    let findings = part.prove(&bench.context, &recorded, &token).await.unwrap().findings;
    for expected in [
        "shop: public.lines has 1 rows, recorded were 2",
        "shop: the rows of public.orders differ from those recorded, though there are 10 of each",
        "shop: table public.extra was not recorded",
        "shop: table public orders is not as recorded",
        "shop: table public extra was not recorded",
        "shop: the sequence public.orders_id_seq stands at 11, recorded was 10",
        "shop: the bytes of large objects differ from those recorded",
        "shop: the constraint public.lines.few is not valid, though it was when it was recorded",
        "shop: the assertion `select id = 2 from lines` is not true",
        "shop: the assertion `select true from nowhere` cannot be asked: relation \"nowhere\" does not exist",
        "shop: the assertion `select 1` does not answer with a boolean",
    ] {
        assert!(findings.iter().any(|finding| finding == expected), "{expected} is not among {findings:#?}");
    }
    assert!(!findings.iter().any(|finding| finding.contains("count(*)")), "{findings:#?}");
    assert!(part.activate(&bench.context, &token).await.is_err());
    part.abandon(&bench.context, &bench.context.run, Some(&token)).await.unwrap();
    assert_eq!(databases(&bench), ["shop"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staging_that_dies_anywhere_is_begun_again_or_cleared_away() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.create("shop");
    bench.cluster.sql(
        "shop",
        "create table orders (id serial primary key, what text); insert into orders (what) values ('old');
         create table lines (id int references orders); insert into lines values (1);
         create materialized view seen as select * from orders; alter database shop set work_mem = '5MB'",
    );
    let part = bench.part("postgres", &["shop"]);
    let recorded = bench.capture_to_restore(&part).await;
    let (token, places) = Fuse::counted(part.stage(&bench.context, &recorded)).await;
    let token = token.unwrap();
    part.abandon(&bench.context, &bench.context.run, None).await.unwrap();
    assert_eq!(databases(&bench), ["shop"]);
    assert!(places > 15, "{places}");
    for place in places_to_try(places, 4) {
        let (died, _) = Fuse::lit(place, part.stage(&bench.context, &recorded)).await;
        assert!(died.is_err(), "{place}");
        assert_eq!(part.standing(&bench.context, &token).await.unwrap(), Standing::NotSwitched);
        if place % 2 == 0 {
            part.abandon(&bench.context, &bench.context.run, None).await.unwrap();
            assert_eq!(databases(&bench), ["shop"]);
        } else {
            part.stage(&bench.context, &recorded).await.unwrap();
            let proof = part.prove(&bench.context, &recorded, &token).await.unwrap();
            assert!(proof.holds(), "{:?}", proof.findings);
            part.abandon(&bench.context, &bench.context.run, None).await.unwrap();
        }
    }
    bench.context.interrupt.request();
    let stopped = part.stage(&bench.context, &recorded).await.unwrap_err();
    assert_eq!(stopped.kind, backstay_part::ErrorKind::Interrupted);
    assert_eq!(databases(&bench), ["shop"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_table_has_all_its_indexes_and_statistics_of_what_they_are_made_of() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.create("shop");
    bench.cluster.sql(
        "shop",
        "create table words (id int not null, what text, twin int);
         insert into words select i, repeat(md5(i::text), 16), i from generate_series(1, 140000) i;
         create function initial(text) returns text language sql immutable as 'select left($1, 1)';
         alter table words add primary key (id);
         create index by_initial on words (initial(what));
         create index by_upper on words (upper(what));
         create index by_twin on words (twin, id);
         create unlogged table small (id int primary key, word int references words);
         create statistics twins on id, twin from words; analyze",
    );
    let part = bench.part("postgres", &["shop"]);
    let recorded = bench.capture_to_restore(&part).await;
    let facts: ServerFacts = recorded.facts().unwrap();
    let words = facts.databases[0].tables.iter().find(|table| table.name == "words").unwrap();
    assert!(words.bytes > 64 << 20, "{}", words.bytes);
    assert_eq!(words.large_indexes, ["by_upper"]);
    // One worker builds what is left in the order of names.
    let token = part.clone().with_workers(1).stage(&bench.context, &recorded).await.unwrap();
    let proof = part.prove(&bench.context, &recorded, &token).await.unwrap();
    assert_eq!(proof.findings, Vec::<String>::new());
    part.activate(&bench.context, &token).await.unwrap();
    let of_expressions = "select count(*) from pg_stats where tablename in ('by_initial', 'by_upper')";
    assert_eq!(bench.cluster.sql("shop", of_expressions), "2");
    let of_columns = "select count(*) from pg_stats where tablename in ('words')";
    assert_eq!(bench.cluster.sql("shop", of_columns), "3");
    let together = "select count(*) from pg_statistic_ext_data";
    assert_eq!(bench.cluster.sql("shop", together), "1");
    // What needs nothing but its table was begun before all else, and so has the smaller number.
    let order =
        "select string_agg(relname, ' ' order by oid) from pg_class where relname in ('by_initial', 'by_upper')";
    assert_eq!(bench.cluster.sql("shop", order), "by_upper by_initial");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_users_need_is_left_out_of_a_copy_for_a_proof_that_asks_nothing() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.create("shop");
    bench.cluster.sql("shop", "create table goods as select i as id from generate_series(1, 1000) i");
    let (plain, asserting) = (bench.part("postgres", &["shop"]), bench.part_that_asserts("shop", &["select true"]));
    let recorded = bench.capture_to_restore(&plain).await;
    let staged = staged_name("shop", &bench.context.run);
    let known = async |recorded: &Recorded, token: Result<Token, backstay_part::Error>| {
        let open = format!("alter database {} allow_connections true", identifier(&staged));
        bench.cluster.sql("postgres", &open);
        let known = bench.cluster.sql(&staged, "select count(*) from pg_stats where tablename = 'goods'");
        let proof = plain.prove(&bench.context, recorded, &token.unwrap()).await.unwrap();
        assert_eq!(proof.findings, Vec::<String>::new());
        plain.abandon(&bench.context, &bench.context.run, None).await.unwrap();
        known
    };
    let for_proof = plain.stage_for_proof(&bench.context, &recorded).await;
    assert_eq!(known(&recorded, for_proof).await, "0");
    let for_proof_with_assertions = asserting.stage_for_proof(&bench.context, &recorded).await;
    assert_eq!(known(&recorded, for_proof_with_assertions).await, "1");
    let for_use = plain.stage(&bench.context, &recorded).await;
    assert_eq!(known(&recorded, for_use).await, "1");
    // A materialized view may ask for anything as well.
    bench.cluster.sql("shop", "create materialized view seen as select count(*) from goods");
    let recorded = bench.capture_to_restore(&plain).await;
    let for_proof_with_view = plain.stage_for_proof(&bench.context, &recorded).await;
    assert_eq!(known(&recorded, for_proof_with_view).await, "1");
}

/// Waits until the server holds a statement that begins so for want of a lock.
async fn waits(bench: &Bench, begin: &str) {
    let mut watcher = connect(&bench.settings("postgres", "postgres"), "watcher").await.unwrap();
    let sql = format!(
        "select count(*) from pg_catalog.pg_stat_activity where wait_event_type = 'Lock' and query like {}",
        literal(&format!("{begin}%"))
    );
    while watcher.row::<(i64,)>("watch", &sql).await.unwrap().0 == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    watcher.close().await;
}

/// Waits until the server has nothing of ours going any more.
async fn is_quiet(bench: &Bench) {
    let mut watcher = connect(&bench.settings("postgres", "postgres"), "watcher").await.unwrap();
    let sql = "select count(*) from pg_catalog.pg_stat_activity
                where application_name like 'backstay %' and pid <> pg_catalog.pg_backend_pid()";
    while watcher.row::<(i64,)>("watch", sql).await.unwrap().0 > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    watcher.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_was_still_doing_for_a_client_that_died_does_not_come_after_the_recovery() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.create("shop");
    bench.cluster.sql("shop", "create table orders (what text); insert into orders values ('old')");
    let part = bench.part("postgres", &["shop"]);
    let recorded = bench.capture_to_restore(&part).await;
    // Nobody changes the list of databases as long as this stands.
    let hold = async || {
        let mut holder = connect(&bench.settings("postgres", "postgres"), "holder").await.unwrap();
        holder.execute("hold", "begin; lock table pg_catalog.pg_database in exclusive mode").await.unwrap();
        holder
    };

    let holder = hold().await;
    tokio::select! {
        done = part.stage(&bench.context, &recorded) => panic!("it was not held up: {done:?}"),
        () = waits(&bench, "create database") => {}
    }
    part.abandon(&bench.context, &bench.context.run, None).await.unwrap();
    holder.close().await;
    is_quiet(&bench).await;
    assert_eq!(databases(&bench), ["shop"], "the server made it after it had been abandoned");

    let token = part.stage(&bench.context, &recorded).await.unwrap();
    assert!(part.prove(&bench.context, &recorded, &token).await.unwrap().holds());
    bench.cluster.sql("shop", "update orders set what = 'new'");
    let holder = hold().await;
    tokio::select! {
        done = part.activate(&bench.context, &token) => panic!("it was not held up: {done:?}"),
        () = waits(&bench, "do $") => {}
    }
    part.revert(&bench.context, &token).await.unwrap();
    holder.close().await;
    is_quiet(&bench).await;
    assert_eq!(bench.cluster.sql("shop", "select what from orders"), "new", "it was switched after it was taken back");
    part.abandon(&bench.context, &bench.context.run, None).await.unwrap();
    assert_eq!(databases(&bench), ["shop"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_live_for_a_while_stays_only_where_something_was_written_to_it() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.create("shop");
    bench.cluster.sql("shop", "create table orders (what text); insert into orders values ('old')");
    let part = bench.part("postgres", &["shop"]);
    let recorded = bench.capture_to_restore(&part).await;
    let run = &bench.context.run;
    let meanwhile =
        [("select * from orders", 0), ("insert into orders values ('more')", 1), ("select lo_create(7)", 1)];
    for (sql, left) in meanwhile {
        let token = part.stage(&bench.context, &recorded).await.unwrap();
        assert!(part.prove(&bench.context, &recorded, &token).await.unwrap().holds());
        part.activate(&bench.context, &token).await.unwrap();
        bench.cluster.sql("shop", sql);
        part.revert(&bench.context, &token).await.unwrap();
        part.abandon(&bench.context, run, Some(&token)).await.unwrap();
        assert_eq!(part.left(&bench.context, run).await.unwrap().len(), left, "{sql}");
        assert_eq!(databases(&bench).len(), 1 + left, "{sql}");
        part.abandon(&bench.context, run, None).await.unwrap();
        assert_eq!(databases(&bench).len(), 1 + left, "{sql}: not unasked");
        part.discard(&bench.context, run).await.unwrap();
        assert_eq!(databases(&bench), ["shop"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_have_few_sessions_stages_with_few() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.sql("postgres", "create role few login createdb connection limit 6; create database shop owner few");
    let tables = (1..9)
        .map(|n| format!("create table t{n} as select n from generate_series(1, 9) n; create index on t{n} (n);"));
    bench.cluster.sql_as("few", "shop", &tables.collect::<String>()).unwrap();
    let recorded = bench.capture_to_restore(&bench.part("postgres", &["shop"])).await;
    let part = bench.part("few", &["shop"]);
    let token = part.stage(&bench.context, &recorded).await.unwrap();
    let proof = part.prove(&bench.context, &recorded, &token).await.unwrap();
    assert_eq!(proof.findings, Vec::<String>::new());
    part.activate(&bench.context, &token).await.unwrap();

    // Where not even that is granted, nothing is left.
    part.revert(&bench.context, &token).await.unwrap();
    part.discard(&bench.context, &bench.context.run).await.unwrap();
    bench.cluster.sql("postgres", "alter role few connection limit 1");
    part.stage(&bench.context, &recorded).await.unwrap_err();
    bench.cluster.sql("postgres", "alter role few connection limit 6");
    part.abandon(&bench.context, &bench.context.run, None).await.unwrap();
    assert_eq!(databases(&bench), ["shop"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_for_which_the_disk_is_too_small_is_refused_before_it_is_begun() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.create("shop");
    let part = bench.part("postgres", &["shop"]);
    let mut recorded = bench.capture_to_restore(&part).await;
    assert_eq!(part.plan(&bench.context, &recorded).await.unwrap().refusals, Vec::<String>::new());
    recorded.facts["databases"][0]["bytes"] = (1_u64 << 60).into();
    let refusals = part.plan(&bench.context, &recorded).await.unwrap().refusals;
    // Whoever may not look into the server's folder cannot know.
    if std::fs::read(bench.cluster.data().join("postmaster.pid")).is_ok() {
        assert!(refusals.iter().any(|why| why.contains("MB free")), "{refusals:?}");
        let refused = part.stage(&bench.context, &recorded).await.unwrap_err();
        assert_eq!(refused.kind, backstay_part::ErrorKind::Refused);
    }
    assert_eq!(databases(&bench), ["shop"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_may_have_no_copy_is_refused_before_one_is_begun() {
    let Some(bin) = majors().into_iter().next() else { return drop(Bench::start().await) };
    let control = "default_version = '1.0'\nrelocatable = false\nschema = cron\n";
    // As pg_cron does it.
    let script = "do $$ begin
        if current_database() <> 'shop' then raise 'can only create extension in database shop'; end if; end $$;
        create table job (id int);";
    let bench = Bench::on(PrivateCluster::with_extension(&bin, "pg_cron", control, script)).await;
    bench.cluster.create("shop");
    bench.cluster.sql("shop", "create extension pg_cron");
    let part = bench.part("postgres", &["shop"]);
    let recorded = bench.capture_to_restore(&part).await;
    let says = |text: &str| text.contains("cron.schedule_in_database");
    let findings = part.preflight(&bench.context).await.unwrap();
    assert!(findings.iter().any(|finding| says(&finding.text)), "{findings:?}");
    let refusals = part.plan(&bench.context, &recorded).await.unwrap().refusals;
    assert!(refusals.iter().any(|why| says(why)), "{refusals:?}");
    let refused = part.stage(&bench.context, &recorded).await.unwrap_err();
    assert_eq!(refused.kind, backstay_part::ErrorKind::Refused);
    assert_eq!(databases(&bench), ["shop"]);
}
