//! A release is taken back, and that is taken back in turn.

use std::fs;

use backstay_testkit::{Backstay, PrivateCluster};

use crate::ground::Ground;

#[test]
fn a_release_is_taken_back_whole_and_every_step_can_be_undone() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    let good = ground.state();

    let taken = ground.backstay.run(&["snapshot", "--prove", "--json"]).ended(0).json();
    assert_eq!(taken["command"], "snapshot");
    assert_eq!(taken["outcome"], "done");
    assert_eq!(taken["exit"], 0);
    assert_eq!(taken["changed"], true);
    assert_eq!(taken["proven"], true);
    assert!(taken["error"].is_null());
    let id = taken["snapshot"]["id"].as_str().expect("the snapshot has an id");
    assert_eq!(ground.state(), good, "a snapshot changed what it recorded");
    assert!(ground.beside().is_empty(), "a proof left a database behind");

    ground.bad_release();
    let bad = ground.state();
    assert_ne!(bad, good);

    let planned = ground.backstay.run(&["restore", id, "--plan", "--json"]).ended(0).json();
    assert_eq!(planned["changed"], false);
    assert_eq!(planned["snapshot"]["id"], id);
    assert!(planned["plan"].is_object());
    assert_eq!(ground.state(), bad, "a plan changed something");
    assert!(ground.beside().is_empty(), "a plan left a database behind");

    // Nobody is there to ask, and nobody said yes.
    let refused = ground.backstay.run(&["restore", "latest", "--json"]).ended(10).json();
    assert_eq!(refused["outcome"], "refused");
    assert_eq!(refused["changed"], false);
    assert_eq!(ground.state(), bad);

    let restored = ground.backstay.run(&["restore", "latest", "--yes", "--json"]).ended(0).json();
    assert_eq!(restored["command"], "restore");
    assert_eq!(restored["outcome"], "done");
    assert_eq!(restored["changed"], true);
    assert_eq!(restored["snapshot"]["id"], id);
    assert!(restored["run"].is_string());
    assert!(restored["error"].is_null());
    assert_eq!(ground.state(), good, "the restored state is not the recorded one");
    assert_eq!(ground.beside().len(), 1, "what was replaced is kept");

    let undone = ground.backstay.run(&["undo", "--yes", "--json"]).ended(0).json();
    assert_eq!(undone["command"], "undo");
    assert_eq!(undone["undoes"], restored["run"]);
    assert_eq!(ground.state(), bad, "undo did not bring back what ran before");
    let _ = ground.backstay.run(&["undo", "--yes"]).ended(0);
    assert_eq!(ground.state(), good, "undo of undo did not bring back the restored state");

    let settled = ground.backstay.run(&["settle", "--json"]).ended(0).json();
    assert_eq!(settled["changed"], true);
    assert!(ground.beside().is_empty(), "settle kept a database");
    assert_eq!(ground.state(), good, "settle touched what is live");
    let safety = settled["settled"]["safety"][0].as_str().expect("what was let go is in a safety snapshot").to_owned();
    assert!(ground.snapshots().contains(&safety));
    assert_eq!(ground.backstay.run(&["settle", "--json"]).ended(0).json()["changed"], false);
    // A safety snapshot is not `latest`, and holds all that the bad release had.
    assert_eq!(ground.backstay.run(&["show", "latest", "--json"]).ended(0).json()["snapshot"]["id"], id);
    let _ = ground.backstay.run(&["restore", &safety, "--yes"]).ended(0);
    assert_eq!(ground.state(), bad, "the safety snapshot does not hold what was let go");
}

#[test]
fn a_part_is_taken_back_alone_and_a_limit_on_loss_is_kept() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    let id = ground.snapshot();
    let env = fs::read(ground.path(".env")).expect(".env is read");
    ground.bad_release();
    let rows = || ground.sql("select count(*) from store.orders");

    // The rows that customers wrote since would go.
    let refused = ground.backstay.run(&["restore", &id, "--yes", "--max-loss", "3", "--json"]).ended(10).json();
    assert_eq!(refused["changed"], false);
    assert_eq!(rows(), "210");
    assert!(ground.staged().is_empty(), "a refusal left a staged database");

    let _ = ground.backstay.run(&["restore", &id, "--only", "files", "--yes", "--force-schema"]).ended(0);
    assert_eq!(fs::read(ground.path(".env")).expect(".env is read"), env);
    assert_eq!(rows(), "210");
    assert!(ground.beside().is_empty());

    let _ = ground.backstay.run(&["restore", &id, "--only", "database", "--yes"]).ended(0);
    assert_eq!(rows(), "200");
}

