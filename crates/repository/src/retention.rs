//! Which snapshots stay. Pure: time is an argument, nothing is read or written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backstay_model::{Environment, SnapshotId};
use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc};

use crate::Entry;

/// Snapshots that are taken within one second are named a second apart, so the newest may be a little ahead of the clock.
const AHEAD_AT_MOST: TimeDelta = TimeDelta::minutes(1);

/// How many snapshots, of which moments, a policy keeps. A snapshot that any rule keeps stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub keep_last: usize,
    pub keep_within: Duration,
    /// The newest of each hour, for so many hours that have one; likewise the others.
    pub hourly: usize,
    pub daily: usize,
    pub weekly: usize,
    pub monthly: usize,
    pub yearly: usize,
    /// Snapshots with one of these labels stay.
    pub labels: Vec<(String, String)>,
    /// So many newest proven ones stay, whatever the rules say, and of those that a proof restored as
    /// many. At least one always does.
    pub min_proven: usize,
}

impl Policy {
    /// The rules for an environment that says nothing else: `days` of everything, and the newest five.
    pub fn days(days: u64) -> Self {
        Self {
            keep_last: 5,
            keep_within: Duration::from_secs(days * 24 * 3600),
            hourly: 0,
            daily: 0,
            weekly: 0,
            monthly: 0,
            yearly: 0,
            labels: Vec::new(),
            min_proven: 1,
        }
    }
}

/// What retention needs to know of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub environment: Environment,
    pub id: SnapshotId,
    pub labels: BTreeMap<String, String>,
    /// The newest verdict, of a check or a proof, is good.
    pub proven: bool,
    /// It is that of a proof.
    pub restored: bool,
    pub pinned: bool,
}

impl From<&Entry> for Candidate {
    fn from(entry: &Entry) -> Self {
        Self {
            environment: entry.manifest.environment.clone(),
            id: entry.manifest.id.clone(),
            labels: entry.manifest.labels.clone(),
            proven: entry.is_proven(),
            restored: entry.is_restored(),
            pinned: entry.pinned,
        }
    }
}

/// Snapshots that something needs, and what.
pub type Protected = BTreeMap<(Environment, SnapshotId), String>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub environment: Environment,
    pub id: SnapshotId,
    pub fate: Fate,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Keep { reasons: Vec<String> },
    Remove { why: String },
}

/// What becomes of every snapshot, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PrunePlan {
    pub decisions: Vec<Decision>,
}

impl PrunePlan {
    pub fn removed(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter().filter(|decision| matches!(decision.fate, Fate::Remove { .. }))
    }

    pub fn kept(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter().filter(|decision| matches!(decision.fate, Fate::Keep { .. }))
    }
}

/// Judges the snapshots of one or more environments, each by itself, under one policy.
pub fn plan_prune(snapshots: &[Candidate], policy: &Policy, protected: &Protected, now: DateTime<Utc>) -> PrunePlan {
    let environments: BTreeSet<_> = snapshots.iter().map(|candidate| &candidate.environment).collect();
    let mut decisions = Vec::new();
    for environment in environments {
        let mut own: Vec<_> = snapshots.iter().filter(|candidate| candidate.environment == *environment).collect();
        own.sort_by(|a, b| b.id.cmp(&a.id));
        own.dedup_by(|a, b| a.id == b.id);
        let reasons = reasons(&own, policy, protected, now);
        for (candidate, reasons) in own.into_iter().zip(reasons) {
            let fate = if reasons.is_empty() {
                Fate::Remove { why: "no rule keeps it".to_owned() }
            } else {
                Fate::Keep { reasons }
            };
            decisions.push(Decision { environment: environment.clone(), id: candidate.id.clone(), fate });
        }
    }
    decisions.sort_by(|a, b| (&b.id, &a.environment).cmp(&(&a.id, &b.environment)));
    PrunePlan { decisions }
}

