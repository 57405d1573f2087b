//! A way back that was lost between the deploy and the day it was needed.

use backstay_testkit::PrivateCluster;

use crate::ground::Ground;

/// Of the same kind: orca#204, which prunes without a floor.
#[test]
fn sales_repo_v2_34_the_snapshot_from_before_a_migration_is_pruned_by_those_after_it() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "sales");
    ground.configure("[guard]\nsettle_window = \"1s\"");
    ground.reconfigure("keep_last = ", "keep_last = 1\nkeep_within = \"1s\"");
    let before = ground.state();
    let psql = cluster.bin().join("psql");
    let change = "alter table store.orders drop column note";
    let deploy =
        ground.script("deploy", &format!("{} -Xq -d '{}' -c '{change}'", psql.display(), cluster.url("sales")));
    let kept = ground.backstay.run(&["guard", "--json", "--", &deploy]).ended(0).json();
    let way_back = kept["snapshot"]["id"].as_str().expect("the snapshot of the deploy").to_owned();
    let later: Vec<String> = (0..3)
        .map(|n| {
            ground.sql(&format!("insert into store.customers (name) values ('later {n}')"));
            ground.snapshot()
        })
        .collect();
    let pruned = ground.backstay.run(&["prune", "--json"]).ended(0).json();
    assert_eq!(pruned["changed"], true, "nothing was pruned, so this shows nothing: {pruned}");
    let left = ground.snapshots();
    assert!(!left.contains(&later[0]), "{pruned}");
    assert!(left.contains(&way_back), "{pruned}");
    let _ = ground.backstay.run(&["restore", "before-deploy", "--yes"]).ended(0);
    assert_eq!(ground.state(), before);
}

#[test]
fn supply_drop_bbs_315_a_second_restore_deletes_what_the_first_one_replaced() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "supply");
    let id = ground.snapshot();
    let mut replaced = Vec::new();
    for n in 1..=2 {
        ground.sql(&format!("insert into store.customers (name) values ('customer of evening {n}')"));
        replaced.push(ground.state());
        let _ = ground.backstay.run(&["restore", &id, "--yes"]).ended(0);
    }
    assert_eq!(ground.beside().len(), 2, "the second restore let go of what the first one kept");
    let settled = ground.backstay.run(&["settle", "--json"]).ended(0).json();
    let safety = settled["settled"]["safety"].as_array().expect("safety snapshots");
    let mut back: Vec<String> = safety
        .iter()
        .map(|id| {
            let _ = ground.backstay.run(&["restore", id.as_str().expect("an id"), "--yes"]).ended(0);
            ground.state()
        })
        .collect();
    back.sort();
    replaced.sort();
    assert!(back == replaced, "what was replaced cannot be had again");
}

/// Of the same kind: longlink#672, helm#5825, evoila/meho#1607.
#[test]
fn frankendeploy_47_old_code_runs_on_the_new_schema() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "franken");
    let id = ground.snapshot();
    ground.bad_release();
    let bad = ground.state();
    let refused = ground.backstay.run(&["restore", &id, "--only", "files", "--yes", "--json"]).ended(10).json();
    assert!(refused["error"]["what"].to_string().contains("schema"), "{refused}");
    assert_eq!(ground.state(), bad);
}
