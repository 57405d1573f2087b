//! Old snapshots go by the policy and by nothing else; what is damaged is found and named.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use backstay_testkit::{Backstay, PrivateCluster};
use serde_json::Value;
use tempfile::TempDir;

use crate::ground::{Ground, bytes_under};

fn removed(result: &Value) -> Vec<String> {
    let ids = result["removed"].as_array().expect("a list of ids");
    ids.iter().map(|id| id.as_str().expect("an id").to_owned()).collect()
}

/// What a plan says of a snapshot, and why.
fn decision(result: &Value, id: &str) -> (String, String) {
    let decisions = result["decisions"].as_array().expect("a list of decisions");
    let own = decisions.iter().find(|one| one["id"] == id).unwrap_or_else(|| panic!("{id} is not decided: {result}"));
    let text = |key: &str| own[key].as_str().expect("a text").to_owned();
    (text("decision"), text("why"))
}

/// A project whose policy keeps so many newest and nothing for its age.
fn keeping<'cluster>(cluster: &'cluster PrivateCluster, newest: u32) -> Ground<'cluster> {
    let ground = Ground::new(cluster, "shop");
    ground.reconfigure("keep_last", &format!("keep_last = {newest}\nkeep_within = \"0s\""));
    ground
}

fn take(ground: &Ground<'_>, more: &[&str]) -> String {
    let taken = ground.backstay.run(&[&["snapshot", "--json"], more].concat()).ended(0).json();
    taken["snapshot"]["id"].as_str().expect("an id").to_owned()
}

#[test]
fn prune_removes_what_its_dry_run_says_and_keeps_the_pinned_and_the_last_proven() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = keeping(&cluster, 1);
    let good = ground.state();
    let proven = take(&ground, &["--prove"]);
    let pinned = take(&ground, &["--pin"]);
    let loose = take(&ground, &[]);
    let last = take(&ground, &[]);

    let before = bytes_under(&ground.repository());
    let dry = ground.backstay.run(&["prune", "--dry-run", "--json"]).ended(0).json();
    assert_eq!((&dry["changed"], &dry["dry_run"]), (&false.into(), &true.into()));
    assert_eq!(removed(&dry), [loose.as_str()], "proven {proven}, pinned {pinned}: {dry}");
    assert_eq!(decision(&dry, &pinned), ("keep".to_owned(), "pinned".to_owned()));
    assert_eq!(decision(&dry, &loose).0, "remove");
    assert!(decision(&dry, &proven).1.contains("proven"), "{dry}");
    assert!(bytes_under(&ground.repository()) == before, "a dry run changed the repository");
    let pruned = ground.backstay.run(&["prune", "--json"]).ended(0).json();
    assert_eq!(pruned["changed"], true);
    assert_eq!(removed(&pruned), removed(&dry));
    assert_eq!(ground.snapshots(), [last.as_str(), &pinned, &proven]);
    assert!(removed(&ground.backstay.run(&["prune", "--json"]).ended(0).json()).is_empty());
    let _ = ground.backstay.run(&["unpin", &pinned]).ended(0);
    assert_eq!(removed(&ground.backstay.run(&["prune", "--json"]).ended(0).json()), [pinned]);
    ground.bad_release();
    let _ = ground.backstay.run(&["restore", &proven, "--yes"]).ended(0);
    assert_eq!(ground.state(), good);
    let _ = ground.backstay.run(&["check"]).ended(0);
}

#[test]
fn what_runs_and_what_ran_before_it_stay_as_long_as_undo_may_need_them() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = keeping(&cluster, 1);
    let good = ground.state();
    let first = take(&ground, &["--prove"]);
    ground.bad_release();
    let _ = take(&ground, &[]);
    let _ = ground.backstay.run(&["restore", &first, "--yes"]).ended(0);
    let newer = [take(&ground, &[]), take(&ground, &["--prove"])];
    let pruned = ground.backstay.run(&["prune", "--json"]).ended(0).json();
    assert_eq!(decision(&pruned, &first).0, "keep", "{pruned}");
    assert!(removed(&pruned).contains(&newer[0]), "{pruned}");
    let _ = ground.backstay.run(&["undo", "--yes"]).ended(0);
    let _ = ground.backstay.run(&["prune", "--json"]).ended(0);
    let _ = ground.backstay.run(&["undo", "--yes"]).ended(0);
    assert_eq!(ground.state(), good);
    let _ = ground.backstay.run(&["restore", &first, "--yes"]).ended(0);
    assert_eq!(ground.state(), good);
}

