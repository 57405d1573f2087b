use std::collections::BTreeSet;

use backstay_part::Condition;
use serde::Serialize;

use crate::probe::{Look, Seen};
use crate::rule::Rule;

/// What a window of looks says, probe by probe and altogether.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub condition: Condition,
    pub rows: Vec<Row>,
}

/// One probe over the window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    pub probe: String,
    pub service: Option<String>,
    pub standing: Standing,
    /// The newest look, in words.
    pub remark: String,
    pub milliseconds: u64,
    /// It failed before the deploy as well, so that it decides nothing.
    pub failed_before: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    Healthy,
    Unhealthy,
    Undecided,
}

/// Judges the looks of each probe, oldest first. `failing_before` names the probes that already failed
/// before the deploy: they are reported and decide nothing, so that a fix can be deployed.
pub fn judge(
    looks: &[(String, Option<String>, Vec<Look>)],
    failing_before: &BTreeSet<String>,
    rule: &Rule,
    due: bool,
) -> Verdict {
    let rows: Vec<Row> = looks
        .iter()
        .map(|(probe, service, looks)| {
            let newest = looks.last();
            Row {
                probe: probe.clone(),
                service: service.clone(),
                standing: standing(looks, rule),
                remark: newest.map(|look| look.seen.words().to_owned()).unwrap_or_default(),
                milliseconds: newest.map_or(0, |look| u64::try_from(look.took.as_millis()).unwrap_or(u64::MAX)),
                failed_before: failing_before.contains(probe),
            }
        })
        .collect();
    Verdict { condition: condition(&rows, looks, due), rows }
}

fn standing(looks: &[Look], rule: &Rule) -> Standing {
    let last_in_a_row = |wanted: fn(&Seen) -> bool| looks.iter().rev().take_while(|look| wanted(&look.seen)).count();
    // What ended for good will not come back by looking again.
    if looks.iter().any(|look| matches!(look.seen, Seen::Fatal(_))) {
        Standing::Unhealthy
    } else if last_in_a_row(|seen| matches!(seen, Seen::Good(_))) >= rule.successes {
        Standing::Healthy
    } else if last_in_a_row(|seen| matches!(seen, Seen::Bad(_))) >= rule.failures {
        Standing::Unhealthy
    } else {
        Standing::Undecided
    }
}

fn condition(rows: &[Row], looks: &[(String, Option<String>, Vec<Look>)], due: bool) -> Condition {
    let deciding = || rows.iter().zip(looks).filter(|(row, _)| !row.failed_before);
    let failures: Vec<String> = deciding()
        .filter(|(row, (_, _, looks))| {
            let bad_at_the_end = due && looks.last().is_some_and(|look| matches!(look.seen, Seen::Bad(_)));
            row.standing == Standing::Unhealthy || (row.standing == Standing::Undecided && bad_at_the_end)
        })
        .map(|(row, _)| format!("{}: {}", row.probe, row.remark))
        .collect();
    if !failures.is_empty() {
        return Condition::Unhealthy { failures };
    }
    let open: Vec<&str> =
        deciding().filter(|(row, _)| row.standing == Standing::Undecided).map(|(row, _)| row.probe.as_str()).collect();
    if open.is_empty() {
        Condition::Healthy
    } else {
        Condition::Undecided { why: format!("no steady answer yet from {}", open.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn looks(pattern: &str) -> Vec<Look> {
        let seen = |letter| match letter {
            '+' => Seen::Good("ok".to_owned()),
            '-' => Seen::Bad("503".to_owned()),
            '?' => Seen::Unknown("no answer to ask".to_owned()),
            _ => Seen::Fatal("exited with 1".to_owned()),
        };
        pattern.chars().map(|letter| Look { seen: seen(letter), took: Duration::from_millis(4) }).collect()
    }

    fn judged(patterns: &[&str], before: &[&str], due: bool) -> Condition {
        let names: Vec<String> = (0..patterns.len()).map(|place| format!("p{place}")).collect();
        let all: Vec<_> =
            names.iter().zip(patterns).map(|(name, pattern)| (name.clone(), None, looks(pattern))).collect();
        let before = before.iter().map(|&name| name.to_owned()).collect();
        judge(&all, &before, &Rule::default(), due).condition
    }

    #[test]
    fn each_window_has_its_verdict() {
        let unhealthy = |failure: &str| Condition::Unhealthy { failures: vec![failure.to_owned()] };
        let undecided = |probe: &str| Condition::Undecided { why: format!("no steady answer yet from {probe}") };
        let table = [
            (vec![], vec![], false, Condition::Healthy),
            (vec!["+++"], vec![], false, Condition::Healthy),
            (vec!["++"], vec![], false, undecided("p0")),
            (vec!["---+++"], vec![], false, Condition::Healthy),
            (vec!["+++-"], vec![], false, undecided("p0")),
            (vec!["+++---"], vec![], false, unhealthy("p0: 503")),
            (vec!["+-+-+-"], vec![], false, undecided("p0")),
            (vec!["+-+-+-"], vec![], true, unhealthy("p0: 503")),
            (vec!["-+-+-+"], vec![], true, undecided("p0")),
            (vec!["+++x+++"], vec![], false, unhealthy("p0: ok")),
            (vec!["+++", "---"], vec!["p1"], false, Condition::Healthy),
            (vec!["---", "---"], vec!["p1"], false, unhealthy("p0: 503")),
            (vec!["+++", "??"], vec![], true, undecided("p1")),
        ];
        for (patterns, before, due, expected) in table {
            assert_eq!(judged(&patterns, &before, due), expected, "{patterns:?} {before:?} {due}");
        }
    }

    #[test]
    fn a_probe_that_failed_before_is_reported_all_the_same() {
        let all = [("api".to_owned(), None, looks("---"))];
        let verdict = judge(&all, &BTreeSet::from(["api".to_owned()]), &Rule::default(), true);
        assert_eq!(verdict.condition, Condition::Healthy);
        assert_eq!(verdict.rows[0].standing, Standing::Unhealthy);
        assert!(verdict.rows[0].failed_before);
    }
}
