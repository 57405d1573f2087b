use backstay_migrate::{Aftermath, Status};

use crate::output::amounts;

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
    if status.applied.is_empty() && status.pending.is_empty() {
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
    lines
        .extend(aftermath.drift.iter().map(|change| format!("  changed outside migrations before this run: {change}")));
    lines
}
