//! Migrations through the binary: looked at, rehearsed, run, gone down from.

use std::process::Stdio;

use backstay_testkit::{PrivateCluster, wait_until};

use crate::ground::Ground;
use crate::killed_at_random::{Chance, is_full};

#[test]
fn migrations_are_planned_and_rehearsed_without_a_trace_then_run_and_gone_down_from() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::bare(&cluster, "shop");
    ground.write(
        "migrations/20250101090000_points.up.sql",
        "create table store.points (customer_id bigint, points int);",
    );
    ground.write("migrations/20250101090000_points.down.sql", "drop table store.points;");
    ground.write(
        "migrations/20250102090000_discount.up.sql",
        "alter table store.orders add column discount bigint not null default 7;",
    );
    ground.write("migrations/20250102090000_discount.down.sql", "alter table store.orders drop column discount;");
    let _ = ground.backstay.run(&["init", "--project", "shop"]).ended(0);
    ground.reconfigure("project = ", "project = \"shop\"\nproduction = true");
    let before = ground.state();
    let unchanged = |what: &str| {
        assert_eq!(ground.state(), before, "{what} changed something");
        assert!(ground.beside().is_empty(), "{what} left a database behind");
    };

    let status = ground.backstay.run(&["migrate", "status", "--json"]).ended(0).json();
    assert_eq!(status["status"]["pending"].as_array().map(Vec::len), Some(2), "{status}");
    unchanged("looking at the status");
    assert_eq!(ground.backstay.run(&["migrate", "plan", "--json"]).ended(0).json()["changed"], false);
    unchanged("a plan");
    let _ = ground.backstay.run(&["migrate", "run", "--dry-run=in-place"]).ended(0);
    unchanged("a rehearsal in place");
    // Neither a rehearsal on a copy nor a run in production goes without a proven snapshot.
    for arguments in [&["migrate", "run", "--dry-run", "--json"] as &[&str], &["migrate", "run", "--json"]] {
        let refused = ground.backstay.run(arguments).ended(10).json();
        assert_eq!(refused["changed"], false);
        assert!(refused["error"]["hint"].to_string().contains("backstay snapshot --prove"), "{refused}");
        unchanged("a refusal");
    }
    let id = ground.snapshot();
    let _ = ground.backstay.run(&["migrate", "run", "--dry-run"]).ended(0);
    unchanged("a rehearsal on a copy");

    let done = ground.backstay.run(&["migrate", "run", "--json"]).ended(0).json();
    assert_eq!(done["command"], "migrate run");
    assert_eq!(done["changed"], true);
    assert_eq!(done["snapshot"]["id"], id.as_str());
    assert_eq!(ground.sql("select sum(discount) from store.orders"), "1400");
    let after = ground.state();
    assert_eq!(ground.backstay.run(&["migrate", "run", "--json"]).ended(0).json()["changed"], false);
    assert_eq!(ground.state(), after);

    let _ = ground.backstay.run(&["migrate", "down", "--yes"]).ended(0);
    assert_eq!(ground.sql("select to_regclass('store.points') is not null"), "t");
    assert_eq!(ground.sql("select count(*) from pg_attribute where attname = 'discount' and not attisdropped"), "0");
    // One that fails takes everything of its run with it.
    ground.write("migrations/20250103090000_wrong.up.sql", "create table store.half (id int); select 1 / 0;");
    let down = ground.state();
    let _ = ground.snapshot();
    assert_eq!(ground.backstay.run(&["migrate", "run", "--json"]).ended(11).json()["changed"], false);
    assert_eq!(ground.state(), down, "a migration that failed left something");

    let history = ground.backstay.run(&["history", "--json"]).ended(0).json();
    let told = history["runs"].as_array().expect("runs").iter().filter_map(|run| {
        let command = run["command"].as_str().filter(|command| command.starts_with("migrate"))?;
        Some(format!("{command}: {}", run["outcome"].as_str().unwrap_or_default()))
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told, ["migrate run: failed", "migrate down: done", "migrate run: done"], "{history}");

    let _ = ground.backstay.run(&["restore", &id, "--yes"]).ended(0);
    assert_eq!(ground.state(), before);
}

/// Statements of two files that each change one table of their own: whoever locks that table holds the run fast there.
const STATEMENTS: usize = 6;

/// One file in a transaction, or one outside of any, which goes on where it stopped.
fn file_of_gates(outside: bool) -> String {
    let statements = (1..=STATEMENTS).map(|gate| format!("update store.gate_{gate} set passed = passed + 1;\n"));
    format!("{}{}", if outside { "-- no-transaction\n" } else { "" }, statements.collect::<String>())
}

