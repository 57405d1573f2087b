//! The page on troubleshooting, row by row: a person sees the words that stand there, does what stands beside them,
//! and goes on.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use backstay_testkit::{Backstay, PrivateCluster, Ran, wait_until};
use tempfile::TempDir;

use crate::cut_short::Wired;
use crate::exit_codes::beside_a_deploy;
use crate::ground::Ground;
use crate::guides::page;
use crate::wire::{At, When, signal};

/// The rows of one chapter whose words a run here has said.
struct Chapter {
    symptoms: Vec<String>,
    seen: BTreeSet<String>,
}

impl Chapter {
    fn of(title: &str) -> Self {
        let page = page("troubleshooting.md");
        let chapter = page.split("\n## ").find_map(|chapter| chapter.strip_prefix(title)).expect("a chapter");
        let rows = chapter.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        let symptoms: Vec<_> = rows.filter(|cell| !["it says", "you see"].contains(cell)).map(str::to_owned).collect();
        assert!(!symptoms.is_empty(), "`{title}` has no table");
        Self { symptoms, seen: BTreeSet::new() }
    }

    /// A run said what the row with these words quotes, and ended with the exit code that it names.
    #[track_caller]
    fn shows(&mut self, words: &str, ran: &Ran) {
        let row = self.symptoms.iter().find(|symptom| symptom.contains(words));
        let row = row.unwrap_or_else(|| panic!("no row has `{words}`: {:#?}", self.symptoms));
        let said = format!("{}{}", ran.stdout, ran.stderr);
        let quotes = quotes(row);
        let quote =
            quotes.iter().find(|quote| quote.contains(words)).unwrap_or_else(|| panic!("`{row}` quotes no such"));
        let mut rest = said.as_str();
        for part in quote.split('…') {
            let at =
                rest.find(part.trim()).unwrap_or_else(|| panic!("the page promises `{quote}`, and it said\n{said}"));
            rest = &rest[at + part.trim().len()..];
        }
        // The code stands right behind the words that go with it.
        let after = row.split(quote.as_str()).nth(1).unwrap_or_default().trim_start_matches(['`', ' ']);
        let code = after.strip_prefix('(').and_then(|code| code.split(')').next()?.parse().ok());
        assert!(code.is_none() || ran.code == code, "`{row}`: it ended with {:?}\n{said}", ran.code);
        self.seen.insert(row.clone());
    }

    /// Every row was seen here, or is one of those that other tests bring about.
    #[track_caller]
    fn is_told(&self, elsewhere: &[&str]) {
        let unseen: Vec<_> = self.symptoms.iter().filter(|symptom| !self.seen.contains(*symptom)).collect();
        assert_eq!(unseen, elsewhere);
    }
}

/// What stands between backticks, one or two of them.
fn quotes(cell: &str) -> Vec<String> {
    let double: Vec<_> = cell.split("``").collect();
    let mut quotes: Vec<String> = double.iter().skip(1).step_by(2).map(|quote| quote.trim().to_owned()).collect();
    quotes.extend(double.iter().step_by(2).flat_map(|text| text.split('`').skip(1).step_by(2)).map(str::to_owned));
    quotes
}

fn text_of(file: &Path) -> String {
    fs::read_to_string(file).expect("a file of text")
}

