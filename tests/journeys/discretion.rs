//! A secret that Backstay meets is found in nothing that it prints, starts or stores in clear.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use backstay_testkit::{Backstay, PrivateCluster};

use crate::ground::{Ground, bytes_under};

const PASSWORD: &str = "Tr0ub4dor-and-3";
const TOKEN: &str = "tok_live_51HzzSecretOfTheShop";
const ROW: &str = "a row of a customer that nobody else may read";

#[track_caller]
fn holds_no_secret(what: &str, bytes: &[u8]) {
    for secret in [PASSWORD, TOKEN, ROW] {
        does_not_hold(secret, what, bytes);
    }
}

#[track_caller]
pub fn does_not_hold(secret: &str, what: &str, bytes: &[u8]) {
    let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
    assert!(!found, "`{secret}` is in {what}");
}

/// Client programs that write down how they were called, and then do their work.
fn watched_programs(ground: &Ground<'_>) -> String {
    let calls = ground.path("calls");
    for program in ["pg_dump", "pg_restore", "psql"] {
        let real = ground.cluster.bin().join(program);
        let body = format!("printf '%s\\n' \"$0 $*\" >>{}\nexec {} \"$@\"", calls.display(), real.display());
        ground.script(&format!("programs/{program}"), &body);
    }
    ground.path("programs").display().to_string()
}

fn guarded_ground(cluster: &PrivateCluster) -> Ground<'_> {
    cluster.sql("postgres", &format!("create role guarded login superuser password '{PASSWORD}'"));
    let rules = cluster.data().join("pg_hba.conf");
    let text = fs::read_to_string(&rules).expect("the rules of access");
    fs::write(&rules, format!("host all guarded 127.0.0.1/32 scram-sha-256\n{text}")).expect("the rules of access");
    cluster.restart();
    let ground = Ground::bare(cluster, "shop");
    ground.sql(&format!("update store.orders set note = '{ROW}' where id = 7"));
    let env = format!(
        "DATABASE_URL=postgres://guarded:{PASSWORD}@127.0.0.1:{}/shop\nAPI_TOKEN={TOKEN}\nRELEASE=1.0\n",
        cluster.port()
    );
    ground.write(".env", &env);
    ground
}

#[test]
fn no_secret_is_printed_started_or_stored_in_clear() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = guarded_ground(&cluster);
    let programs = watched_programs(&ground);
    let backstay = Backstay::in_folder(&ground.path("."))
        .with("BACKSTAY_STATE", ground.backstay.state())
        .with("BACKSTAY_PG_BIN_DIRS", programs);
    let run = |arguments: &[&str], code: i32| {
        let ran = backstay.run(arguments).ended(code);
        holds_no_secret(&format!("the result of {arguments:?}"), ran.stdout.as_bytes());
        holds_no_secret(&format!("the messages of {arguments:?}"), ran.stderr.as_bytes());
    };
    run(&["init", "--project", "shop"], 0);
    holds_no_secret("backstay.toml", &fs::read(ground.path("backstay.toml")).expect("backstay.toml is read"));
    run(&["snapshot", "--prove", "--verbose", "--events"], 0);
    run(&["snapshot", "--json"], 0);
    ground.bad_release();
    for command in [&["list"] as &[&str], &["show", "latest"], &["diff", "latest"], &["check"], &["history"], &[]] {
        run(command, 0);
        run(&[command, &["--json"]].concat(), 0);
    }
    run(&["restore", "latest", "--plan"], 0);
    run(&["restore", "latest", "--plan", "--json"], 0);
    run(&["restore", "latest", "--yes", "--verbose", "--events"], 0);
    run(&["undo", "--yes", "--json"], 0);
    run(&["settle", "--verbose"], 0);
    run(&["restore", "20200101_000000", "--yes"], 10);

    let calls = fs::read(ground.path("calls")).expect("the programs were called");
    assert!(String::from_utf8_lossy(&calls).contains("pg_restore"), "no program was called through the watched ones");
    holds_no_secret("the arguments of a program", &calls);
    let kept = |path: &Path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"DATABASE_URL="));
    for (file, bytes) in bytes_under(&ground.backstay.state()) {
        holds_no_secret(&file.display().to_string(), file.as_os_str().as_encoded_bytes());
        // What a restore replaced is kept as it was, for its owner alone.
        if !kept(&file) {
            holds_no_secret(&file.display().to_string(), &bytes);
        }
        let inside_repository = file.starts_with(ground.repository());
        let mode = fs::metadata(&file).expect("the rights of a file").permissions().mode() & 0o077;
        assert!(inside_repository || mode == 0, "{} can be read by others", file.display());
    }

    // The wrong password in what is live, a server that hangs up, and SQL that fails.
    let env = fs::read_to_string(ground.path(".env")).expect(".env is read");
    cluster.sql("postgres", "alter role guarded password 'another one'");
    run(&["snapshot", "--verbose"], 3);
    run(&["restore", "latest", "--yes", "--json"], 3);
    run(&["doctor"], 23);
    cluster.stop();
    run(&["snapshot", "--json"], 3);
    cluster.start_again();
    ground.write(".env", &env.replace("postgres://", "postgress://"));
    run(&["snapshot"], 3);
}
