use backstay_model::SnapshotId;
use backstay_postgres::MigrationHead;
use serde::Serialize;

/// A snapshot as the gate sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub id: SnapshotId,
    /// Whether its newest verdict says that it restores.
    pub proven: bool,
    /// How far migrations had come when it was taken.
    pub heads: Vec<MigrationHead>,
}

/// Whether a migration may run, and which snapshot takes it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "gate", rename_all = "snake_case")]
pub enum Gate {
    /// To be pinned until the release is settled; none where none is asked for.
    Open { snapshot: Option<SnapshotId> },
    /// A snapshot that is taken and proven now would open it, unless one was named.
    Closed { why: String, take_one: bool },
}

/// Decides by what is known alone. In production a proven snapshot must stand at the very head the
/// database has now; elsewhere such a snapshot is used where there is one. A `named` snapshot is
/// judged by the same rule everywhere, because somebody relies on it.
pub fn gate(production: bool, live: &[MigrationHead], snapshots: &[Candidate], named: Option<&SnapshotId>) -> Gate {
    let closed = |why: String, take_one| Gate::Closed { why, take_one };
    if let Some(named) = named {
        let Some(found) = snapshots.iter().find(|candidate| candidate.id == *named) else {
            return closed(format!("there is no snapshot {named}"), false);
        };
        if !found.proven {
            return closed(format!("snapshot {named} is not proven"), false);
        }
        if !same(&found.heads, live) {
            return closed(
                format!("snapshot {named} was taken at {}, and the database is at {}", told(&found.heads), told(live)),
                false,
            );
        }
        return Gate::Open { snapshot: Some(found.id.clone()) };
    }
    let at_head = || snapshots.iter().filter(|candidate| same(&candidate.heads, live));
    let newest = at_head().filter(|candidate| candidate.proven).map(|candidate| &candidate.id).max();
    match (newest, at_head().next()) {
        (Some(id), _) => Gate::Open { snapshot: Some(id.clone()) },
        (None, _) if !production => Gate::Open { snapshot: None },
        (None, Some(unproven)) => {
            closed(format!("snapshot {} stands at {} and is not proven", unproven.id, told(live)), true)
        }
        (None, None) => closed(format!("no snapshot stands at {}", told(live)), true),
    }
}

fn same(one: &[MigrationHead], other: &[MigrationHead]) -> bool {
    let sorted = |heads: &[MigrationHead]| {
        let mut heads = heads.to_vec();
        heads.sort();
        heads
    };
    sorted(one) == sorted(other)
}

/// `sqlx 20240101 (12 applied)`: for messages.
fn told(heads: &[MigrationHead]) -> String {
    if heads.is_empty() {
        return "no migration at all".to_owned();
    }
    let one = |head: &MigrationHead| format!("{} {} ({} applied)", head.tool, head.versions.join(", "), head.applied);
    heads.iter().map(one).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: &str) -> Vec<MigrationHead> {
        vec![MigrationHead {
            tool: "sqlx".to_owned(),
            versions: vec![version.to_owned()],
            applied: 1,
            ..Default::default()
        }]
    }

    fn candidate(id: &str, proven: bool, version: &str) -> Candidate {
        Candidate { id: id.parse().unwrap(), proven, heads: head(version) }
    }

    fn opened_with(gate: Gate) -> Option<String> {
        match gate {
            Gate::Open { snapshot } => Some(snapshot.map_or_else(String::new, |id| id.to_string())),
            Gate::Closed { .. } => None,
        }
    }

    #[test]
    fn production_wants_the_newest_proven_snapshot_at_the_live_head() {
        let all = [
            candidate("20250101_000000", true, "2"),
            candidate("20250102_000000", true, "2"),
            candidate("20250103_000000", false, "2"),
            candidate("20250104_000000", true, "1"),
        ];
        assert_eq!(opened_with(gate(true, &head("2"), &all, None)).unwrap(), "20250102_000000");
        assert_eq!(opened_with(gate(true, &head("3"), &all, None)), None);
        assert_eq!(opened_with(gate(true, &[], &[], None)), None);
        assert_eq!(opened_with(gate(false, &head("3"), &all, None)).unwrap(), "");
        let unproven = gate(true, &head("2"), &all[2..3], None);
        assert!(matches!(unproven, Gate::Closed { ref why, take_one: true } if why.contains("not proven")));
    }

    #[test]
    fn a_named_snapshot_is_held_to_the_rule_everywhere() {
        let all = [candidate("20250101_000000", true, "2"), candidate("20250103_000000", false, "2")];
        for production in [true, false] {
            let ask = |id: &str, version: &str| {
                opened_with(gate(production, &head(version), &all, Some(&id.parse().unwrap())))
            };
            assert_eq!(ask("20250101_000000", "2").unwrap(), "20250101_000000");
            assert_eq!(ask("20250101_000000", "3"), None);
            assert_eq!(ask("20250103_000000", "2"), None);
            assert_eq!(ask("20250109_000000", "2"), None);
        }
    }
}
