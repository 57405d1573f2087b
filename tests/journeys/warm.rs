//! A proven copy that was kept beside the live database makes a rollback a matter of renaming.

use backstay_testkit::PrivateCluster;

use crate::ground::Ground;

#[test]
fn a_release_goes_back_to_the_copy_that_was_kept_warm_without_loading_anything() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    ground.reconfigure("keep_last", "keep_last = 1\nkeep_within = \"0s\"");
    let good = ground.state();
    let oid = |name: &str| cluster.sql("postgres", &format!("select oid from pg_database where datname = '{name}'"));

    let taken = ground.backstay.run(&["snapshot", "--keep-warm", "--json"]).ended(0).json();
    let id = taken["snapshot"]["id"].as_str().expect("an id");
    let warm = ground.staged();
    assert_eq!((warm.len(), &taken["proven"]), (1, &true.into()));
    assert_eq!(taken["warm"][0]["database"], warm[0].as_str());
    assert!(cluster.sql_as("postgres", &warm[0], "select 1").is_err(), "it is open to connections");
    let shown = ground.backstay.run(&["show", id, "--json"]).ended(0).json();
    assert_eq!((&shown["warm"][0]["of"], shown["warm"][0]["bytes"].is_u64()), (&"shop".into(), true));
    let doctor = ground.backstay.run(&["doctor"]);
    assert!(doctor.stdout.contains("warm: a proven copy of shop"), "{}", doctor.stdout);
    let copy = oid(&warm[0]);

    ground.bad_release();
    // A proof reads the repository, and leaves the warm copy alone.
    let _ = ground.backstay.run(&["prove", id]).ended(0);
    assert_eq!(oid(&warm[0]), copy);
    let _ = ground.backstay.run(&["restore", id, "--yes"]).ended(0);
    assert_eq!((oid("shop"), ground.staged()), (copy, Vec::new()), "a staging database was loaded");
    assert_eq!(ground.state(), good);
    let _ = ground.backstay.run(&["undo", "--yes"]).ended(0);
    assert_ne!(ground.state(), good);
    let _ = ground.backstay.run(&["settle"]).ended(0);

    // A deploy that goes wrong while writers are quiet, and is taken back by itself.
    let before = ground.state();
    let script =
        ground.script("deploy", &format!("psql -q '{}' -c 'drop table store.points'; exit 1", cluster.url("shop")));
    let guarded = ground.backstay.run(&["guard", "--keep-warm", "--json", "--", &script]).ended(12).json();
    assert_eq!((ground.state(), ground.staged()), (before, Vec::new()), "{guarded}");

    // What is not needed any more goes with its snapshot.
    let first = ground.backstay.run(&["snapshot", "--keep-warm", "--json"]).ended(0).json();
    ground.sql("insert into store.orders (customer_id, note) values (1, 'one more')");
    let _ = ground.backstay.run(&["snapshot", "--prove"]).ended(0);
    assert_eq!(ground.staged().len(), 1);
    let _ = ground.backstay.run(&["settle", "--discard", "--yes"]).ended(0);
    let pruned = ground.backstay.run(&["prune", "--json"]).ended(0).json();
    let removed = pruned["removed"].as_array().expect("a list of ids");
    assert!(removed.contains(&first["snapshot"]["id"]), "{pruned}");
    assert_eq!((pruned["cooled"].as_array().map(Vec::len), ground.staged()), (Some(1), Vec::new()));
}