#[test]
fn configuration() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::bare(&cluster, "shop");
    let mut chapter = Chapter::of("Configuration");
    let snapshot = || ground.backstay.run(&["snapshot"]);
    chapter.shows("there is no backstay.toml", &snapshot());
    let _ = ground.backstay.run(&["init", "--project", "shop"]).ended(0);
    let right = text_of(&ground.path("backstay.toml"));

    let mut lines: Vec<_> = right.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    lines.retain(|line| *line != "[retention]");
    lines.insert(6, "[retenton]\nkeep_last = 5");
    ground.write("backstay.toml", &lines.join("\n"));
    chapter.shows("retenton", &snapshot());

    ground.write("backstay.toml", &format!("{right}\n[environment.production]\n[environment.staging]\n"));
    chapter.shows("no environment was chosen", &snapshot());
    let _ = ground.backstay.run(&["snapshot", "--env", "production"]).ended(0);
    let chosen = Backstay::in_folder(&ground.path(".")).with("BACKSTAY_STATE", ground.backstay.state());
    let _ = chosen.with("BACKSTAY_ENV", "staging").run(&["snapshot"]).ended(0);

    let reference = "file:.env#DATABASE_URL";
    ground.write("backstay.toml", &right.replace(reference, "postgres://shop:geheim@127.0.0.1/shop"));
    let said = snapshot();
    chapter.shows("holds a password", &said);
    assert!(!format!("{}{}", said.stdout, said.stderr).contains("geheim"), "{}", said.stderr);
    ground.write("backstay.toml", &right.replace(reference, "env:SHOP_URL"));
    chapter.shows("SHOP_URL", &snapshot());
    ground.write("backstay.toml", &right);
    let _ = snapshot().ended(0);
    fs::rename(ground.path(".env"), ground.path(".env.away")).expect(".env goes");
    chapter.shows("which cannot be read", &snapshot());
    chapter.is_told(&[]);
}

#[test]
fn repository_and_keys() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let (ground, other) = (Ground::new(&cluster, "shop"), Ground::new(&cluster, "other"));
    let mut chapter = Chapter::of("Repository and keys");
    let good = ground.snapshot();
    let list = || ground.backstay.run(&["list"]);

    let right = text_of(&ground.path("backstay.toml"));
    ground.reconfigure("url = \"/", "url = \"/nowhere\"");
    chapter.shows("there is no repository in", &list());
    ground.write("backstay.toml", &right);

    let key = ground.repository().with_file_name("key");
    let (ours, theirs) = (fs::read(&key).expect("the key"), other.repository().with_file_name("key"));
    fs::copy(&theirs, &key).expect("another project's key");
    chapter.shows("the key does not open", &list());
    fs::write(&key, &ours).expect("the right key again");
    let carried = ground.path("carried.key");
    let _ = ground.backstay.run(&["key", "add", "--file", &carried.display().to_string()]).ended(0);
    fs::copy(&carried, &key).expect("what was carried here");
    let _ = list().ended(0);

    let (first, copy) = (ground.repository().join("backstay.json"), ground.repository().join("backstay.json.copy"));
    let kept = fs::read(&first).expect("the description");
    fs::remove_file(&first).expect("it is gone");
    chapter.shows("is missing", &ground.backstay.run(&["check"]));
    let _ = list().ended(0);
    ground.snapshot();
    let _ = ground.backstay.run(&["check"]).ended(0);
    fs::write(&first, "{").expect("it is damaged");
    fs::copy(&copy, &first).expect("as the page says");
    let _ = ground.backstay.run(&["check"]).ended(0);
    for file in [&first, &copy] {
        fs::write(file, "{").expect("both are damaged");
    }
    assert_eq!(list().code, Some(20), "{}", list().stderr);
    fs::write(&first, kept).expect("one from another copy");
    assert!(ground.snapshots().contains(&good));

    ground.reconfigure("[repository]", "[repository]\nlease_wait = \"1s\"");
    let _ = beside_a_deploy(&ground, &["restore", "latest", "--yes"]).ended(22);
    let _ = ground.backstay.run(&["restore", "latest", "--yes"]).ended(0);
    chapter.is_told(&[
        "the same from every command (20)",
        "somebody else is at work (22)",
        // What S3 says is in tests of crates/s3.
        "S3 errors",
    ]);
}