#[test]
fn what_a_failed_run_leaves_behind_is_said_and_the_next_one_goes_on() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::bare(&cluster, "shop");
    ground.write("migrations/1_a.sql", "create table store.codes (code int); insert into store.codes values (1), (1);");
    ground.write(
        "migrations/2_b.sql",
        "-- no-transaction\ncreate unique index concurrently codes_once on store.codes (code);",
    );
    let _ = ground.backstay.run(&["init", "--project", "shop"]).ended(0);
    let failed = ground.backstay.run(&["migrate", "run", "--json"]).ended(13).json();
    assert_eq!(failed["changed"], true, "{failed}");
    let state = failed["error"]["state"].as_str().unwrap_or_default();
    assert_eq!(state, "1_a.sql was committed and stays; what 2_b.sql did before line 2 stays");
    ground.sql("delete from store.codes where ctid in (select max(ctid) from store.codes)");
    let done = ground.backstay.run(&["migrate", "run", "--json"]).ended(0).json();
    assert_eq!(done["migrated"]["applied"], serde_json::json!(["2_b.sql"]));

    ground.write("migrations/3_c.sql", "do $$ begin insert into store.codes values (2); commit; end $$;");
    let failed = ground.backstay.run(&["migrate", "run", "--json"]).ended(11).json();
    assert_eq!((&failed["changed"], &failed["error"]["state"]), (&false.into(), &"nothing was changed".into()));
    assert!(failed["error"]["hint"].to_string().contains("-- no-transaction"), "{failed}");
}

/// Keeps the gate until the run waits for it, and kills the run there.
fn killed_at_gate(ground: &Ground<'_>, gate: usize, arguments: &[&str]) {
    let mut holder = ground.cluster.client("psql");
    holder.args(["-XAtq", "-U", "postgres", "-d", &ground.database]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut holder = holder.spawn().expect("psql");
    let mut input = holder.stdin.take().expect("psql's input");
    let lock = format!("begin; lock table store.gate_{gate} in share row exclusive mode;\n");
    std::io::Write::write_all(&mut input, lock.as_bytes()).expect("psql");
    let held = format!(
        "select count(*) from pg_locks where mode = 'ShareRowExclusiveLock' and granted and relation = 'store.gate_{gate}'::regclass"
    );
    wait_until("the gate is held", || ground.sql(&held) == "1");
    let mut run = ground.backstay.command(arguments);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a run");
    let waiting = "select count(*) from pg_stat_activity where application_name = 'backstay migrate run' and wait_event_type = 'Lock'";
    wait_until("the run waits at the gate, or ends", || {
        run.try_wait().expect("the run is ours").is_some() || ground.sql(waiting) != "0"
    });
    run.kill().expect("the run waits, and is killed");
    let _ = run.wait().expect("the run is ours");
    drop(input);
    let _ = holder.wait().expect("psql ends with its input");
    let sessions = "select count(*) from pg_stat_activity where application_name like 'backstay migrate%'";
    wait_until("the server has seen that the run is gone", || ground.sql(sessions) == "0");
}

#[test]
fn a_run_killed_at_a_statement_is_named_and_the_next_one_ends_it() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let mut chance = Chance::seeded();
    let chosen: Vec<(usize, bool)> = (1..=STATEMENTS).flat_map(|gate| [(gate, false), (gate, true)]).collect();
    let few = usize::try_from(chance.below(chosen.len() as u64)).expect("a small number");
    let chosen = if is_full() { chosen } else { vec![chosen[few], chosen[(few + 5) % chosen.len()]] };
    println!("killed at {chosen:?}");
    for (gate, outside) in chosen {
        let ground = Ground::bare(&cluster, &format!("shop{gate}{outside}"));
        for gate in 1..=STATEMENTS {
            ground
                .sql(&format!("create table store.gate_{gate} (passed int); insert into store.gate_{gate} values (0)"));
        }
        ground.write("migrations/1_points.sql", "create table store.points (id int);");
        ground.write("migrations/2_gates.sql", &file_of_gates(outside));
        let _ = ground.backstay.run(&["init", "--project", "shop"]).ended(0);
        ground.reconfigure("folder = \"migrations\"", "folder = \"migrations\"\nlock_timeout = \"10m\"");
        // Even there, where nothing runs without a way back, a run that was begun is gone on with.
        ground.reconfigure("project = ", "project = \"shop\"\nproduction = true");
        let before = ground.state();
        let id = ground.snapshot();
        killed_at_gate(&ground, gate, &["migrate", "run"]);

        let status = ground.backstay.run(&["migrate", "status", "--json"]).ended(0).json();
        let pending = status["status"]["pending"].as_array().map(Vec::len);
        let half = status["status"]["half_done"].as_array().map(Vec::len);
        let wanted = if outside { (Some(1), Some(1)) } else { (Some(2), Some(0)) };
        assert_eq!((pending, half), wanted, "killed at {gate}: {status}");
        if !outside {
            assert_eq!(ground.state(), before, "what was killed in a transaction left something");
        }
        let unfinished = ground.backstay.run(&["--json"]).ended(0).json();
        assert!(unfinished["unfinished"].to_string().contains("migrate run"), "{unfinished}");

        let ended = ground.backstay.run(&["migrate", "run", "--json"]).ended(0).json();
        assert_eq!(ended["changed"], true, "{ended}");
        assert_eq!(ended["snapshot"]["id"], id.as_str(), "{ended}");
        let passed = (1..=STATEMENTS).map(|gate| ground.sql(&format!("select passed from store.gate_{gate}")));
        assert_eq!(passed.collect::<String>(), "1".repeat(STATEMENTS), "a statement ran twice or not at all");
        assert_eq!(
            ground.sql("select string_agg(version || ' ' || success, ', ' order by version) from _sqlx_migrations"),
            "1 true, 2 true"
        );
        let history = ground.backstay.run(&["history", "--json"]).ended(0).json();
        let runs = history["runs"].as_array().expect("runs");
        let told: Vec<_> =
            runs.iter().filter(|run| run["command"] == "migrate run").map(|run| &run["outcome"]).collect();
        assert_eq!(told, ["done", "stuck"], "{history}");
        assert!(runs.iter().take(2).all(|run| run["snapshot"] == id.as_str()), "{history}");
        let _ = ground.backstay.run(&["restore", &id, "--yes"]).ended(0);
        assert_eq!(ground.state(), before);
    }
}

