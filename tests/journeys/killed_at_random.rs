//! The real command, killed at moments that nobody chose: what is live is wholly old or wholly new, and what
//! else is on the server is what the runs account for.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use backstay_testkit::PrivateCluster;

use crate::ground::Ground;

const FEW: u32 = 4;
const MANY: u32 = 300;
/// Rounds after which what is kept is let go, so that names and marks begin anew.
const ROUNDS_BETWEEN_SETTLES: u32 = 2;

/// Numbers that a seed gives again.
pub struct Chance(u64);

impl Chance {
    /// Of `BACKSTAY_TEST_SEED`; without it always the same.
    pub fn seeded() -> Self {
        let given = std::env::var("BACKSTAY_TEST_SEED").ok();
        Self(given.map_or(1, |seed| seed.parse().expect("BACKSTAY_TEST_SEED is a number")))
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }
}

pub fn is_full() -> bool {
    std::env::var_os("BACKSTAY_TEST_FULL").is_some()
}

/// Every database of the server but its own.
fn databases(ground: &Ground<'_>) -> BTreeSet<String> {
    let sql = "select datname from pg_database where datname !~ '^(postgres|template.)$'";
    ground.cluster.sql("postgres", sql).lines().map(str::to_owned).collect()
}

/// What should be there, by what `backstay` says of itself: the live database, and a copy for each run that
/// keeps or left one.
fn accounted_for(ground: &Ground<'_>) -> BTreeSet<String> {
    let status = ground.backstay.run(&["--json"]).ended(0).json();
    assert_eq!(status["unfinished"], serde_json::json!([]), "{status}");
    let kept = status["kept"].as_array().expect("a list of what is kept");
    let of_the_database = |kept: &&serde_json::Value| {
        kept["parts"].as_array().expect("parts").iter().any(|part| part.as_str() == Some("database"))
    };
    let name = |kept: &serde_json::Value| {
        let place = if kept["only_copy"] == true { "staged" } else { "before" };
        format!("{}__{place}_{}", ground.database, kept["run"].as_str().expect("a run"))
    };
    kept.iter().filter(of_the_database).map(name).chain([ground.database.clone()]).collect()
}

/// What must be so once `recover` has ended: nothing half, nothing that nobody knows of.
#[track_caller]
pub fn is_whole(ground: &Ground<'_>, states: &[&str], what: &str) -> String {
    let ended = ground.backstay.run(&["recover"]).ended(0);
    let said = format!("{what}\n{}\n{}", ended.stdout, ended.stderr);
    let state = ground.state();
    assert!(states.contains(&state.as_str()), "neither old nor new: {said}\n{state}");
    assert_eq!(databases(ground), accounted_for(ground), "{said}");
    let closed = format!(
        "select datallowconn, datconnlimit, pg_get_userbyid(datdba) from pg_database where datname = '{}'",
        ground.database
    );
    assert_eq!(ground.cluster.sql("postgres", &closed), "t|-1|postgres", "{said}");
    let again = ground.backstay.run(&["recover", "--json"]).ended(0).json();
    assert!(again["run"].is_null(), "there is more to recover: {again}\n{said}");
    state
}

/// Lets go of everything and sees that everything is gone.
#[track_caller]
pub fn settles(ground: &Ground<'_>, states: &[&str]) {
    let _ = ground.backstay.run(&["settle", "--discard", "--yes"]).ended(0);
    assert_eq!(databases(ground), BTreeSet::from([ground.database.clone()]));
    assert!(states.contains(&ground.state().as_str()), "settle touched what is live");
}

/// Runs a command for so long, then kills it. Whether it ended before.
fn killed_after(ground: &Ground<'_>, arguments: &[&str], delay: Duration) -> bool {
    let mut run =
        ground.backstay.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a run");
    thread::sleep(delay);
    let ended = run.try_wait().expect("the run is ours").is_some();
    let _ = run.kill();
    let _ = run.wait().expect("the run is ours");
    ended
}

#[test]
fn a_restore_killed_at_any_moment_leaves_old_or_new_and_nothing_that_is_not_accounted_for() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    let mut chance = Chance::seeded();
    let good = ground.state();
    let id = ground.snapshot();
    ground.bad_release();
    let bad = ground.state();
    let states = [good.as_str(), bad.as_str()];
    let (restore, undo) = (["restore", id.as_str(), "--yes"], ["undo", "--yes"]);
    // How long each takes when nobody disturbs it: every moment of it is as likely.
    let mut takes = [Duration::ZERO; 2];
    for (arguments, takes) in [&restore[..], &undo[..]].iter().zip(&mut takes) {
        let began = Instant::now();
        let _ = ground.backstay.run(arguments).ended(0);
        *takes = began.elapsed();
    }
    settles(&ground, &states);
    let (mut in_time, mut state) = (0, bad.clone());
    let rounds = if is_full() { MANY } else { FEW };
    for round in 1..=rounds {
        let can_undo = databases(&ground).iter().any(|name| name.contains("__before_"));
        let (arguments, takes) =
            if state == good && can_undo { (&undo[..], takes[1]) } else { (&restore[..], takes[0]) };
        if state == good && !can_undo {
            ground.bad_release();
        }
        let delay = Duration::from_micros(chance.below(u64::try_from(takes.as_micros()).unwrap_or(u64::MAX)));
        in_time += u32::from(!killed_after(&ground, arguments, delay));
        state = is_whole(&ground, &states, &format!("round {round}: {arguments:?} killed after {delay:?}"));
        if round % ROUNDS_BETWEEN_SETTLES == 0 {
            settles(&ground, &states);
        }
    }
    println!("{in_time} of {rounds} runs were killed before they ended");
    settles(&ground, &states);
    let _ = ground.backstay.run(&["check"]).ended(0);
}
