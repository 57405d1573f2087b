use std::io::{self, IsTerminal};

use backstay_repository::Entry;
use backstay_restore::{Choices, Plan, Source, Wish, execute, plan};

use crate::arguments::Restore;
use crate::as_recorded;
use crate::chosen;
use crate::confirm;
use crate::output::plan_text;
use crate::report::{Failure, Report};
use crate::restored;
use crate::surroundings::Surroundings;
use crate::wiring::Release;

pub async fn run(surroundings: &Surroundings, arguments: Restore) -> Result<Report, Failure> {
    let release = Release::open(surroundings).await?;
    if !arguments.plan {
        restored::recover_first(&release).await?;
    }
    let entry = wanted(&release, &arguments).await?;
    let source = Source::open(&release.repository, &entry).await?;
    let wish = Wish {
        only: (!arguments.only.is_empty()).then(|| arguments.only.iter().copied().collect()),
        on_other_schema: arguments.force_schema,
    };
    let mut plan = plan(&release.site(), &source, &wish).await?;
    plan.refusals.extend(as_recorded::refusals(&release, &source, &plan).await?);
    if arguments.plan {
        return Ok(planned(&plan));
    }
    if !plan.refusals.is_empty() {
        return Err(backstay_restore::Error::Refused { refusals: plan.refusals.clone() }.into());
    }
    if plan.changing().next().is_none() {
        let text =
            format!("Everything already is as snapshot {} recorded it: there is nothing to take back.", plan.snapshot);
        return Ok(Report::seen(text).of_snapshot(&plan.snapshot));
    }
    confirm::restore(&release, &arguments.confirmation, &plan_text(&plan))?;
    let choices = Choices { max_loss: arguments.max_loss, ..restored::choices(&release) };
    let done = execute(&release.site(), &source, &plan, &choices).await;
    let done = done.map_err(|error| Failure::from(error).of_run(&release.context.run))?;
    Ok(restored::report(&release, &done))
}

/// The snapshot that was named, or chosen from a list at a terminal.
async fn wanted(release: &Release, arguments: &Restore) -> Result<Entry, Failure> {
    let named = arguments.id.as_ref().or(arguments.backup_timestamp.as_ref());
    match named {
        Some(id) => chosen::entry(&release.project, &release.repository, id).await,
        None if release.project.surroundings.everywhere.non_interactive || !io::stdin().is_terminal() => {
            Err(Failure::usage("say which snapshot: an id, `latest` or `before-deploy`")
                .hint("`backstay list` shows the snapshots"))
        }
        None => chosen::pick(&release.project, &release.repository).await,
    }
}

fn planned(plan: &Plan) -> Report {
    let report = Report::seen(plan_text(plan)).of_snapshot(&plan.snapshot).field("plan", plan);
    if plan.refusals.is_empty() {
        return report;
    }
    report.failing(backstay_restore::Error::Refused { refusals: plan.refusals.clone() }.into())
}
