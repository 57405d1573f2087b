use backstay_part::Recorded;
use serde_json::{Value, json};

use crate::arguments::Diff;
use crate::chosen;
use crate::output::amounts;
use crate::report::{Failure, Report};
use crate::surroundings::Surroundings;
use crate::wiring::{Project, Release};

pub async fn run(surroundings: &Surroundings, arguments: Diff) -> Result<Report, Failure> {
    if arguments.other == "live" {
        with_live(surroundings, &arguments.id).await
    } else {
        between(surroundings, &arguments).await
    }
}

/// What taking the snapshot back would change: the parts look at themselves.
async fn with_live(surroundings: &Surroundings, id: &str) -> Result<Report, Failure> {
    let release = Release::open(surroundings).await?;
    let entry = chosen::entry(&release.project, &release.repository, id).await?;
    let mut lines = Vec::new();
    let mut differences: Vec<Value> = Vec::new();
    for record in &entry.manifest.parts {
        let Some(part) = release.parts.iter().find(|part| *part.name() == record.name) else {
            lines.push(format!("{}: is not configured here", record.name));
            continue;
        };
        let recorded = Recorded::open(&release.repository, record).await?;
        let plan = part.plan(&release.context, &recorded).await?;
        lines.push(format!(
            "{}: {}",
            record.name,
            if plan.differences.is_empty() { "no difference to see" } else { "differs" }
        ));
        for found in &plan.differences {
            lines.push(format!("  {}: {} → {}", found.subject, found.recorded, found.live));
            differences.push(
                json!({"part": record.name, "subject": found.subject, "recorded": found.recorded, "live": found.live}),
            );
        }
        lines.extend(plan.loss.iter().map(crate::output::loss_text));
    }
    lines.push("Recorded → live. Rows are compared by `backstay restore`, before anything is switched.".to_owned());
    Ok(Report::seen(lines.join("\n")).of_snapshot(&entry.manifest.id).field("differences", differences))
}

/// Two snapshots, by their roots alone: no chunk is read.
async fn between(surroundings: &Surroundings, arguments: &Diff) -> Result<Report, Failure> {
    let project = Project::find(surroundings)?;
    let repository = project.repository().await?;
    let before = chosen::entry(&project, &repository, &arguments.id).await?.manifest;
    let after = chosen::entry(&project, &repository, &arguments.other).await?.manifest;
    let changes = repository.diff(&before, &after).await?;
    let mut lines = vec![format!(
        "{} → {}: {}",
        before.id,
        after.id,
        amounts::counted(changes.len() as u64, "stream differs", "streams differ")
    )];
    let mut differences: Vec<Value> = Vec::new();
    for change in &changes {
        let size = |root: &Option<backstay_model::Root>| {
            root.as_ref().map_or("none".to_owned(), |root| amounts::bytes(root.bytes))
        };
        lines.push(format!("  {} {}: {} → {}", change.part, change.stream, size(&change.before), size(&change.after)));
        let bytes = |root: &Option<backstay_model::Root>| root.as_ref().map(|root| root.bytes);
        differences.push(json!({"part": change.part, "stream": change.stream, "bytes_before": bytes(&change.before), "bytes_after": bytes(&change.after)}));
    }
    Ok(Report::seen(lines.join("\n")).of_snapshot(&after.id).field("differences", differences))
}
