//! Migrations through the binary: looked at, rehearsed, run, gone down from.

use backstay_testkit::PrivateCluster;

use crate::ground::Ground;

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

    let _ = ground.backstay.run(&["restore", &id, "--yes"]).ended(0);
    assert_eq!(ground.state(), before);
}
