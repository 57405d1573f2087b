//! Failures of other tools, rebuilt: one function each, named after the public report. docs/internals/incidents.md says
//! what happened there. The reports of a file share one cluster, each with a database of its own.

mod beside;
mod deploys;
mod false_success;
mod lost_way_back;
mod migrations;
mod stored;

use std::collections::BTreeSet;
use std::fs;

use crate::tidy::{files_under, root};

#[test]
fn every_test_that_the_page_of_incidents_names_is_there() {
    let mut there = BTreeSet::new();
    for source in files_under(&root()).into_iter().filter(|file| file.extension().is_some_and(|kind| kind == "rs")) {
        let text = fs::read_to_string(source).expect("a source is read");
        there.extend(text.lines().filter_map(|line| {
            line.trim_start().trim_start_matches("async ").strip_prefix("fn ")?.split('(').next().map(str::to_owned)
        }));
    }
    let page = fs::read_to_string(root().join("docs/internals/incidents.md")).expect("the page of incidents is read");
    let (mut wrong, mut reports) = (Vec::new(), 0);
    for line in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| report")) {
        reports += 1;
        let held = line.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        let names: Vec<_> = held.split('`').skip(1).step_by(2).filter(|name| !name.ends_with(".rs")).collect();
        let found = |name: &&str| match name.strip_suffix('…') {
            Some(begin) => there.iter().any(|test| test.starts_with(begin)),
            None => there.contains(*name),
        };
        if held != "the same" && (names.is_empty() || !names.iter().all(found)) {
            wrong.push(line.to_owned());
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(reports >= 30, "only {reports} reports are on the page");
}
