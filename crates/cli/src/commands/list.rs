use backstay_model::{HEALTH_LABEL, HEALTHY};
use backstay_repository::{Entry, Error as RepositoryError, Listing};
use serde_json::{Value, json};

use crate::arguments::List;
use crate::output::{amounts, table};
use crate::report::{Failure, Report};
use crate::surroundings::Surroundings;
use crate::wiring::Project;

pub async fn run(surroundings: &Surroundings, arguments: List) -> Result<Report, Failure> {
    let project = Project::find(surroundings)?;
    let environment = (!arguments.all).then_some(&project.settings.environment);
    let Listing { mut entries, damage } = project.repository().await?.listing(environment).await?;
    entries.retain(|entry| arguments.labels.iter().all(|(key, value)| entry.manifest.labels.get(key) == Some(value)));
    let snapshots: Vec<Value> = entries.iter().map(summary).collect();
    let report = Report::seen(text(&entries, &project, arguments.all)).field("snapshots", snapshots);
    // What can be read is shown, and that it is not all is no success.
    Ok(match damage.into_iter().next() {
        None => report,
        Some(damage) => report.failing(RepositoryError::Damaged(Box::new(damage)).into()),
    })
}

/// What every listing says of a snapshot in JSON.
pub fn summary(entry: &Entry) -> Value {
    let manifest = &entry.manifest;
    json!({
        "id": manifest.id,
        "environment": manifest.environment,
        "taken_at": manifest.taken_at,
        "purpose": manifest.purpose,
        "proven": entry.is_proven(),
        "examined_at": entry.verdict.as_ref().map(|verdict| verdict.at),
        "pinned": entry.pinned,
        "bytes": manifest.bytes(),
        "labels": manifest.labels,
        "git_commit": manifest.origin.git_commit,
        "host": manifest.origin.host,
        "run": manifest.run,
        "parts": manifest.parts.iter().map(|part| json!({"name": part.name, "kind": part.kind, "bytes": part.bytes, "summary": part.summary})).collect::<Vec<_>>(),
    })
}

/// How far a snapshot may be trusted, in a word.
pub fn standing(entry: &Entry) -> &'static str {
    match &entry.verdict {
        None => "untried",
        Some(verdict) => match (verdict.judgement.is_good(), verdict.examination) {
            (true, backstay_model::Examination::Prove) => "proven",
            (true, backstay_model::Examination::Check) => "checked",
            (false, _) => "DAMAGED",
        },
    }
}

fn text(entries: &[Entry], project: &Project, all: bool) -> String {
    if entries.is_empty() {
        return "There are no snapshots yet. `backstay snapshot` takes one.".to_owned();
    }
    let now = project.surroundings.clock.now();
    let rows = entries
        .iter()
        .map(|entry| {
            let manifest = &entry.manifest;
            let remarkable =
                |(key, value): &(&String, &String)| (key.as_str(), value.as_str()) != (HEALTH_LABEL, HEALTHY);
            let labels = manifest.labels.iter().filter(remarkable);
            let mut notes: Vec<String> = labels.map(|(key, value)| format!("{key}={value}")).collect();
            if entry.pinned {
                notes.insert(0, "pinned".to_owned());
            }
            match manifest.purpose {
                backstay_model::Purpose::Deliberate => {}
                backstay_model::Purpose::BeforeDeploy => notes.insert(0, "before deploy".to_owned()),
                backstay_model::Purpose::Safety => notes.insert(0, "safety".to_owned()),
            }
            let mut row = vec![
                manifest.id.to_string(),
                amounts::local_day(manifest.taken_at),
                amounts::ago(manifest.taken_at, now).trim_end_matches(" ago").to_owned(),
                standing(entry).to_owned(),
                amounts::bytes(manifest.bytes()),
                notes.join(", "),
            ];
            if all {
                row.insert(1, manifest.environment.to_string());
            }
            row
        })
        .collect();
    let header: &[&str] = if all {
        &["id (UTC)", "environment", "local time", "age", "standing", "size", "notes"]
    } else {
        &["id (UTC)", "local time", "age", "standing", "size", "notes"]
    };
    table(header, rows)
}