#[test]
fn a_run_file_by_file_that_is_killed_keeps_what_it_had_committed_and_no_more() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::bare(&cluster, "shop");
    ground.sql("create table store.gate_1 (passed int); insert into store.gate_1 values (0)");
    ground.write("migrations/1_points.sql", "create table store.points (id int);");
    ground.write("migrations/2_gates.sql", "update store.gate_1 set passed = passed + 1;");
    ground.write("migrations/3_more.sql", "create table store.more (id int);");
    let _ = ground.backstay.run(&["init", "--project", "shop"]).ended(0);
    ground.reconfigure("folder = \"migrations\"", "folder = \"migrations\"\nlock_timeout = \"10m\"");
    killed_at_gate(&ground, 1, &["migrate", "run", "--per-file"]);
    let status = ground.backstay.run(&["migrate", "status", "--json"]).ended(0).json();
    let pending = status["status"]["pending"].as_array().expect("what is pending");
    assert_eq!((pending.len(), &status["status"]["half_done"]), (2, &serde_json::json!([])), "{status}");
    let ended = ground.backstay.run(&["migrate", "run", "--per-file", "--json"]).ended(0).json();
    assert_eq!(ended["migrated"]["applied"], serde_json::json!(["2_gates.sql", "3_more.sql"]));
    assert_eq!(ground.sql("select passed from store.gate_1"), "1");
}

#[test]
fn of_two_runs_at_once_one_works_and_the_other_finds_it_done() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::bare(&cluster, "shop");
    ground.write("migrations/1_points.sql", "create table store.points (id int); insert into store.points values (1);");
    let _ = ground.backstay.run(&["init", "--project", "shop"]).ended(0);
    ground.reconfigure("project = ", "project = \"shop\"\nproduction = true");
    let _ = ground.snapshot();
    let runs: Vec<_> = (0..3).map(|_| ground.backstay.start(&["migrate", "run", "--json"])).collect();
    let mut changed = 0;
    for run in runs {
        let ended = run.wait_with_output().expect("the run is ours");
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        assert_eq!(ended.status.code(), Some(0), "{said}\n{}", String::from_utf8_lossy(&ended.stderr));
        changed += u32::from(said.contains("\"changed\":true") || said.contains("\"changed\": true"));
    }
    assert_eq!(changed, 1);
    assert_eq!(ground.sql("select count(*) from store.points"), "1");
}

#[test]
fn a_role_that_may_only_read_suffices_to_plan() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::bare(&cluster, "shop");
    ground.write("migrations/1_discount.sql", "alter table store.orders add column discount int not null default 7;");
    let _ = ground.backstay.run(&["init", "--project", "shop"]).ended(0);
    ground.sql("create role looker login; grant usage on schema store to looker; grant select on all tables in schema store to looker");
    let url = cluster.url("shop").replace("postgres@", "looker@");
    ground.write(".env", &format!("DATABASE_URL={url}\n"));
    let before = ground.state();
    let planned = ground.backstay.run(&["migrate", "plan", "--json"]).ended(0).json();
    assert!(planned["plan"].to_string().contains("store.orders"), "{planned}");
    let _ = ground.backstay.run(&["migrate", "status"]).ended(0);
    assert_eq!(ground.backstay.run(&["migrate", "run", "--json"]).ended(11).json()["changed"], false);
    assert_eq!(ground.state(), before);
}
