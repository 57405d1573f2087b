use crate::arguments::Show;
use crate::chosen;
use crate::commands::list;
use crate::output::amounts;
use crate::report::{Failure, Report};
use crate::surroundings::Surroundings;
use crate::warm_copies;
use crate::wiring::Project;

pub async fn run(surroundings: &Surroundings, arguments: Show) -> Result<Report, Failure> {
    let project = Project::find(surroundings)?;
    let repository = project.repository().await?;
    let entry = chosen::entry(&project, &repository, &arguments.id).await?;
    let manifest = &entry.manifest;
    let mut lines = vec![
        format!("Snapshot {} of {}, {}", manifest.id, manifest.project, manifest.environment),
        format!(
            "  taken     {} ({})",
            amounts::local(manifest.taken_at),
            amounts::ago(manifest.taken_at, surroundings.clock.now())
        ),
        format!("  standing  {}{}", list::standing(&entry), if entry.pinned { ", pinned" } else { "" }),
        format!("  by        run {} on {}, Backstay {}", manifest.run, manifest.origin.host, manifest.origin.version),
    ];
    if let Some(commit) = &manifest.origin.git_commit {
        lines.push(format!("  commit    {commit}"));
    }
    if let Some(job) = &manifest.origin.job {
        lines.push(format!("  job       {job}"));
    }
    for (key, value) in &manifest.labels {
        lines.push(format!("  label     {key}={value}"));
    }
    lines.push(String::new());
    for part in &manifest.parts {
        lines.push(format!("{}: {} ({})", part.name, part.summary, amounts::bytes(part.bytes)));
    }
    let warm = warm_copies::looked_up(&project, manifest).await;
    lines.extend(warm_copies::lines(warm.as_deref().unwrap_or_default()));
    if !manifest.not_covered.is_empty() {
        lines.push(String::new());
        lines.push("Not covered:".to_owned());
        lines.extend(manifest.not_covered.iter().map(|what| format!("  {what}")));
    }
    if let Some(verdict) = &entry.verdict {
        lines.push(String::new());
        lines.push(format!("Last examined {} on {}:", amounts::local(verdict.at), verdict.host));
        lines.push(match &verdict.judgement {
            backstay_model::Judgement::Good => "  good".to_owned(),
            backstay_model::Judgement::Damaged { findings, .. }
            | backstay_model::Judgement::DoesNotProve { findings } => {
                findings.iter().map(|finding| format!("  {finding}")).collect::<Vec<_>>().join("\n")
            }
        });
    }
    let report = Report::seen(lines.join("\n")).of_snapshot(&manifest.id);
    Ok(report
        .field("entry", list::summary(&entry))
        .field("not_covered", &manifest.not_covered)
        .field("warm", warm.as_deref().map(warm_copies::json))
        .field("verdict", &entry.verdict))
}