#[test]
fn database() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    let mut chapter = Chapter::of("Database");
    let run = |arguments: &[&str]| ground.backstay.run(arguments);
    let connects = |url: &str| ground.write(".env", &format!("DATABASE_URL={url}\n"));
    let id = ground.snapshot();

    connects("postgres://postgres@127.0.0.1:1/shop");
    chapter.shows("Connection refused", &run(&["snapshot"]));
    connects(&cluster.url("nodb"));
    chapter.shows("nodb", &run(&["snapshot"]));
    let _ = run(&["restore", &id, "--only", "database", "--yes"]).ended(0);
    assert_eq!(cluster.sql("nodb", "select count(*) from store.orders"), "200");

    cluster.sql("postgres", "create role shop login createdb; create role accounts; alter database shop owner to shop");
    ground.sql(
        "create table secret_t (a int); create table books (a int); alter table books owner to accounts;
        grant usage on schema store to shop; grant select on all tables in schema store to shop;
        grant select on books to shop",
    );
    connects(&cluster.url_as("shop", "shop"));
    chapter.shows("cannot be read whole", &run(&["snapshot"]));
    ground.sql("grant pg_read_all_data to shop");
    let _ = run(&["snapshot"]).ended(0);
    ground.sql("alter table secret_t enable row level security");
    chapter.shows("cannot be read whole", &run(&["snapshot"]));
    ground.sql("alter role shop bypassrls");
    let _ = run(&["snapshot"]).ended(0);

    let doctor = run(&["doctor"]);
    chapter.shows("sessions of other roles", &doctor);
    chapter.shows("has objects of", &doctor);
    ground.sql("grant pg_signal_backend, accounts, postgres to shop");
    let doctor = run(&["doctor"]);
    let said = format!("{}{}", doctor.stdout, doctor.stderr);
    assert!(!said.contains("sessions of other roles") && !said.contains("has objects of"), "{said}");
    chapter.is_told(&[
        // Tests of crates/postgres: it takes thousands of tables, or another client.
        "`the server has not locks enough to hold the … tables`",
        "a `pg_dump` that is missing or older than the server",
        // tests/journeys/stack_database.rs
        "`no bash within it reaches its port` (3)",
    ]);
}

#[test]
fn snapshots() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    let mut chapter = Chapter::of("Snapshots");
    let run = |arguments: &[&str]| ground.backstay.run(arguments);
    let _ = run(&["snapshot"]).ended(0);
    chapter.shows("last proof: there is none", &run(&["doctor"]));
    let _ = run(&["prove"]).ended(0);
    let _ = run(&["doctor"]).ended(0);

    let id = ground.snapshots()[0].clone();
    let state = ground.state();
    ground.damage_objects();
    chapter.shows("does not have the digest", &run(&["restore", &id, "--yes"]));
    assert_eq!(ground.state(), state, "something was touched");
    let check = run(&["check"]);
    let damaged = check.stderr.lines().find_map(|line| line.strip_prefix("error: ")?.split_once(' '));
    assert_eq!(damaged.map(|(_, rest)| rest), Some("stored things are damaged"), "{}", check.stderr);
    chapter.shows("DAMAGED", &run(&["list"]));
    let _ = run(&["snapshot", "--prove"]).ended(0);
    let check = run(&["check"]).ended(20);
    let newest = ground.snapshots()[0].clone();
    assert!(check.stderr.contains(&id) && !check.stderr.contains(&newest), "{}", check.stderr);
    ground.reconfigure("keep_last =", "keep_last = 1\nkeep_within = \"1s\"");
    wait_until("prune lets go of it", || {
        run(&["prune"]).ended(0).code == Some(0) && ground.snapshots() == [newest.as_str()]
    });
    let _ = run(&["check"]).ended(0);
    let _ = run(&["restore", "latest", "--yes"]).ended(0);
    assert_eq!(ground.state(), state);

    let right = text_of(&ground.path("backstay.toml"));
    let without = right.split("\n[files").next().expect("what stands before");
    ground.write("backstay.toml", &format!("{without}\n"));
    chapter.shows("which is not configured here", &run(&["restore", "latest", "--yes"]));
    chapter.is_told(&[]);
}