/// Why each stays. `own` are of one environment, newest first.
fn reasons(own: &[&Candidate], policy: &Policy, protected: &Protected, now: DateTime<Utc>) -> Vec<Vec<String>> {
    let mut reasons = vec![Vec::new(); own.len()];
    // Nobody knows which of the two clocks was wrong, so nothing is old enough to go.
    let clock_moved = own.first().is_some_and(|newest| newest.id.moment() > now + AHEAD_AT_MOST);
    let floor = policy.min_proven.max(1);
    let (mut proven, mut restored) = (0, 0);
    for (index, (candidate, reasons)) in own.iter().zip(&mut reasons).enumerate() {
        let mut keep = |reason: String| reasons.push(reason);
        if clock_moved {
            keep("the clock is behind the newest snapshot".to_owned());
        }
        if index < policy.keep_last {
            keep(format!("one of the newest {}", policy.keep_last));
        }
        let age = now.signed_duration_since(candidate.id.moment()).to_std().unwrap_or_default();
        if age < policy.keep_within {
            keep(format!("younger than {} days", policy.keep_within.as_secs() / 86_400));
        }
        if candidate.pinned {
            keep("pinned".to_owned());
        }
        if let Some((name, value)) =
            policy.labels.iter().find(|(name, value)| candidate.labels.get(name) == Some(value))
        {
            keep(format!("labelled {name}={value}"));
        }
        if let Some(why) = protected.get(&(candidate.environment.clone(), candidate.id.clone())) {
            keep(why.clone());
        }
        if candidate.proven {
            proven += 1;
            if proven <= floor {
                keep(format!("one of the newest {floor} proven"));
            }
        }
        if candidate.restored {
            restored += 1;
            // Where checks alone called newer ones good, these are still what is known to restore.
            if restored <= floor && proven > floor {
                keep(format!("one of the newest {floor} proven by a restore"));
            }
        }
    }
    let day = |moment: DateTime<Utc>| i64::from(moment.num_days_from_ce());
    keep_newest_of_each(own, policy.hourly, "hour", &mut reasons, |at| day(at) * 24 + i64::from(at.hour()));
    keep_newest_of_each(own, policy.daily, "day", &mut reasons, day);
    // Weeks begin on Monday, and so did the first day of the common era.
    keep_newest_of_each(own, policy.weekly, "week", &mut reasons, |at| (day(at) - 1).div_euclid(7));
    keep_newest_of_each(own, policy.monthly, "month", &mut reasons, |at| {
        i64::from(at.year()) * 12 + i64::from(at.month())
    });
    keep_newest_of_each(own, policy.yearly, "year", &mut reasons, |at| i64::from(at.year()));
    reasons
}

