use std::collections::BTreeSet;
use std::sync::Arc;

use backstay_model::{Clock, HEALTHY};
use backstay_run::Interrupt;
use futures_util::future::join_all;

use backstay_part::Condition;

use crate::probe::{Look, Probe, Seen};
use crate::rule::Rule;
use crate::verdict::{Verdict, judge};

/// The probes that failed before a deploy, by name.
pub type Baseline = BTreeSet<String>;

/// Looks again and again, all probes at once, until the answer is steady or due.
///
/// With `patient`, a bad answer is not the last word before the time is up: that is what waiting for
/// a start means. Without it, a steady bad answer ends the window.
pub async fn watch(
    probes: &[Probe],
    rule: &Rule,
    baseline: &Baseline,
    patient: bool,
    clock: &Arc<dyn Clock>,
    interrupt: &Interrupt,
) -> Verdict {
    let start = clock.elapsed();
    let mut good_since = start;
    let mut windows: Vec<(String, Option<String>, Vec<Look>)> =
        probes.iter().map(|probe| (probe.name.clone(), probe.service.clone(), Vec::new())).collect();
    loop {
        for (window, look) in windows.iter_mut().zip(join_all(probes.iter().map(Probe::look)).await) {
            window.2.push(look);
        }
        let due = clock.elapsed().saturating_sub(start) >= rule.timeout || interrupt.is_requested();
        let verdict = judge(&windows, baseline, rule, due);
        if verdict.condition != Condition::Healthy {
            good_since = clock.elapsed();
        }
        let fatal = windows.iter().any(|(_, _, looks)| looks.iter().any(|look| matches!(look.seen, Seen::Fatal(_))));
        let decided = match verdict.condition {
            Condition::Healthy => clock.elapsed().saturating_sub(good_since) >= rule.settle,
            Condition::Unhealthy { .. } => !patient || fatal,
            Condition::Undecided { .. } => false,
        };
        if due || decided {
            return if decided { verdict } else { not_for_long_enough(verdict, rule) };
        }
        tokio::select! {
            () = tokio::time::sleep(rule.interval) => {}
            () = interrupt.requested() => {}
        }
    }
}

/// Time was up before what is good had stayed good for as long as it has to.
fn not_for_long_enough(verdict: Verdict, rule: &Rule) -> Verdict {
    if verdict.condition != Condition::Healthy || rule.settle.is_zero() {
        return verdict;
    }
    let why = format!("healthy at last, but not for {} s", rule.settle.as_secs_f64());
    Verdict { condition: Condition::Undecided { why }, ..verdict }
}

/// What fails now: taken before a deploy, so that it cannot be blamed on it.
pub async fn look_once(probes: &[Probe]) -> Baseline {
    let looks = join_all(probes.iter().map(Probe::look)).await;
    let bad = |look: &Look| matches!(look.seen, Seen::Bad(_) | Seen::Fatal(_));
    probes.iter().zip(looks).filter(|(_, look)| bad(look)).map(|(probe, _)| probe.name.clone()).collect()
}

/// What a snapshot records of its moment: `healthy`, or what failed. Nothing where nothing looks.
pub fn at_capture(probes: &[Probe], failing: &Baseline) -> Option<String> {
    if probes.is_empty() {
        return None;
    }
    let names: Vec<&str> = failing.iter().map(String::as_str).collect();
    Some(if names.is_empty() { HEALTHY.to_owned() } else { format!("unhealthy: {}", names.join(", ")) })
}
