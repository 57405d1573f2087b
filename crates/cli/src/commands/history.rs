use std::time::Duration;

use backstay_config::Span;
use backstay_model::{Outcome, RunRecord};
use backstay_restore::history;
use serde_json::{Value, json};

use crate::arguments::History;
use crate::output::{amounts, table};
use crate::report::{Failure, Report};
use crate::surroundings::Surroundings;
use crate::wiring::Release;

pub async fn run(surroundings: &Surroundings, arguments: History) -> Result<Report, Failure> {
    let release = Release::open(surroundings).await?;
    let mut runs = history(&release.site()).await?;
    runs.truncate(arguments.limit);
    let json: Vec<Value> = runs.iter().map(line).collect();
    if runs.is_empty() {
        return Ok(Report::seen("Nothing was run yet.").field("runs", json));
    }
    let target = release.project.settings.guard.recovery_target.map(Span::duration);
    let rows = runs.iter().map(|run| row(run, target)).collect();
    Ok(Report::seen(table(&["run", "command", "outcome", "took", "snapshot", "remark"], rows)).field("runs", json))
}

fn row(run: &RunRecord, target: Option<Duration>) -> Vec<String> {
    let took = took(run);
    let changes_what_runs = matches!(run.command.as_str(), "restore" | "undo" | "guard");
    let late = changes_what_runs && took.zip(target).is_some_and(|(took, target)| took > target);
    vec![
        run.id.to_string(),
        run.command.clone(),
        outcome(run).to_owned(),
        took.map(|took| format!("{}{}", amounts::time(took), if late { " (over target)" } else { "" }))
            .unwrap_or_default(),
        run.snapshot.as_ref().map(ToString::to_string).unwrap_or_default(),
        run.remark.clone().unwrap_or_default(),
    ]
}

fn outcome(run: &RunRecord) -> &'static str {
    match run.outcome {
        Some(Outcome::Done) => "done",
        Some(Outcome::Refused) => "refused",
        Some(Outcome::Failed) => "failed, nothing changed",
        Some(Outcome::TakenBack) => "taken back",
        Some(Outcome::Stuck) => "NEEDS A PERSON",
        None => "unfinished",
    }
}

fn took(run: &RunRecord) -> Option<Duration> {
    (run.ended_at? - run.began_at).to_std().ok()
}

fn line(run: &RunRecord) -> Value {
    json!({
        "id": run.id,
        "command": run.command,
        "outcome": run.outcome,
        "host": run.host,
        "snapshot": run.snapshot,
        "before": run.before,
        "undoes": run.undoes,
        "began_at": run.began_at,
        "ended_at": run.ended_at,
        "remark": run.remark,
        "phases": run.phases,
    })
}
