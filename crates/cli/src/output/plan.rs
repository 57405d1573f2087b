use backstay_model::{Loss, TableLoss};
use backstay_restore::Plan;

use super::amounts;

const TABLES_SHOWN: usize = 12;

/// A plan as a person reads it: what is there, what will be, and what it costs.
pub fn plan_text(plan: &Plan) -> String {
    let mut lines = vec![format!(
        "Take {} ({}) back to snapshot {}, taken {}{}.",
        plan.project,
        plan.environment,
        plan.snapshot,
        amounts::local(plan.taken_at),
        if plan.proven { ", proven" } else { ", not proven yet: it is proven before anything is switched" },
    )];
    for part in &plan.parts {
        lines.push(String::new());
        lines.push(format!("{}: {}", part.part, if part.unchanged { "already as recorded" } else { "goes back" }));
        let differs = |(subject, recorded, live): (&str, &str, &str)| format!("  {subject}: {live} → {recorded}");
        lines.extend(part.differences.iter().map(|found| differs((&found.subject, &found.recorded, &found.live))));
    }
    section(&mut lines, "Steps", &plan.steps, true);
    match &plan.loss {
        Some(loss) => {
            lines.push(String::new());
            lines.push(loss_text(loss));
        }
        None if plan.changing().any(|part| part.kind == backstay_model::PartKind::Database) => {
            lines.push(String::new());
            lines.push(
                "What would be lost could not be counted beforehand; it is counted after the switch, and kept."
                    .to_owned(),
            );
        }
        None => {}
    }
    if plan.bytes_needed > 0 {
        lines.push(format!("Needs about {} of disk for the copy beside.", amounts::bytes(plan.bytes_needed)));
    }
    if let Some(enough) = &plan.depth.enough {
        let kinds = enough.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(",");
        lines.push(format!("Schema and migrations are as captured: `--only {kinds}` would do, and no data goes back."));
    }
    section(&mut lines, "Data must go back because", &plan.depth.data_must_go_back, false);
    section(&mut lines, "Warnings", &plan.warnings, false);
    section(&mut lines, "Not covered", &plan.not_covered, false);
    section(&mut lines, "Refused because", &plan.refusals, false);
    lines.join("\n")
}

fn section(lines: &mut Vec<String>, title: &str, items: &[String], numbered: bool) {
    if items.is_empty() {
        return;
    }
    lines.push(String::new());
    lines.push(format!("{title}:"));
    for (place, item) in items.iter().enumerate() {
        lines.push(if numbered { format!("  {}. {item}", place + 1) } else { format!("  - {item}") });
    }
}

/// What a switch takes from the live side, table by table.
pub fn loss_text(loss: &Loss) -> String {
    if loss.rows() == 0 {
        let exactly = if loss.exact { "No row is lost" } else { "By the write counters no row is lost" };
        return format!("{exactly}.{}", caveats(loss));
    }
    let mut tables: Vec<&TableLoss> = loss.tables.iter().filter(|table| table.rows() > 0).collect();
    tables.sort_by_key(|table| std::cmp::Reverse(table.rows()));
    let word = if loss.exact { "exactly" } else { "about" };
    let mut lines =
        vec![format!("Written since and not in the snapshot: {word} {}", amounts::counted(loss.rows(), "row", "rows"))];
    for table in tables.iter().take(TABLES_SHOWN) {
        lines.push(format!(
            "  {}.{}: {} inserted, {} updated, {} deleted",
            table.database, table.table, table.inserted, table.updated, table.deleted
        ));
    }
    if tables.len() > TABLES_SHOWN {
        lines.push(format!("  … and {} more tables", tables.len() - TABLES_SHOWN));
    }
    lines.push(format!("They are kept beside, not thrown away.{}", caveats(loss)));
    lines.join("\n")
}

fn caveats(loss: &Loss) -> String {
    loss.caveats.iter().map(|caveat| format!(" ({caveat})")).collect()
}