#[test]
fn recorded_files_that_name_another_database_do_not_go_back_with_the_data_of_todays() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    let id = ground.snapshot();
    let good = ground.state();
    cluster.sql("postgres", "create database shop_moved template shop");
    ground.write(".env", &format!("DATABASE_URL={}\nRELEASE=2.0\n", cluster.url("shop_moved")));
    let moved = || (ground.state(), cluster.dump("shop_moved"));
    let before = moved();

    let planned = ground.backstay.run(&["restore", &id, "--plan", "--json"]).ended(10).json();
    let why = planned["error"]["what"].as_str().expect("a refusal has words");
    assert!(why.contains("shop on 127.0.0.1") && why.contains("shop_moved on 127.0.0.1"), "{why}");
    let refused = ground.backstay.run(&["restore", &id, "--yes", "--json"]).ended(10).json();
    assert_eq!(refused["changed"], false);
    assert_eq!(moved(), before, "a refusal changed something");

    let _ = ground.backstay.run(&["restore", &id, "--only", "files", "--yes"]).ended(0);
    ground.sql("delete from store.orders");
    let _ = ground.backstay.run(&["restore", &id, "--yes"]).ended(0);
    assert_eq!(ground.state(), good, "the database that the recorded files name was not taken back");
    assert_eq!(cluster.dump("shop_moved"), before.1, "the other database was touched");
}

#[test]
fn recorded_credentials_are_tried_before_anything_is_stopped() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    cluster.sql("postgres", "create role leaver superuser login");
    let today = fs::read_to_string(ground.path(".env")).expect(".env is read");
    ground.write(".env", &format!("DATABASE_URL={}\nRELEASE=1.0\n", cluster.url_as("leaver", "shop")));
    let id = ground.snapshot();
    ground.write(".env", &today.replace("1.0", "2.0"));
    cluster.sql("postgres", "drop role leaver");
    ground.sql("delete from store.orders");

    let refused = ground.backstay.run(&["restore", &id, "--yes", "--json"]).ended(10).json();
    let why = refused["error"]["what"].as_str().expect("a refusal has words");
    assert!(why.contains("leaver"), "{why}");
    assert_eq!(ground.sql("select count(*) from store.orders"), "0");
    assert!(ground.beside().is_empty(), "a refusal left a database");

    let _ = ground.backstay.run(&["restore", &id, "--only", "database", "--yes"]).ended(0);
    assert_eq!(ground.sql("select count(*) from store.orders"), "200");
}

#[test]
fn a_snapshot_says_how_healthy_the_release_was_and_so_does_the_plan_to_go_back_to_it() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    let label =
        |id: &str| ground.backstay.run(&["show", id, "--json"]).ended(0).json()["entry"]["labels"]["health"].clone();
    let plan = |id: &str| ground.backstay.run(&["restore", id, "--plan", "--json"]).ended(0).json()["plan"].clone();
    ground.configure("[health.shop]\ncommand = [\"test\", \"!\", \"-e\", \"ill\"]");
    let well = ground.snapshot();
    fs::write(ground.path("ill"), "").expect("the release falls ill");
    let ill = ground.snapshot();
    assert_eq!(label(&well), "healthy");
    assert_eq!(label(&ill), "unhealthy: shop");
    assert_eq!(plan(&well)["warnings"], serde_json::json!([]));
    let warned = plan(&ill)["warnings"].to_string();
    assert!(warned.contains("unhealthy: shop"), "{warned}");
    assert!(ground.backstay.run(&["list"]).ended(0).stdout.contains("health=unhealthy: shop"));
}

#[test]
fn without_an_engine_the_rest_is_recorded_and_taken_back_and_what_is_left_out_is_said() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    ground.configure("[compose]\nproject = \"shop\"");
    let backstay = Backstay::in_folder(&ground.path("."))
        .with("BACKSTAY_STATE", ground.backstay.state())
        .with("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let good = ground.state();
    let taken = backstay.run(&["snapshot", "--prove", "--json"]).ended(0).json();
    assert!(taken["not_covered"].to_string().contains("images and containers: "), "{taken}");
    ground.bad_release();
    let planned = backstay.run(&["restore", "latest", "--plan"]).ended(0);
    assert!(planned.stdout.contains("images and containers: "), "{}", planned.stdout);
    let _ = backstay.run(&["restore", "latest", "--yes"]).ended(0);
    assert_eq!(ground.state(), good);
}
