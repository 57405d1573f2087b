use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use backstay_config::Retention;
use backstay_model::Environment;
use backstay_part::Part;
use backstay_repository::{Entry, Fate, Policy, PrunePlan, Pruned, Repository};
use serde_json::{Value, json};

use crate::arguments::Prune;
use crate::exit::Exit;
use crate::output::{amounts, table};
use crate::report::{Failure, Report, State};
use crate::surroundings::Surroundings;
use crate::warm_copies;
use crate::wiring::{Containers, Project, images, server_parts};

pub async fn run(surroundings: &Surroundings, arguments: Prune) -> Result<Report, Failure> {
    let project = Project::find(surroundings)?;
    let repository = project.repository().await?;
    let context = project.context();
    let plan = repository.plan_prune(&policies(&project, &repository, arguments.all).await?).await?;
    let wait = project.settings.repository.lease_wait.duration();
    let pruned = tokio::select! {
        pruned = repository.prune(&plan, &context.run, arguments.dry_run, wait, context.listener.as_ref()) => pruned?,
        () = context.interrupt.requested() => return Err(interrupted(arguments.dry_run)),
    };
    let mut cooled = Vec::new();
    if !arguments.dry_run && !pruned.manifests.is_empty() {
        release_images(&project, &pruned).await;
        match release_copies(&project, &repository).await {
            Ok(dropped) => cooled = dropped,
            Err(failure) => surroundings.printer.note(&format!(
                "warning: warm copies of what was removed may be left on the database server: {}",
                failure.what.join(": ")
            )),
        }
    }
    let report = report(&plan, &pruned, arguments.dry_run).field("cooled", &cooled);
    Ok(if arguments.dry_run { report } else { report.of_run(&context.run) })
}

/// A snapshot exists as long as its manifest does: wherever a prune stops, it stops between two of them.
fn interrupted(dry: bool) -> Failure {
    let mut failure = Failure::new(Exit::Interrupted, "the prune was interrupted")
        .hint("run it again: it goes on where it stopped; `backstay list` shows what is there");
    if !dry {
        failure.state = State::Changed("what was removed is removed, everything else is whole".to_owned());
    }
    failure
}

/// The settings' policy for this environment, or for every environment the repository holds.
async fn policies(
    project: &Project,
    repository: &Repository,
    all: bool,
) -> Result<BTreeMap<Environment, Policy>, Failure> {
    let entries = repository.list(None).await?;
    let own = project.settings.environment.clone();
    let mut environments = BTreeSet::from([own.clone()]);
    if all {
        environments.extend(entries.iter().map(|entry| entry.manifest.environment.clone()));
    }
    let mut policies = BTreeMap::new();
    for environment in environments {
        let retention = if environment == own {
            project.settings.retention.clone()
        } else {
            backstay_config::load(&project.settings.file, Some(environment.as_str()))?.retention
        };
        policies.insert(environment, policy(&retention, &entries));
    }
    Ok(policies)
}

fn policy(retention: &Retention, entries: &[Entry]) -> Policy {
    let mut labels = Vec::new();
    for (name, value) in &retention.keep_labels {
        match value {
            Some(value) => labels.push((name.clone(), value.clone())),
            // A label without a value keeps whatever value it has.
            None => {
                let values = entries.iter().filter_map(|entry| entry.manifest.labels.get(name));
                labels.extend(values.map(|value| (name.clone(), value.clone())));
            }
        }
    }
    Policy {
        keep_last: retention.keep_last as usize,
        keep_within: retention.keep_within.duration(),
        hourly: retention.hourly as usize,
        daily: retention.daily as usize,
        weekly: retention.weekly as usize,
        monthly: retention.monthly as usize,
        yearly: retention.yearly as usize,
        labels,
        min_proven: retention.min_proven as usize,
    }
}

/// Lets go of the tags and anchors of pruned snapshots, on the host that holds them.
async fn release_images(project: &Project, pruned: &Pruned) {
    let containers = Containers::reach(project).await;
    let Ok(Some(images)) = images(project, &containers) else { return };
    for (_, snapshot) in &pruned.manifests {
        if let Err(error) = images.release(snapshot.as_str()).await {
            project
                .surroundings
                .printer
                .note(&format!("warning: the images of {snapshot} are still held on this engine: {error}"));
        }
    }
}

/// Drops the warm copies of pruned snapshots.
async fn release_copies(project: &Project, repository: &Repository) -> Result<Vec<String>, Failure> {
    let parts: Vec<Arc<dyn Part>> =
        server_parts(project).await?.into_iter().map(|part| Arc::new(part) as Arc<dyn Part>).collect();
    warm_copies::drop_orphans(&parts, &project.context(), repository).await
}

fn report(plan: &PrunePlan, pruned: &Pruned, dry: bool) -> Report {
    let mut rows = Vec::new();
    let mut decisions: Vec<Value> = Vec::new();
    for decision in &plan.decisions {
        let (word, why) = match &decision.fate {
            Fate::Keep { reasons } => ("keep", reasons.join(", ")),
            Fate::Remove { why } => ("remove", why.clone()),
        };
        rows.push(vec![decision.id.to_string(), decision.environment.to_string(), word.to_owned(), why.clone()]);
        decisions.push(json!({"id": decision.id, "environment": decision.environment, "decision": word, "why": why}));
    }
    let mut lines = vec![table(&["id (UTC)", "environment", "", "why"], rows)];
    let removed = amounts::counted(pruned.manifests.len() as u64, "snapshot", "snapshots");
    lines.push(match dry {
        true => format!("Would remove {removed}. Nothing was changed."),
        false if pruned.manifests.is_empty() => "There was no snapshot to remove.".to_owned(),
        false => format!("Removed {removed}."),
    });
    let word = if dry { "would be" } else { "were" };
    if pruned.deleted > 0 {
        let objects = amounts::counted(pruned.deleted, "object", "objects");
        lines.push(format!(
            "{objects} ({}) {word} deleted: nothing had needed them for a day.",
            amounts::bytes(pruned.deleted_bytes)
        ));
    }
    if pruned.condemned > 0 {
        let objects = amounts::counted(pruned.condemned, "object", "objects");
        lines.push(format!(
            "{objects} {word} condemned: a prune a day from now deletes them, should nothing need them then."
        ));
    }
    let changed = !dry && (!pruned.manifests.is_empty() || pruned.deleted > 0 || pruned.condemned > 0);
    let report = if changed { Report::changed(lines.join("\n")) } else { Report::seen(lines.join("\n")) };
    let removed: Vec<_> = pruned.manifests.iter().map(|(_, id)| id).collect();
    report
        .field("dry_run", dry)
        .field("decisions", decisions)
        .field("removed", removed)
        .field("condemned", pruned.condemned)
        .field("deleted", pruned.deleted)
        .field("deleted_bytes", pruned.deleted_bytes)
}
