use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use backstay_model::with_causes;
use backstay_testkit::{PrivateCluster, wait_until};

use crate::severing::{Moment, Severing};
use crate::stand::{context, files, fresh, history, read, target_at};
use crate::{Consequence, RunOptions, Target, run};

const FILES: &[(&str, &str)] = &[
    ("1_a.sql", "create table a (i int); insert into a values (1)"),
    ("2_b.sql", "-- no-transaction\ninsert into a values (2); create index concurrently a_i on a (i); vacuum a"),
];

/// Everything the files make, and that each row was written once.
const STATE: &str = "select (select string_agg(version || ' ' || success, ', ' order by version) from _sqlx_migrations),
    (select string_agg(i::text, ', ' order by i) from a), (select indisvalid from pg_index where indexrelid = 'a_i'::regclass)";

const WHOLE: &str = "1 true, 2 true|1, 2|t";

fn options() -> RunOptions {
    RunOptions { retry_for: Duration::from_secs(60), ..RunOptions::default() }
}

fn through(severing: &Severing, database: &str) -> Target {
    target_at(&format!("postgres://postgres@{}/{database}?sslmode=disable", severing.address))
}

fn wipe(cluster: &PrivateCluster) {
    let run = "select count(*) from pg_stat_activity where application_name like 'backstay%' and datname = 'shop'";
    wait_until("the sessions of the run are gone", || cluster.sql("postgres", run) == "0");
    cluster.sql("shop", "set client_min_messages = error; drop schema if exists backstay cascade; drop schema public cascade; create schema public");
}

/// To be cut off elsewhere is to be cut off before the next of these.
const STEPS: &[&str] =
    &["commit", "insert into a", "insert into backstay.statements", "create table a", "create index", "vacuum"];
/// What takes effect by itself, so that it matters whether its answer is heard.
const EFFECTS: &[&str] = &["commit", "create index", "vacuum", "insert into backstay.statements"];

fn is_one_of(text: &str, beginnings: &[&str]) -> bool {
    let text = text.trim_start_matches('\0').trim_start().to_lowercase();
    beginnings.iter().any(|beginning| text.starts_with(beginning))
}

/// One place in so many is cut at where not everything is asked for.
const SAMPLED: u64 = 6;

/// The places to cut at: all of them, or a sample that the same seed gives again.
fn is_chosen(moment: Moment, place: usize) -> bool {
    if std::env::var_os("BACKSTAY_TEST_FULL").is_some() {
        return true;
    }
    let seed = std::env::var("BACKSTAY_TEST_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let offset = if moment == Moment::Before { seed } else { seed + SAMPLED / 2 };
    (place as u64 + offset).is_multiple_of(SAMPLED)
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_run_is_cut_off_the_next_one_ends_it_and_nothing_runs_twice() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let (folder, direct) = (files(FILES), fresh(&cluster, "shop"));
    let (context, _) = context();
    for (moment, places) in [(Moment::Before, STEPS), (Moment::After, EFFECTS)] {
        // How many places there are is counted by a proxy that cuts at none of them.
        let seen = Arc::new(AtomicUsize::new(0));
        let counted = seen.clone();
        let counts = move |_, text: &str| {
            counted.fetch_add(usize::from(is_one_of(text, places)), Ordering::SeqCst);
            false
        };
        let severing = Severing::start(cluster.port(), moment, counts).await;
        wipe(&cluster);
        run(&context, &through(&severing, "shop"), &read(&folder), &options()).await.unwrap();
        assert_eq!(cluster.sql("shop", STATE), WHOLE);
        let all = seen.load(Ordering::SeqCst);
        assert!(all > 5, "only {all} places");
        let chosen: Vec<usize> = (0..all).filter(|place| is_chosen(moment, *place)).collect();
        println!("{moment:?}: cut at {chosen:?} of {all} places");
        for place in chosen {
            wipe(&cluster);
            let seen = AtomicUsize::new(0);
            let there = move |_, text: &str| is_one_of(text, places) && seen.fetch_add(1, Ordering::SeqCst) == place;
            let severing = Severing::start(cluster.port(), moment, there).await;
            let first = run(&context, &through(&severing, "shop"), &read(&folder), &options()).await;
            assert!(severing.has_cut(), "{moment:?} {place} was never come to");
            if let Err(error) = &first
                && error.consequence() == Consequence::Unchanged
            {
                let left = cluster.sql("shop", "select count(*) from pg_class where relname = 'a'");
                assert_eq!(left, "0", "{moment:?} {place}: {}", with_causes(error));
            }
            let second = run(&context, &direct, &read(&folder), &options()).await;
            second.unwrap_or_else(|error| panic!("{moment:?} {place}: {}", with_causes(&error)));
            let state = cluster.sql("shop", STATE);
            assert_eq!(state, WHOLE, "{moment:?} {place}: {:?}", first.map_err(|error| with_causes(&error)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_at_commit_is_resolved_by_asking_the_server() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let folder = files(&[FILES[0], ("2_b.sql", "create table b (i int)")]);
    let (context, _) = context();
    for (moment, database) in [(Moment::Before, "before"), (Moment::After, "after")] {
        fresh(&cluster, database);
        let severing = Severing::start(cluster.port(), moment, |_, text| text == "commit").await;
        let ran = run(&context, &through(&severing, database), &read(&folder), &options()).await;
        assert!(severing.has_cut());
        match moment {
            Moment::Before => {
                assert_eq!(ran.unwrap_err().consequence(), Consequence::Unchanged);
                assert_eq!(cluster.sql(database, "select count(*) from pg_class where relname in ('a', 'b')"), "0");
            }
            Moment::After => {
                assert_eq!(ran.unwrap().applied, ["1_a.sql", "2_b.sql"]);
                assert_eq!(history(&cluster, database).lines().count(), 2);
            }
        }
    }
}
