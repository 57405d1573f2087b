use backstay_migrate::{Aftermath, Status};

use crate::output::amounts;

const DRIFT_MAX: usize = 20;

pub fn status(status: &Status) -> String {
    let mut lines = vec![status.database.clone()];
    for applied in &status.applied {
        let state = if applied.success { "applied" } else { "HALF DONE" };
        lines.push(format!(
            "  {state:<9} {} {} ({})",
            applied.version,
            applied.description,
            amounts::local(applied.installed_on)
        ));
    }
    lines.extend(status.pending.iter().map(|file| format!("  pending   {file}")));
    // The history above is sqlx's own; of the others this is all that is told.
    for head in status.tools.iter().filter(|head| head.tool != "sqlx") {
        let applied = amounts::counted(head.applied, "migration", "migrations");
        let at = head.versions.join(", ");
        lines.push(format!("  {}: {applied} applied, at {at} (in {}.{})", head.tool, head.schema, head.table));
        let half = head.dirty.iter().map(|version| format!("  HALF DONE {version}, by {}", head.tool));
        lines.extend(half);
    }
    if status.applied.is_empty() && status.pending.is_empty() && status.tools.is_empty() {
        lines.push("  nothing applied, nothing pending".to_owned());
    }
    lines.extend(status.faults.iter().map(|fault| format!("  FAULT     {fault}")));
    lines.join("\n")
}

pub fn aftermath(aftermath: &Aftermath) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(
        aftermath.unvalidated.iter().map(|name| format!("  warning: the constraint {name} is not validated yet")),
    );
    lines.extend(
        aftermath
            .invalid_indexes
            .iter()
            .map(|name| format!("  warning: the index {name} is invalid, no query uses it")),
    );
    let drift = aftermath.drift.iter().take(DRIFT_MAX);
    lines.extend(drift.map(|change| format!("  changed outside migrations before this run: {change}")));
    if aftermath.drift.len() > DRIFT_MAX {
        lines.push(format!("  … and {} more such changes; `--json` has them all", aftermath.drift.len() - DRIFT_MAX));
    }
    lines
}