fn keep_newest_of_each(
    own: &[&Candidate],
    most: usize,
    unit: &str,
    reasons: &mut [Vec<String>],
    period: impl Fn(DateTime<Utc>) -> i64,
) {
    let mut seen = BTreeSet::new();
    for (candidate, reasons) in own.iter().zip(reasons) {
        if seen.len() == most {
            return;
        }
        if seen.insert(period(candidate.id.moment())) {
            reasons.push(format!("the newest of its {unit}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(seconds: i64, proven: bool, pinned: bool) -> Candidate {
        let at = DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap();
        Candidate {
            environment: "production".parse().unwrap(),
            id: SnapshotId::at(at),
            labels: BTreeMap::new(),
            proven,
            restored: proven && seconds % 2 == 0,
            pinned,
        }
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        prop::collection::btree_map(0i64..40_000_000, (any::<bool>(), prop::bool::weighted(0.1)), 0..40)
            .prop_map(|found| found.into_iter().map(|(at, (proven, pinned))| candidate(at, proven, pinned)).collect())
    }

    fn policy() -> impl Strategy<Value = Policy> {
        ((0usize..4, 0u64..40), (0usize..3, 0usize..3, 0usize..3, 0usize..3, 0usize..3), 0usize..4).prop_map(
            |((keep_last, days), (hourly, daily, weekly, monthly, yearly), min_proven)| Policy {
                keep_last,
                hourly,
                daily,
                weekly,
                monthly,
                yearly,
                min_proven,
                ..Policy::days(days)
            },
        )
    }

    fn later() -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + 50_000_000, 0).unwrap()
    }

    fn removed(plan: &PrunePlan) -> BTreeSet<SnapshotId> {
        plan.removed().map(|decision| decision.id.clone()).collect()
    }

    proptest! {
        #[test]
        fn the_floor_of_proven_ones_pins_and_protected_ones_always_stay(own in candidates(), policy in policy(), pick in any::<prop::sample::Index>()) {
            let mut protected = Protected::new();
            if !own.is_empty() {
                let one = pick.get(&own);
                protected.insert((one.environment.clone(), one.id.clone()), "the running release".to_owned());
            }
            let removed = removed(&plan_prune(&own, &policy, &protected, later()));
            let proven: Vec<_> = own.iter().rev().filter(|candidate| candidate.proven).take(policy.min_proven.max(1)).collect();
            prop_assert!(proven.iter().all(|candidate| !removed.contains(&candidate.id)));
            let restored = own.iter().rev().filter(|candidate| candidate.restored).take(policy.min_proven.max(1));
            prop_assert!(restored.into_iter().all(|candidate| !removed.contains(&candidate.id)));
            prop_assert!(own.iter().filter(|candidate| candidate.pinned).all(|candidate| !removed.contains(&candidate.id)));
            prop_assert!(protected.keys().all(|(_, id)| !removed.contains(id)));
        }

        #[test]
        fn a_second_prune_removes_nothing_and_the_order_of_input_does_not_matter(own in candidates(), policy in policy()) {
            let plan = plan_prune(&own, &policy, &Protected::new(), later());
            let mut backwards = own.clone();
            backwards.reverse();
            prop_assert_eq!(&plan, &plan_prune(&backwards, &policy, &Protected::new(), later()));
            let gone = removed(&plan);
            let left: Vec<_> = own.into_iter().filter(|candidate| !gone.contains(&candidate.id)).collect();
            prop_assert!(removed(&plan_prune(&left, &policy, &Protected::new(), later())).is_empty());
        }

        #[test]
        fn a_new_snapshot_never_removes_a_newer_one_and_only_pushes_out_older(own in candidates(), policy in policy(), at in 0i64..40_000_000) {
            let before = removed(&plan_prune(&own, &policy, &Protected::new(), later()));
            let new = candidate(at, true, false);
            prop_assume!(own.iter().all(|known| known.id != new.id));
            let mut more = own;
            more.push(new.clone());
            let after = removed(&plan_prune(&more, &policy, &Protected::new(), later()));
            prop_assert!(after.difference(&before).all(|id| *id <= new.id));
        }

        #[test]
        fn a_clock_that_moved_back_removes_nothing(own in candidates(), policy in policy(), back in 61i64..1000) {
            prop_assume!(!own.is_empty());
            let newest = own.iter().map(|candidate| candidate.id.moment()).max().unwrap();
            let plan = plan_prune(&own, &policy, &Protected::new(), newest - chrono::Duration::seconds(back));
            prop_assert!(removed(&plan).is_empty());
        }
    }

    #[test]
    fn each_rule_keeps_what_it_says_and_gives_the_reason() {
        let hours = |count: i64| count * 3600;
        let own: Vec<_> = (0..72).map(|hour| candidate(hours(hour), false, false)).collect();
        let none = Policy { keep_last: 0, ..Policy::days(0) };
        let kept = |policy: &Policy| plan_prune(&own, policy, &Protected::new(), later()).kept().count();
        assert_eq!(kept(&none), 0);
        assert_eq!(kept(&Policy { keep_last: 3, ..none.clone() }), 3);
        assert_eq!(kept(&Policy { hourly: 10, ..none.clone() }), 10);
        assert_eq!(kept(&Policy { daily: 10, ..none.clone() }), 4);
        assert_eq!(kept(&Policy { yearly: 10, ..none.clone() }), 1);
        let plan = plan_prune(&own, &Policy { monthly: 2, ..none }, &Protected::new(), later());
        let reasons = plan.kept().map(|decision| decision.fate.clone()).collect::<Vec<_>>();
        assert_eq!(reasons, [Fate::Keep { reasons: vec!["the newest of its month".to_owned()] }]);
    }
}
