//! The commands that README and the guide to rollback tell people to type, typed in their order.

use std::fs;

use backstay_testkit::PrivateCluster;

use crate::ground::Ground;
use crate::tidy::root;

/// The lines of a page's shell blocks that run `backstay`, without comments.
fn commands(page: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(page)).expect("a page is read");
    let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).filter(|line| *line == "backstay" || line.starts_with("backstay "));
    lines.map(|line| line.split('#').next().unwrap_or(line).trim().to_owned()).collect()
}

/// Types one of them. Where a person would be asked, the answer is yes.
fn typed(ground: &Ground<'_>, line: &str) {
    let mut words: Vec<_> = line.split_whitespace().skip(1).collect();
    if matches!(words.first(), Some(&"restore" | &"undo"))
        && !words.iter().any(|word| ["--plan", "--yes"].contains(word))
    {
        words.push("--yes");
    }
    let ran = ground.backstay.run(&words);
    let fine: &[i32] = match words.as_slice() {
        ["doctor", ..] => &[0, 23],
        // There are no images here, and the guide says that a changed schema is refused.
        ["restore", .., "images,files", _] => &[0, 10],
        _ => &[0],
    };
    assert!(
        ran.code.is_some_and(|code| fine.contains(&code)),
        "`{line}` ended with {:?}\n{}\n{}",
        ran.code,
        ran.stdout,
        ran.stderr
    );
}

#[test]
fn the_quickstart_does_what_it_says_when_it_is_typed() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::bare(&cluster, "shop");
    let good = ground.state();
    let commands = commands("README.md");
    assert!(commands.contains(&"backstay restore latest --yes".to_owned()), "{commands:?}");
    for line in &commands {
        typed(&ground, line);
        match line.as_str() {
            "backstay snapshot --prove" => ground.bad_release(),
            "backstay restore latest --yes" => assert_eq!(ground.state(), good, "after `{line}`"),
            "backstay undo --yes" => assert_ne!(ground.state(), good, "after `{line}`"),
            _ => {}
        }
    }
}

#[test]
fn the_guide_to_rollback_leads_back_when_it_is_typed() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    ground.configure("[guard]\nsettle_window = \"1s\"");
    let good = ground.state();
    let _ = ground.backstay.run(&["guard", "--", "true"]).ended(0);
    ground.bad_release();
    let commands = commands("docs/guides/rollback.md");
    assert!(commands.len() > 8, "{commands:?}");
    for line in &commands {
        typed(&ground, line);
    }
    assert_eq!(ground.state(), good);
}
