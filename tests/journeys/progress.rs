//! Long work is heard of: every ten seconds where nobody watches, and never where silence was asked for.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

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

/// What a terminal showed at one moment or another, line by line, without colours. It has the second of these widths
/// from when the schema has been read, which is before the first row.
fn drawn(ground: &Ground<'_>, [at_first, columns]: [usize; 2]) -> Vec<String> {
    let real = ground.cluster.bin().join("pg_dump");
    let resizes = format!("stty -F /dev/tty cols {columns} rows 24\nexec {} \"$@\"", real.display());
    ground.script("resizing/pg_dump", &resizes);
    let run = Backstay::in_folder(&ground.path("."))
        .with("BACKSTAY_STATE", ground.backstay.state())
        .with("BACKSTAY_PG_BIN_DIRS", ground.path("resizing"))
        .command(&["snapshot"]);
    let line = format!("stty cols {at_first} rows 24; exec {} snapshot", run.get_program().display());
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &line, "/dev/null"]).current_dir(ground.path("")).env_clear();
    terminal.envs(run.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
    terminal.env_remove("COLUMNS");
    let output = terminal.stdin(Stdio::null()).output().expect("script gives a terminal");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    let mut plain = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            // A sequence ends with its first letter.
            '\u{1b}' => {
                let _ = letters.by_ref().find(char::is_ascii_alphabetic);
                plain.push('\n');
            }
            '\r' => plain.push('\n'),
            other => plain.push(other),
        }
    }
    // A bar is drawn as wide as the terminal, so that the next one follows on the next line.
    let lines = plain.lines().flat_map(|line| {
        let letters: Vec<char> = line.chars().collect();
        letters.chunks(columns).map(|line| line.iter().collect::<String>()).collect::<Vec<_>>()
    });
    lines.filter(|line| !line.trim().is_empty()).collect()
}

#[test]
fn a_terminal_also_one_that_is_resized_shows_a_bar_for_each_table_and_one_for_all_and_no_line_wraps() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    for table in ["first", "second"] {
        ground.sql(&format!(
            "create table store.{table} as select g, repeat(md5(g::text), 8) from generate_series(1, 40000) g"
        ));
    }
    ground.sql("analyze");
    for widths in [[80, 80], [200, 200], [200, 80], [80, 200]] {
        let lines = drawn(&ground, widths);
        for bar in ["shop store.first", "shop store.second", "all of shop, 80,"] {
            let shown = lines.iter().any(|line| line.contains(bar) && line.contains(" of "));
            assert!(shown, "no bar of `{bar}` at {widths:?} columns:\n{}", lines.join("\n"));
        }
        let whole = |line: &&String| line.starts_with("  shop ") || line.starts_with("  all of shop, 80,");
        let torn = lines.iter().filter(|line| line.contains("iB of ")).find(|line| !whole(line));
        assert_eq!(torn, None, "a line wraps at {widths:?} columns:\n{}", lines.join("\n"));
    }
}
