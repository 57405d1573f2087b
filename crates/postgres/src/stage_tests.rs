use backstay_part::{Part, Standing};

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
    let (captured, _) = bench.capture(&part).await.unwrap();
    let recorded = bench.recorded(&captured).await;
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
    let (captured, _) = bench.capture(&part).await.unwrap();
    let recorded = bench.recorded(&captured).await;
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