/// A guard that dies, a restore that dies, and deploys that end in each way.
#[test]
fn restore_undo_and_guard() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    let mut chapter = Chapter::of("Restore, undo, guard");
    let run = |arguments: &[&str]| ground.backstay.run(arguments);
    let id = ground.snapshot();
    let good = ground.state();
    ground.bad_release();
    chapter.shows("needs a confirmation", &run(&["restore", &id]));
    chapter.shows("there is no snapshot", &run(&["restore", "20251022_153000", "--yes"]));
    chapter.shows("there is no restore to undo", &run(&["undo", "--yes"]));
    ground.sql("select pg_stat_reset()");
    chapter.shows("nobody can say how many rows", &run(&["restore", &id, "--max-loss", "0", "--yes"]));

    let hook = ground.script("hook", "if rm deadly 2>/dev/null; then kill -9 $PPID; fi");
    let right = text_of(&ground.path("backstay.toml"));
    ground.configure(&format!("[hooks]\nbefore_fence = [\"{hook}\"]"));
    ground.write("deadly", "");
    assert_eq!(run(&["restore", &id, "--yes"]).code, None, "it was not killed");
    chapter.shows("died", &run(&[]));
    let elsewhere = TempDir::new().expect("the state folder of another host");
    let other = Backstay::in_folder(&ground.path(".")).with("BACKSTAY_STATE", elsewhere.path());
    chapter.shows("not known to be alive", &other.run(&[]));
    let _ = run(&["recover"]).ended(0);
    assert!(!run(&[]).ended(0).stdout.contains("UNFINISHED"));

    ground.write("backstay.toml", &right);
    let wired = Wired::new(&cluster, "wired");
    wired.wire.lay(At::Text("create database"), When::After, |process| signal(process, "INT"));
    chapter.shows("interrupted before anything was switched", &wired.run(&wired.restore()));
    assert!(wired.ground.beside().is_empty(), "there is something to clean up: {:?}", wired.ground.beside());
    let _ = run(&["restore", &id, "--yes"]).ended(0);
    assert_eq!(ground.state(), good);

    ground.write("backstay.toml", &format!("{right}\n[guard]\nsettle_window = \"1s\"\n"));
    let broken = ground.script("broken", "echo 'greeting = broken' >config/shop.conf\nexit 7");
    chapter.shows("the deploy was taken back", &run(&["guard", "--", &broken]));
    assert_eq!(ground.state(), good);
    let half = ground.script("half", &format!("{}\nexit 7", ground.half_a_deploy()));
    ground.reconfigure("project = ", "project = \"shop\"\nproduction = true");
    let stuck = run(&["guard", "--", &half]);
    chapter.shows("The deploy failed, and a person has to decide", &stuck);
    let hint =
        stuck.stderr.split('`').find(|quote| quote.starts_with("backstay restore")).expect("a command that goes back");
    let words: Vec<_> = hint.split_whitespace().skip(1).collect();
    let _ = run(&words).ended(0);
    assert_eq!(ground.state(), good);

    let dies = ground.script("dies", &format!("{}\nkill -9 $PPID", ground.half_a_deploy()));
    assert_eq!(run(&["guard", "--", &dies]).code, None, "it was not killed");
    chapter.shows("the run cannot be ended without a person", &run(&["recover"]));
    // A probe that is too strict is a matter of taste; that guard then takes a deploy back is in tests/journeys/guard.rs.
    chapter.is_told(&["guard took back a good deploy"]);
}

#[test]
fn the_application_after_a_switch() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    let mut chapter = Chapter::of("The application after a switch");
    let id = ground.snapshot();
    let _ = ground.backstay.run(&["restore", &id, "--yes"]).ended(0);
    let kept = ground.beside();
    let written = cluster.sql_as("postgres", &kept[0], "update store.orders set note = 'late'");
    let error = written.expect_err("a kept database was written to");
    chapter.shows("in a read-only transaction", &Ran { code: None, stdout: String::new(), stderr: error });
    let doctor = ground.backstay.run(&["doctor"]).ended(0);
    assert!(doctor.stdout.contains(&kept[0]), "{}", doctor.stdout);
    let _ = ground.backstay.run(&["settle", "--yes"]).ended(0);
    assert!(ground.beside().is_empty(), "{:?}", ground.beside());
    // Of connections through a switch: tests/journeys/under_load.rs.
    chapter.is_told(&["errors for a moment, then all is well", "it does not connect again", "the disk fills"]);
}
