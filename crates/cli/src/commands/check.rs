use backstay_model::RunId;
use backstay_repository::{CheckReport, LeasePurpose, check_without_key};
use serde_json::json;

use crate::arguments::Check;
use crate::chosen;
use crate::exit::Exit;
use crate::output::amounts;
use crate::report::{Failure, Report};
use crate::surroundings::Surroundings;
use crate::wiring::{Project, open_store};

const EVERYTHING: u8 = 100;

pub async fn run(surroundings: &Surroundings, arguments: Check) -> Result<Report, Failure> {
    let project = Project::find(surroundings)?;
    if arguments.without_key {
        let store = open_store(&project.settings.repository.place).await?;
        return Ok(report(&check_without_key(&store).await?, None));
    }
    let repository = project.repository().await?;
    let context = project.context();
    let wait = project.settings.repository.lease_wait.duration();
    let id = match &arguments.id {
        Some(id) => Some(chosen::entry(&project, &repository, id).await?.manifest.id),
        None => None,
    };
    let lease = repository.lease(LeasePurpose::Read, &context.run, wait, context.listener.as_ref()).await?;
    let environment = id.as_ref().map(|_| &context.environment);
    let found = repository.check(environment, id.as_ref(), arguments.sample.unwrap_or(EVERYTHING)).await;
    lease.release().await;
    let found = found?;
    // A repository that can only be read is checked all the same; the verdict then is only said.
    if let Err(error) = repository.add_check_verdicts(&found, &context.run).await {
        context.warn(format!("the verdict could not be recorded: {error}"));
    }
    Ok(report(&found, Some(&context.run)))
}

fn report(found: &CheckReport, run: Option<&RunId>) -> Report {
    let mut lines = vec![format!(
        "Read {} in {}{}.",
        amounts::counted(found.examined, "object", "objects"),
        amounts::bytes(found.bytes),
        if found.left_out > 0 { format!(", left out {}", amounts::number(found.left_out)) } else { String::new() }
    )];
    let damage: Vec<_> = found.damage.iter().map(|damage| json!({"key": damage.key, "flaw": damage.flaw.to_string(), "object": damage.object, "snapshots": damage.snapshots.iter().map(|(environment, id)| format!("{environment}/{id}")).collect::<Vec<_>>()})).collect();
    if found.is_good() {
        lines.push("Every byte is as it was stored.".to_owned());
    }
    let report = Report::seen(lines.join("\n"))
        .field("examined", found.examined)
        .field("bytes", found.bytes)
        .field("left_out", found.left_out)
        .field("damage", damage);
    let report = match run {
        Some(run) => report.of_run(run),
        None => report,
    };
    if found.is_good() {
        return report;
    }
    let mut failure = Failure::new(
        Exit::Damaged,
        format!("{} damaged", amounts::counted(found.damage.len() as u64, "stored thing is", "stored things are")),
    );
    failure.what.extend(found.damage.iter().map(ToString::to_string));
    let failure = failure
        .hint("`backstay list` shows which snapshots are still good; the next snapshot stores the damaged bytes again");
    report.failing(failure)
}
