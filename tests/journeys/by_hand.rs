//! The runbook for the day Backstay itself is broken: restores that were killed, ended with what is written there.

use std::fs;

use backstay_testkit::PrivateCluster;

use crate::cut_short::Wired;
use crate::ground::Ground;
use crate::guides::{Shell, blocks, jq_is_here};
use crate::tidy::root;
use crate::wire::{At, When, signal};

/// The page, with the names of this test instead of its examples'.
struct Runbook {
    run: String,
    shell: Vec<String>,
    sql: String,
}

impl Runbook {
    fn of(ground: &Ground<'_>, run: &str) -> Self {
        let page = fs::read_to_string(root().join("docs/runbooks/by-hand.md")).expect("the runbook is read");
        let scratch = ground.path("scratch");
        fs::create_dir_all(&scratch).expect("a folder beside the project's files");
        let page = page
            .replace(
                "/var/lib/backstay/shop/state/default",
                &ground.backstay.state().join("shop/default").display().to_string(),
            )
            .replace("ROOT=/srv/shop ", &format!("ROOT={} ", ground.path("").display()))
            .replace("20261121_064030_b57b", run)
            .replace("20261121_064103_b131", run)
            .replace("/root/put-aside", &scratch.join("put-aside").display().to_string())
            .replace("/tmp/paths", &scratch.join("paths").display().to_string());
        Self { run: run.to_owned(), shell: blocks(&page, "sh"), sql: blocks(&page, "sql").concat() }
    }

    /// The first block that holds these words, after those that say where everything is.
    fn block(&self, words: &str) -> String {
        let found = self.shell.iter().find(|block| block.contains(words));
        let found = found.unwrap_or_else(|| panic!("the runbook has no block with `{words}`"));
        format!("{}RUN={}\n{found}", self.shell[0], self.run)
    }
}

/// Kills a restore at a statement and says which run it was.
fn killed_at(wired: &Wired<'_>, text: &'static str) -> String {
    wired.wire.lay(At::Text(text), When::After, |process| signal(process, "KILL"));
    let ran = wired.run(&wired.restore());
    assert_eq!(ran.code, None, "{text}: it was not killed\n{}", ran.stderr);
    last_run(&wired.ground)
}

fn last_run(ground: &Ground<'_>) -> String {
    let status = ground.backstay.run(&["--json"]).ended(0).json();
    status["unfinished"][0]["run"].as_str().unwrap_or_else(|| panic!("no run is unfinished: {status}")).to_owned()
}

#[test]
fn what_a_killed_restore_leaves_is_ended_without_backstay_as_the_runbook_is_typed() {
    if !jq_is_here() {
        return;
    }
    let Some(cluster) = PrivateCluster::start() else { return };
    let wired = Wired::new(&cluster, "shop");
    let ground = &wired.ground;
    let shell = Shell::new(ground);

    let run = killed_at(&wired, "create database");
    let book = Runbook::of(ground, &run);
    assert!(shell.ends(&book.block("pg_database_size"), 0).contains("__staged_"));
    shell.ends(&book.block("drop database"), 0);
    assert!(ground.beside().is_empty(), "{:?}", ground.beside());
    assert!(ground.backstay.run(&["recover"]).ended(0).stdout.contains("had changed nothing"));
    assert_eq!(ground.state(), wired.bad);

    // The database is switched and the files are not: taken back, then finished.
    let run = killed_at(&wired, "do ");
    let book = Runbook::of(ground, &run);
    let seen = shell.ends(&book.block("pg_database_size"), 0);
    assert!(seen.contains("kept") && !seen.contains("activate files"), "{seen}");
    takes_back(&wired, &shell, &book);
    assert!(ground.backstay.run(&["recover"]).ended(0).stdout.contains("was taken back"));
    assert_eq!(ground.state(), wired.bad);
    ground.cluster.sql("postgres", "drop database shop__aside");
    let _ = ground.backstay.run(&["settle", "--discard", "--yes"]);

    let run = killed_at(&wired, "do ");
    let book = Runbook::of(ground, &run);
    let (files, out_of_its_hands) = (book.block("wanted.there?"), book.block("comment on database shop is null"));
    shell.ends(&format!("{files}{out_of_its_hands}"), 0);
    assert_eq!(ground.state(), wired.good);
    let _ = ground.backstay.run(&["recover"]).ended(0);
    assert_eq!(ground.state(), wired.good, "what was finished by hand stays");
    ground.cluster.sql("postgres", "drop database shop__aside");

    // Database and files are switched, and nobody has looked yet.
    ground.bad_release();
    assert_eq!(ground.state(), wired.bad);
    let hook = ground.script("hook", "kill -9 $PPID");
    ground.configure(&format!("[hooks]\nafter_start = [\"{hook}\"]"));
    wired.wire.only_count();
    assert_eq!(wired.run(&wired.restore()).code, None);
    assert_eq!(ground.state(), wired.good);
    let book = Runbook::of(ground, &last_run(ground));
    takes_back(&wired, &shell, &book);
    shell.ends(&book.block("kept.json\" | while"), 0);
    assert_eq!(ground.state(), wired.bad);
    ground.write("hook", "#!/bin/sh\n");
    let _ = ground.backstay.run(&["recover"]).ended(0);
    assert_eq!(ground.state(), wired.bad);
}

fn takes_back(wired: &Wired<'_>, shell: &Shell<'_>, book: &Runbook) {
    wired.ground.write("back.sql", &book.sql);
    shell.ends(&book.block("-f back.sql"), 0);
    assert_eq!(wired.ground.beside(), ["shop__aside"]);
}
