use backstay_model::RunId;
use backstay_part::{Part, Standing};

use super::*;
use crate::bench::Bench;

const SHOP: &str = "create table orders (id int primary key, what text);
    insert into orders select n, 'order ' || n from generate_series(1, 50) n";

/// The same run's surroundings in the name of another.
fn later(bench: &Bench, salt: u16) -> Context {
    Context { run: RunId::new(chrono::Utc::now(), salt), ..bench.context.clone() }
}

fn oid(bench: &Bench, database: &str) -> String {
    bench.cluster.sql("postgres", &format!("select oid from pg_database where datname = {}", crate::literal(database)))
}

fn beside(bench: &Bench) -> Vec<String> {
    let sql = "select datname from pg_database where datname like '%\\_\\_%' order by 1";
    bench.cluster.sql("postgres", sql).lines().map(str::to_owned).collect()
}

async fn kept_warm(bench: &Bench, part: &ServerPart, context: &Context) -> Recorded {
    let recorded = bench.capture_to_restore(part).await;
    let token = part.stage(context, &recorded).await.unwrap();
    assert!(part.prove(context, &recorded, &token).await.unwrap().holds());
    part.keep_warm(context, &recorded, &token).await.unwrap();
    recorded
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_copy_goes_live_as_it_is_and_waits_again_where_it_did_not() {
    let Some(bench) = Bench::start().await else { return };
    for name in ["shop", "An \"odd\" name"] {
        bench.cluster.create(name);
        bench.cluster.sql(name, SHOP);
    }
    let part = bench.part("postgres", &["shop", "An \"odd\" name"]);
    let recorded = kept_warm(&bench, &part, &bench.context).await;
    // The end of the run that made it, however often.
    for _ in 0..2 {
        part.abandon(&bench.context, &bench.context.run, None).await.unwrap();
        assert_eq!(part.left(&bench.context, &bench.context.run).await.unwrap(), Vec::<String>::new());
    }
    let copies = part.warm(&bench.context).await.unwrap();
    assert_eq!(copies.len(), 2);
    assert!(copies.iter().all(|copy| !copy.open && copy.bytes > Some(1 << 20)), "{copies:?}");
    let oids: Vec<_> = beside(&bench).iter().map(|name| oid(&bench, name)).collect();

    let restore = later(&bench, 1);
    let plan = part.plan(&restore, &recorded).await.unwrap();
    assert_eq!(plan.bytes_needed, Some(0));
    assert!(plan.steps.iter().all(|step| step.contains("warm")), "{:?}", plan.steps);
    let first = part.take_warm(&restore, &recorded).await.unwrap().unwrap();
    assert_eq!(part.take_warm(&restore, &recorded).await.unwrap(), Some(first), "a phase may be repeated");
    assert_eq!(part.cool(&restore, &[]).await.unwrap(), Vec::<String>::new(), "not under a run's hands");
    part.abandon(&restore, &restore.run, None).await.unwrap();
    assert_eq!(part.warm(&bench.context).await.unwrap().len(), 2, "what was not switched waits for the next");

    bench.cluster.sql("shop", "delete from orders");
    let again = later(&bench, 2);
    let token = part.take_warm(&again, &recorded).await.unwrap().unwrap();
    assert!(part.prove(&again, &recorded, &token).await.unwrap().holds());
    part.activate(&again, &token).await.unwrap();
    assert_eq!(part.standing(&again, &token).await.unwrap(), Standing::Switched);
    assert_eq!(bench.cluster.sql("shop", "select count(*) from orders"), "50");
    let mut live = vec![oid(&bench, "shop"), oid(&bench, "An \"odd\" name")];
    live.sort();
    let mut oids = oids;
    oids.sort();
    assert_eq!(live, oids, "nothing was loaded");
    assert_eq!(part.warm(&bench.context).await.unwrap(), []);

    // Live for a while: whoever writes then must not find it warm afterwards.
    bench.cluster.sql("shop", "insert into orders values (1000, 'meanwhile')");
    part.revert(&again, &token).await.unwrap();
    part.abandon(&again, &again.run, Some(&token)).await.unwrap();
    assert_eq!(part.warm(&bench.context).await.unwrap(), []);
    assert_eq!(part.left(&again, &again.run).await.unwrap().len(), 1, "{:?}", beside(&bench));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_copy_that_somebody_opened_is_proven_again_and_one_that_was_changed_is_not_used() {
    let Some(bench) = Bench::start().await else { return };
    bench.cluster.create("shop");
    bench.cluster.sql("shop", SHOP);
    let part = bench.part("postgres", &["shop"]);
    let recorded = kept_warm(&bench, &part, &bench.context).await;
    let open = |yes: bool| {
        let name = crate::identifier(&beside(&bench)[0]);
        bench.cluster.sql("postgres", &format!("alter database {name} allow_connections {yes}"));
        beside(&bench).remove(0)
    };

    let name = open(true);
    assert!(part.warm(&bench.context).await.unwrap()[0].open);
    bench.cluster.sql(&name, "select * from orders");
    let taken = later(&bench, 1);
    assert!(part.take_warm(&taken, &recorded).await.unwrap().is_some(), "nothing was changed in it");
    part.abandon(&taken, &taken.run, None).await.unwrap();
    assert_eq!(part.warm(&bench.context).await.unwrap().len(), 1, "it is proven again, and closed");

    let name = open(true);
    bench.cluster.sql(&name, "update orders set what = 'forged' where id = 7");
    open(false);
    let taken = later(&bench, 2);
    assert!(part.take_warm(&taken, &recorded).await.unwrap().is_none());
    assert_eq!(beside(&bench), Vec::<String>::new(), "and it is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_capture_keeps_its_warm_copy_and_others_go() {
    let Some(bench) = Bench::start().await else { return };
    for name in ["shop", "other"] {
        bench.cluster.create(name);
        bench.cluster.sql(name, SHOP);
    }
    let (part, other) = (bench.part("postgres", &["shop"]), bench.part("postgres", &["other"]));
    let first = kept_warm(&bench, &part, &later(&bench, 1)).await;
    let elsewhere = kept_warm(&bench, &other, &later(&bench, 2)).await;
    bench.cluster.sql("shop", "delete from orders where id = 1");
    let second = kept_warm(&bench, &part, &later(&bench, 3)).await;
    assert_eq!(beside(&bench).len(), 2, "{:?}", beside(&bench));
    let restore = later(&bench, 4);
    assert_eq!(part.take_warm(&restore, &first).await.unwrap(), None);

    assert_eq!(part.cool(&restore, &[second.facts_digest()]).await.unwrap(), Vec::<String>::new());
    assert_eq!(part.cool(&restore, &[elsewhere.facts_digest()]).await.unwrap().len(), 1);
    assert_eq!(other.warm(&restore).await.unwrap().len(), 1, "another project's is not ours to drop");
}
