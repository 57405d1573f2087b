//! Long work is heard of: every ten seconds where nobody watches, and never where silence was asked for.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use backstay_testkit::{Backstay, PrivateCluster, wait_until};

use crate::ground::Ground;
use crate::killed_at_random::is_full;

/// A `pg_dump` that takes as long as the test wants, and says when it has begun.
fn slow_programs(ground: &Ground<'_>) -> Backstay {
    for program in ["pg_dump", "pg_restore", "psql"] {
        let real = ground.cluster.bin().join(program);
        let waits = format!(
            "case \"$*\" in *--schema-only*) touch {0}/began; until [ -e {0}/go ]; do sleep 0.2; done;; esac",
            ground.path("").display()
        );
        let body = if program == "pg_dump" { waits.as_str() } else { "" };
        ground.script(&format!("programs/{program}"), &format!("{body}\nexec {} \"$@\"", real.display()));
    }
    Backstay::in_folder(&ground.path("."))
        .with("BACKSTAY_STATE", ground.backstay.state())
        .with("BACKSTAY_PG_BIN_DIRS", ground.path("programs"))
}

fn started(ground: &Ground<'_>, arguments: &[&str], said: &Path) -> Child {
    let mut run = slow_programs(ground).command(arguments);
    let run = run.stdout(Stdio::null()).stderr(fs::File::create(said).expect("a file for what is said")).spawn();
    wait_until("the dump has begun", || ground.path("began").exists());
    run.expect("a run")
}

#[test]
fn a_long_step_is_heard_of_every_ten_seconds_and_not_with_quiet() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let (heard, quiet) = (Ground::new(&cluster, "heard"), Ground::new(&cluster, "quiet"));
    let (said, nothing) = (heard.path("said"), quiet.path("said"));
    let mut silent = started(&quiet, &["snapshot", "--quiet"], &nothing);
    let mut run = started(&heard, &["snapshot"], &said);
    let beats = || {
        let text = fs::read_to_string(&said).expect("what was said is read");
        text.lines().filter(|line| line.starts_with("… ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let times = if is_full() { 3 } else { 1 };
    wait_until("it is heard of", || beats().len() >= times);
    // Each says for how long it goes on, so none is like the other.
    let beats = beats();
    assert!(beats.iter().all(|beat| beat.contains(" s") || beat.contains(" min")), "{beats:?}");
    assert_eq!(beats.iter().collect::<BTreeSet<_>>().len(), beats.len(), "{beats:?}");
    for ground in [&heard, &quiet] {
        ground.write("go", "");
    }
    assert_eq!(run.wait().expect("the run is ours").code(), Some(0));
    assert_eq!(silent.wait().expect("the run is ours").code(), Some(0));
    assert_eq!(fs::read_to_string(&nothing).expect("what was said is read"), "", "--quiet said something");
}
