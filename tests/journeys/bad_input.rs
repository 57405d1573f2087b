//! What is wrong around Backstay is said by its exit code, changes nothing, and leaves nothing half made.

use std::fs;
use std::path::Path;
use std::process::Command;

use backstay_testkit::{Backstay, PrivateCluster, Ran, left_out, majors};

use crate::ground::{Ground, bytes_under};

/// One wrong thing: the exit code, some words that name it, and that nothing changed.
#[track_caller]
fn says(ran: &Ran, code: i32, words: &[&str]) {
    let ran = ran.clone().ended(code);
    let said = ran.json();
    assert_eq!(said["exit"], code, "{said}");
    assert_eq!(said["changed"], false, "{said}");
    assert_eq!(said["error"]["state"], "nothing was changed", "{said}");
    assert!(!said["error"]["hint"].as_str().unwrap_or_default().is_empty(), "it says nothing of what to do: {said}");
    let what = said["error"]["what"].as_str().unwrap_or_default().to_owned() + &said["error"]["hint"].to_string();
    for word in words {
        assert!(what.contains(word), "`{word}` is not in: {what}");
    }
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
}

/// Runs something that must fail so, and looks that project, repository and server are as they were.
#[track_caller]
fn refuses(ground: &Ground<'_>, backstay: &Backstay, arguments: &[&str], code: i32, words: &[&str]) {
    let before = (bytes_under(&ground.path("")), repository(ground), ground.beside());
    says(&backstay.run(&[arguments, &["--json"]].concat()), code, words);
    let after = (bytes_under(&ground.path("")), repository(ground), ground.beside());
    assert!(before == after, "{arguments:?} left something behind");
}

/// Every byte of the repository, without the leases that come and go.
fn repository(ground: &Ground<'_>) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let folder = ground.repository();
    if !folder.exists() {
        return Vec::new();
    }
    bytes_under(&folder).into_iter().filter(|(file, _)| !file.starts_with(folder.join("leases"))).collect()
}

const EVERY_KIND: [&[&str]; 4] = [&["snapshot"], &["list"], &["restore", "latest", "--yes"], &["recover"]];

#[test]
fn a_configuration_that_is_missing_or_wrong_is_said_before_anything_starts() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::bare(&cluster, "shop");
    for arguments in EVERY_KIND {
        refuses(&ground, &ground.backstay, arguments, 3, &["backstay.toml", "backstay init"]);
    }
    let _ = ground.backstay.run(&["init", "--project", "shop"]).ended(0);
    let right = fs::read_to_string(ground.path("backstay.toml")).expect("backstay.toml is read");

    ground.write("backstay.toml", &right.replace("keep_last =", "keep_lasst ="));
    refuses(&ground, &ground.backstay, &["snapshot"], 3, &["keep_lasst", "keep_last"]);
    ground.write("backstay.toml", &right.replace("project = \"shop\"", "project = \"shop"));
    refuses(&ground, &ground.backstay, &["list"], 3, &["backstay.toml"]);
    ground.write("backstay.toml", &right.replace("file:.env#DATABASE_URL", "file:.env#DATABSE_URL"));
    refuses(&ground, &ground.backstay, &["snapshot"], 3, &["DATABSE_URL"]);
    ground.write("backstay.toml", &right.replace("file:.env#DATABASE_URL", "env:NOT_SET_ANYWHERE"));
    refuses(&ground, &ground.backstay, &["snapshot"], 3, &["NOT_SET_ANYWHERE"]);

    ground.write("backstay.toml", &format!("{right}\n[environment.staging]\n[environment.production]\n"));
    refuses(&ground, &ground.backstay, &["snapshot"], 2, &["staging", "production", "--env"]);
    refuses(&ground, &ground.backstay, &["snapshot", "--env", "stagin"], 2, &["staging"]);
    ground.write("backstay.toml", &right);
    let _ = ground.backstay.run(&["list"]).ended(0);
    let _ = ground.backstay.run(&["snapshoot"]).ended(2);
    let _ = ground.backstay.run(&["restore", "--yes"]).ended(2);
    refuses(&ground, &ground.backstay, &["restore", "20200101_000000", "--yes"], 10, &["20200101_000000"]);
    refuses(&ground, &ground.backstay, &["show", "yesterday"], 2, &["yesterday", "latest"]);
}

#[test]
fn a_repository_that_is_none_newer_or_locked_by_another_key_is_left_alone() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    ground.snapshot();

    let key = ground.repository().with_file_name("key");
    let right = fs::read(&key).expect("the key is read");
    fs::remove_file(&key).expect("the key is taken away");
    for arguments in EVERY_KIND {
        refuses(&ground, &ground.backstay, arguments, 3, &["key"]);
    }
    // `init` makes a key where there is none; what it makes opens another repository, not this one.
    let other = Ground::new(&cluster, "other");
    fs::copy(other.repository().with_file_name("key"), &key).expect("another key");
    for arguments in EVERY_KIND {
        refuses(&ground, &ground.backstay, arguments, 3, &["key"]);
    }
    fs::write(&key, &right).expect("the right key again");

    let format = ground.repository().join("backstay.json");
    let text = fs::read_to_string(&format).expect("the format is read");
    let newer = text.replace("\"format\":1", "\"format\":2");
    assert_ne!(newer, text);
    fs::write(&format, newer).expect("a newer format");
    for arguments in EVERY_KIND {
        refuses(&ground, &ground.backstay, arguments, 3, &["newer"]);
    }
    refuses(&ground, &ground.backstay, &["init"], 3, &["newer"]);
    fs::write(&format, text).expect("the format again");
    assert_eq!(ground.snapshots().len(), 1);

    ground.write("holiday/picture", "no repository");
    ground.reconfigure("url = \"/", "url = \"holiday\"");
    for arguments in EVERY_KIND {
        refuses(&ground, &ground.backstay, arguments, 3, &["holiday", "backstay init"]);
    }
    ground.reconfigure("url = \"holiday", "url = \"nowhere\"");
    for arguments in EVERY_KIND {
        refuses(&ground, &ground.backstay, arguments, 3, &["nowhere"]);
    }
    assert!(!ground.path("nowhere").exists());
}

