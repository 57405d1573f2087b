//! Customers go on ordering while a release is taken back: what was confirmed to one of them is live, or kept and
//! counted in what was lost. Nothing vanishes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use backstay_testkit::{PrivateCluster, wait_until};
use serde_json::Value;

use crate::ground::Ground;
use crate::killed_at_random::is_whole;

const CUSTOMERS: usize = 3;
const CONFIRMED_BEFORE: usize = 10;
/// Customers think, and leave the machine to others meanwhile.
const BETWEEN_ORDERS: Duration = Duration::from_millis(20);

/// Notes of the orders that the database holds.
fn orders(cluster: &PrivateCluster, database: &str) -> BTreeSet<String> {
    let listed = cluster.sql(database, "select note from store.orders where note like 'of customer %'");
    listed.lines().map(str::to_owned).collect()
}

/// How many orders a run counted as lost from what is live.
fn orders_lost(result: &Value) -> usize {
    let lost = result["loss"]["tables"].as_array().expect("the tables that lost rows");
    let orders = lost.iter().find(|table| table["table"] == "store.orders").expect("orders were lost");
    assert_eq!(result["loss"]["exact"], true);
    // Under a key that a new order has taken meanwhile, a lost one counts as changed.
    let counted = ["inserted", "updated"].map(|what| orders[what].as_u64().expect("a count")).iter().sum::<u64>();
    usize::try_from(counted).expect("a count")
}

#[test]
fn every_order_that_was_confirmed_while_a_release_was_taken_back_is_live_or_counted_as_lost() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let cluster = Arc::new(cluster);
    let ground = Ground::new(&cluster, "shop");
    let id = ground.snapshot();
    let stop = Arc::new(AtomicBool::new(false));
    let confirmed = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let customers: Vec<_> = (0..CUSTOMERS)
        .map(|customer| {
            let (cluster, stop, confirmed) = (Arc::clone(&cluster), Arc::clone(&stop), Arc::clone(&confirmed));
            thread::spawn(move || {
                for number in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let note = format!("of customer {customer}: {number}");
                    let order = format!("insert into store.orders (customer_id, note) values (1, '{note}')");
                    thread::sleep(BETWEEN_ORDERS);
                    // What fails was not confirmed; the next one tries again.
                    if cluster.sql_as("postgres", "shop", &order).is_ok() {
                        confirmed.lock().expect("nobody panics with it").insert(note);
                    }
                }
            })
        })
        .collect();
    let count = || confirmed.lock().expect("nobody panics with it").len();
    wait_until("some orders are confirmed", || count() >= CONFIRMED_BEFORE);

    let restored = ground.backstay.run(&["restore", &id, "--only", "database", "--yes", "--json"]).ended(0).json();
    let then = count();
    wait_until("more orders are confirmed by what is live now", || count() >= then + CONFIRMED_BEFORE);
    stop.store(true, Ordering::SeqCst);
    for customer in customers {
        customer.join().expect("a customer");
    }
    let confirmed = confirmed.lock().expect("nobody panics with it").clone();
    let beside = ground.beside();
    let [kept] = beside.as_slice() else { panic!("one database is kept: {beside:?}") };
    let (live, kept) = (orders(&cluster, "shop"), orders(&cluster, kept));
    let vanished: Vec<_> = confirmed.iter().filter(|note| !live.contains(*note) && !kept.contains(*note)).collect();
    assert!(vanished.is_empty(), "confirmed and gone: {vanished:?}");
    assert!(kept.len() >= CONFIRMED_BEFORE && !live.is_empty(), "{} kept, {} live", kept.len(), live.len());

    assert_eq!(orders_lost(&restored), kept.len(), "{restored}");

    // What was lost is not gone: undo brings it back, and keeps what came after the restore in turn.
    let undone = ground.backstay.run(&["undo", "--yes", "--json"]).ended(0).json();
    assert_eq!(orders_lost(&undone), live.len(), "{undone}");
    assert_eq!(orders(&cluster, "shop"), kept);
    let beside = ground.beside();
    let [kept] = beside.as_slice() else { panic!("one database is kept: {beside:?}") };
    assert_eq!(orders(&cluster, kept), live);
    is_whole(&ground, &[&ground.state()], "an undo of a restore under load");
}