#[test]
fn prune_needs_repository_and_key_alone_and_never_removes_everything() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = keeping(&cluster, 0);
    let [first, second] = [take(&ground, &[]), take(&ground, &[])];
    let toml = fs::read_to_string(ground.path("backstay.toml")).expect("backstay.toml is read");
    // The server is gone, and this host has no project: a cleaner with a key.
    cluster.stop();
    let folder = TempDir::new().expect("a folder of another host");
    let elsewhere = Backstay::in_folder(folder.path());
    let configure = |toml: &str| fs::write(folder.path().join("backstay.toml"), toml).expect("the settings");

    configure(&toml);
    let before = bytes_under(&ground.repository());
    for arguments in [&["prune", "--dry-run", "--json"][..], &["prune", "--json"]] {
        let refused = elsewhere.run(arguments).ended(10).json();
        assert_eq!((&refused["outcome"], &refused["changed"]), (&"refused".into(), &false.into()));
        assert!(!refused["error"]["hint"].as_str().unwrap_or_default().is_empty(), "{refused}");
    }
    assert!(bytes_under(&ground.repository()) == before, "a refusal changed the repository");

    configure(&toml.replace("keep_last = 0", "keep_last = 1"));
    assert_eq!(removed(&elsewhere.run(&["prune", "--json"]).ended(0).json()), [first]);
    let listed = elsewhere.run(&["list", "--json"]).ended(0).json();
    assert_eq!(listed["snapshots"].as_array().expect("snapshots").len(), 1);
    assert_eq!(listed["snapshots"][0]["id"], second);
}

#[test]
fn snapshots_and_prunes_at_the_same_time_all_end_well() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = keeping(&cluster, 2);
    let _ = take(&ground, &["--prove"]);
    std::thread::scope(|scope| {
        let pruning = scope.spawn(|| (0..4).for_each(|_| drop(ground.backstay.run(&["prune"]).ended(0))));
        (0..4).for_each(|_| drop(take(&ground, &[])));
        pruning.join().expect("every prune ends well");
    });
    let _ = ground.backstay.run(&["prune"]).ended(0);
    // The two newest and the one that is proven.
    assert_eq!(ground.snapshots().len(), 3);
    let _ = ground.backstay.run(&["check"]).ended(0);
    let _ = ground.backstay.run(&["prove"]).ended(0);
}

#[test]
fn a_flipped_byte_is_found_and_the_snapshot_that_holds_it_is_named() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    let id = ground.snapshot();
    let _ = ground.backstay.run(&["check"]).ended(0);
    let state = ground.state();
    for (file, bytes) in bytes_under(&ground.repository().join("objects")) {
        let mut flipped = bytes.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("an object to damage");
        fs::write(&file, flipped).expect("an object is damaged");
        let found = ground.backstay.run(&["check", "--json"]).ended(20).json();
        assert!(found["damage"].to_string().contains(&id), "{found}");
        assert!(!found["error"]["hint"].as_str().unwrap_or_default().is_empty());
        // A part that is as recorded needs none of its bytes; what is needed is read, and refused.
        let restored = ground.backstay.run(&["restore", &id, "--yes"]);
        assert!(matches!(restored.code, Some(0 | 20)), "{restored:?}");
        assert_eq!(ground.state(), state, "damage reached what is live");
        assert!(ground.staged().is_empty());
        fs::write(&file, bytes).expect("the object is mended");
    }
    let _ = ground.backstay.run(&["check"]).ended(0);
}

#[test]
fn a_repository_whose_description_is_lost_or_flipped_still_restores_and_is_mended_by_the_next_snapshot() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    let id = ground.snapshot();
    let good = ground.state();
    let description = ground.repository().join("backstay.json");
    let bytes = fs::read(&description).expect("the description");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for damaged in [None, Some(flipped)] {
        match damaged {
            None => fs::remove_file(&description).expect("it is lost"),
            Some(flipped) => fs::write(&description, flipped).expect("it is damaged"),
        }
        let found = ground.backstay.run(&["check", "--json"]).ended(20).json();
        assert_eq!(found["damage"][0]["key"], "backstay.json", "{found}");
        let _ = ground.backstay.run(&["check", "--without-key"]).ended(20);
        let _ = ground.backstay.run(&["restore", &id, "--yes"]).ended(0);
        assert_eq!(ground.state(), good);
        let _ = ground.snapshot();
        assert!(fs::read(&description).expect("it is back") == bytes);
        let _ = ground.backstay.run(&["check"]).ended(0);
    }
    // Without either of them nothing opens, nothing is made over it, and the error says the way out.
    let copy = ground.repository().join("backstay.json.copy");
    fs::remove_file(&description).expect("it is lost");
    fs::rename(&copy, ground.path("kept")).expect("and its copy");
    for command in [&["list", "--json"][..], &["check", "--json"], &["init", "--json"]] {
        let failed = ground.backstay.run(command).ended(20).json();
        assert!(failed["error"]["hint"].to_string().contains("backstay.json.copy"), "{failed}");
    }
    fs::rename(ground.path("kept"), &description).expect("as the hint says");
    let _ = ground.backstay.run(&["check"]).ended(0);
}