#[test]
fn a_database_that_cannot_be_reached_or_read_is_named_and_nothing_is_stored() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    ground.snapshot();
    let environment = |url: &str| ground.write(".env", &format!("DATABASE_URL={url}\n"));
    let with_database: [&[&str]; 2] = [&["snapshot"], &["restore", "latest", "--yes"]];

    // A port that was free a moment ago, and that nobody listens on.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    environment(&format!("postgres://postgres@127.0.0.1:{port}/shop"));
    for arguments in with_database {
        refuses(&ground, &ground.backstay, arguments, 3, &["127.0.0.1"]);
    }
    environment(&cluster.url("no_such_database"));
    refuses(&ground, &ground.backstay, &["snapshot"], 3, &["no_such_database"]);

    cluster.sql("postgres", "create role guarded login superuser password 'the right one'");
    let rules = cluster.data().join("pg_hba.conf");
    let text = fs::read_to_string(&rules).expect("the rules of access");
    fs::write(&rules, format!("host all guarded 127.0.0.1/32 scram-sha-256\n{text}")).expect("the rules of access");
    cluster.restart();
    environment(&format!("postgres://guarded:the%20wrong%20one@127.0.0.1:{}/shop", cluster.port()));
    for arguments in with_database {
        refuses(&ground, &ground.backstay, arguments, 3, &["guarded", "password"]);
        let ran = ground.backstay.run(arguments);
        assert!(!(ran.stdout + &ran.stderr).contains("wrong one"), "the password is printed");
    }
    environment(&format!("postgres://guarded:the%20right%20one@127.0.0.1:{}/shop", cluster.port()));
    ground.snapshot();

    // A role that may not read one of the tables.
    cluster.sql(
        "shop",
        "create role reader login; grant usage on schema store to reader;
        grant select on store.customers to reader",
    );
    environment(&cluster.url_as("reader", "shop"));
    let before = ground.snapshots();
    says(&ground.backstay.run(&["snapshot", "--json"]), 3, &["store.orders", "SELECT"]);
    assert_eq!(ground.snapshots(), before, "half a snapshot counts as one");
}

#[test]
fn a_dump_program_older_than_the_server_is_an_error_that_names_the_package() {
    let bins = majors();
    let (Some(oldest), Some(newest)) = (bins.first(), bins.last()) else {
        return left_out("an old pg_dump", "no PostgreSQL here");
    };
    if oldest == newest || newest.starts_with("/usr/lib/postgresql") {
        return left_out("an old pg_dump", "it needs a newer PostgreSQL than the one of the system");
    }
    let cluster = PrivateCluster::start_from(newest, &[]);
    let ground = Ground::new(&cluster, "shop");
    let package = format!("postgresql-client-{}", cluster.major());
    let nowhere = ground.path("nothing");
    fs::create_dir(&nowhere).expect("an empty folder");
    for (folders, path) in [(oldest.as_path(), Path::new("/usr/bin:/bin")), (&nowhere, &nowhere)] {
        let backstay = Backstay::in_folder(&ground.path("."))
            .with("BACKSTAY_STATE", ground.backstay.state())
            .with("BACKSTAY_PG_BIN_DIRS", folders)
            .with("PATH", path);
        refuses(&ground, &backstay, &["snapshot"], 3, &["pg_dump", &package]);
    }
    ground.snapshot();
}

#[test]
fn a_full_disk_ends_a_snapshot_and_the_next_one_finds_no_half_of_it() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::bare(&cluster, "shop");
    let disk = ground.path("disk");
    fs::create_dir(&disk).expect("a folder for the disk");
    let Some(_mounted) = Mounted::new(&disk) else {
        return left_out("a full disk", "mounting a small one needs the rights of root");
    };
    let place = disk.join("repository").display().to_string();
    let _ = ground.backstay.run(&["init", "--project", "shop", "--repository", &place]).ended(0);
    let first = ground.snapshot();
    ground.sql("create table store.noise as select gen_random_uuid() from generate_series(1, 200000)");

    let ran = ground.backstay.run(&["snapshot", "--json"]).ended(11);
    says(&ran, 11, &["prune"]);
    assert_eq!(ground.snapshots(), [first.as_str()], "half a snapshot counts as one");
    let _ = ground.backstay.run(&["recover"]).ended(0);
    let _ = ground.backstay.run(&["check"]).ended(0);
    ground.sql("drop table store.noise");
    let good = ground.state();
    ground.bad_release();
    let _ = ground.backstay.run(&["restore", &first, "--yes"]).ended(0);
    assert_eq!(ground.state(), good);
}

/// A small disk in memory, gone when it is dropped.
struct Mounted<'path>(&'path Path);

impl<'path> Mounted<'path> {
    fn new(folder: &'path Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "backstay-test"]).arg(folder);
        mount.output().ok()?.status.success().then_some(Self(folder))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.0).status();
        assert!(std::thread::panicking() || unmounted.is_ok_and(|status| status.success()), "the disk stays mounted");
    }
}
