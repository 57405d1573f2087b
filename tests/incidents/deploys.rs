//! Deploys that were not taken back, or taken back to the wrong thing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use backstay_testkit::PrivateCluster;

use crate::ground::Ground;

#[test]
fn a_deploy_that_went_wrong_is_taken_back_as_one() {
    let Some(cluster) = PrivateCluster::start() else { return };
    meho_1607_the_deploy_is_rolled_back_and_its_migration_stays(&cluster);
    compose_13149_an_unhealthy_deploy_stays(&cluster);
    blot_1808_one_blip_of_a_probe_rolls_back(&cluster);
    coolify_1976_rolls_back_to_another_release_than_the_one_before(&cluster);
    argo_rollouts_1297_the_configuration_is_not_rolled_back(&cluster);
}

fn with_window<'c>(cluster: &'c PrivateCluster, name: &str, more: &str) -> Ground<'c> {
    let ground = Ground::bare(cluster, name);
    ground.write("migrations/1_discount.sql", "alter table store.orders add column discount int not null default 7;");
    let _ = ground.backstay.run(&["init", "--project", "shop"]).ended(0);
    ground.configure(&format!("[guard]\nsettle_window = \"1s\"\n{more}"));
    ground
}

/// Of the same kind: flagger#1186, shopsys/helm#17, longlink#672.
fn meho_1607_the_deploy_is_rolled_back_and_its_migration_stays(cluster: &PrivateCluster) {
    let ground = with_window(cluster, "meho", "");
    let before = ground.state();
    let backstay = ground.backstay.command(&[]).get_program().to_string_lossy().into_owned();
    let deploy =
        ground.script("deploy", &format!("{backstay} migrate run\necho 'greeting = new' >config/shop.conf\nexit 1"));
    let taken_back = ground.backstay.run(&["guard", "--json", "--", &deploy]).ended(12).json();
    assert_eq!(taken_back["decision"], "take_back_whole");
    assert_eq!(ground.state(), before, "the migration of a deploy that was taken back is still there");
    let history = ground.backstay.run(&["history", "--json"]).ended(0).json();
    let commands: Vec<_> =
        history["runs"].as_array().into_iter().flatten().map(|run| run["command"].to_string()).collect();
    assert!(
        commands.contains(&"\"migrate run\"".to_owned()),
        "the migration was there, so this shows something: {history}"
    );
}

/// Of the same kind: watchtower#90, containers-roadmap#1206, moby#37972.
fn compose_13149_an_unhealthy_deploy_stays(cluster: &PrivateCluster) {
    let ground = with_window(
        cluster,
        "unhealthy",
        "[health.shop]\ncommand = [\"grep\", \"-q\", \"hello\", \"config/shop.conf\"]",
    );
    let before = ground.state();
    let deploy = ground.script("deploy", "echo 'greeting = broken' >config/shop.conf");
    let taken_back = ground.backstay.run(&["guard", "--json", "--", &deploy]).ended(12).json();
    assert_eq!(taken_back["command_exit"], 0, "the deploy itself ended well: only its health is bad");
    assert_eq!(ground.state(), before);
    let _ = ground.backstay.run(&["health"]).ended(0);
}

fn blot_1808_one_blip_of_a_probe_rolls_back(cluster: &PrivateCluster) {
    let ground = with_window(cluster, "blot", "");
    // Ill at the first look after the deploy, and well at every other.
    let probe = ground.script("probe", "if [ -e blip ]; then rm blip; touch blipped; exit 1; fi");
    ground.configure(&format!("[health.shop]\ncommand = [\"{probe}\"]"));
    let deploy = ground.script("deploy", "echo 'greeting = new' >config/shop.conf; touch blip");
    let kept = ground.backstay.run(&["guard", "--json", "--", &deploy]).ended(0).json();
    assert_eq!(kept["decision"], "keep");
    assert!(ground.path("blipped").exists(), "there was no blip, so this shows nothing");
}

/// Of the same kind: helm#1796, shipit-deploy#22.
fn coolify_1976_rolls_back_to_another_release_than_the_one_before(cluster: &PrivateCluster) {
    let ground = with_window(cluster, "coolify2", "");
    for release in ["first", "second"] {
        let deploy = ground.script("deploy", &format!("echo 'greeting = {release}' >config/shop.conf"));
        let _ = ground.backstay.run(&["guard", "--", &deploy]).ended(0);
        // Snapshots by schedule come between, and are of the running release.
        let _ = ground.backstay.run(&["snapshot"]).ended(0);
    }
    let _ = ground.backstay.run(&["restore", "before-deploy", "--only", "files", "--yes"]).ended(0);
    assert_eq!(fs::read_to_string(ground.path("config/shop.conf")).ok().as_deref(), Some("greeting = first\n"));
}

/// Of the same kind: empire#309, devtron#2273.
fn argo_rollouts_1297_the_configuration_is_not_rolled_back(cluster: &PrivateCluster) {
    let ground = with_window(cluster, "argo", "");
    let before = ground.state();
    let id = ground.snapshot();
    ground.write("config/shop.conf", "greeting = broken\n");
    let env = fs::read_to_string(ground.path(".env")).expect(".env is read");
    ground.write(".env", &env.replace("RELEASE=1.0", "RELEASE=1.1"));
    fs::set_permissions(ground.path(".env"), fs::Permissions::from_mode(0o644)).expect("the rights of .env");
    let _ = ground.backstay.run(&["restore", &id, "--only", "files", "--yes"]).ended(0);
    assert_eq!(ground.state(), before, "a file, or its mode, is still the bad release's");
}
