//! A restore beside others: who would change the same release is told who is at work, and who only records it is not
//! disturbed.

use std::process::Stdio;

use backstay_testkit::{PrivateCluster, wait_until};

use crate::ground::Ground;
use crate::killed_at_random::is_whole;

/// A project whose restores wait, once, before they switch.
fn waiting(cluster: &PrivateCluster) -> Ground<'_> {
    let ground = Ground::new(cluster, "shop");
    ground.reconfigure("[repository]", "[repository]\nlease_wait = \"1s\"");
    let hook = ground.script("hook", "rm wait 2>/dev/null || exit 0\ntouch began\nuntil [ -e go ]; do sleep 0.1; done");
    ground.configure(&format!("[hooks]\nbefore_fence = [\"{hook}\"]\n[migrations]\nfolder = \"migrations\""));
    ground.write("migrations/20250101090000_more.sql", "create table store.more (id int);");
    ground
}

#[test]
fn who_would_change_a_release_beside_a_restore_is_told_of_it_and_a_snapshot_of_it_is_whole() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = waiting(&cluster);
    let good = ground.state();
    let id = ground.snapshot();
    ground.bad_release();
    let bad = ground.state();
    ground.write("wait", "");
    let mut restore = ground.backstay.command(&["restore", &id, "--yes"]);
    let mut restore = restore.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a restore");
    wait_until("it is about to switch", || ground.path("began").exists());

    let others: [&[&str]; 6] = [
        &["restore", &id, "--yes"],
        &["undo", "--yes"],
        &["recover"],
        &["migrate", "run"],
        &["guard", "--", "true"],
        &["prune"],
    ];
    for other in others {
        let told = ground.backstay.run(other).ended(22);
        assert!(told.stderr.contains("restore") || other == ["prune"], "{other:?}: {}", told.stderr);
        assert!(told.stderr.contains("nothing was changed"), "{other:?}: {}", told.stderr);
    }
    assert_eq!(ground.state(), bad, "one of them changed something");
    let between = ground.snapshot();
    ground.write("go", "");
    assert_eq!(restore.wait().expect("the restore is ours").code(), Some(0));
    assert_eq!(ground.state(), good);

    let _ = ground.backstay.run(&["restore", &between, "--yes"]).ended(0);
    assert_eq!(ground.state(), bad, "what was recorded beside a restore is what was live then");
    let _ = ground.backstay.run(&["check"]).ended(0);
}

#[test]
fn of_restores_that_begin_together_each_goes_through_or_is_told_of_another() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = waiting(&cluster);
    let good = ground.state();
    let id = ground.snapshot();
    ground.bad_release();
    let begin = || {
        let mut command = ground.backstay.command(&["restore", &id, "--yes"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a restore")
    };
    let begun: Vec<_> = (0..4).map(|_| begin()).collect();
    let ended: Vec<_> = begun.into_iter().map(|mut run| run.wait().expect("a restore of ours").code()).collect();
    assert!(ended.contains(&Some(0)), "{ended:?}");
    // One that looked before another had switched finds that its plan holds no more.
    assert!(ended.iter().all(|code| matches!(code, Some(0 | 10 | 22))), "{ended:?}");
    assert_eq!(is_whole(&ground, &[&good], "four restores at once"), good);
}
