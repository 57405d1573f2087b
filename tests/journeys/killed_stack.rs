//! A restore of the whole stack, killed at a moment that chance chose: database, images and files are old or new
//! together once it is recovered.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::killed_at_random::{Chance, is_full};
use crate::shop_stack::Shop;

const FEW: u32 = 1;
const MANY: u32 = 8;

#[test]
fn a_restore_of_the_stack_killed_at_any_moment_is_ended_in_old_or_in_new() {
    let Some(shop) = Shop::start("a restore of the stack that is killed") else { return };
    let mut chance = Chance::seeded();
    let good = shop.state();
    let id = shop.snapshot();
    let restore = ["restore", &id, "--yes"];
    let bad_release = || {
        shop.runs_script(&shop.deploys("1.1", "", ""));
        shop.sql("update store.customers set name = 'of the bad release'");
        shop.state()
    };
    let _ = bad_release();
    let began = Instant::now();
    let _ = shop.backstay.run(&restore).ended(0);
    let takes = u64::try_from(began.elapsed().as_millis()).expect("less than an age");
    assert_eq!(shop.state(), good);

    let (mut old, mut new) = (0, 0);
    for round in 0..if is_full() { MANY } else { FEW } {
        let _ = shop.backstay.run(&["settle", "--discard", "--yes"]).ended(0);
        let bad = bad_release();
        let delay = Duration::from_millis(chance.below(takes));
        let mut run = shop.backstay.command(&restore);
        let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a run");
        thread::sleep(delay);
        let _ = run.kill();
        let _ = run.wait().expect("the run is ours");
        let ended = shop.backstay.run(&["recover"]).ended(0);
        let (state, what) = (shop.state(), format!("round {round}, killed after {delay:?}: {}", ended.stdout));
        assert!(state == good || state == bad, "{what}\n{state:#?}");
        assert!(shop.is_healthy(), "{what}");
        let unnamed: Vec<_> = shop.beside().into_iter().filter(|name| name.contains("__staged_")).collect();
        assert!(unnamed.iter().all(|name| ended.stderr.contains(name)), "{what}: {unnamed:?}\n{}", ended.stderr);
        if state == good {
            new += 1;
        } else {
            old += 1;
        }
        let again = shop.backstay.run(&["recover", "--json"]).ended(0).json();
        assert!(again["run"].is_null(), "{what}: there is more to recover: {again}");
    }
    println!("{old} ended in old, {new} in new");
}
