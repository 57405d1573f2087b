use backstay_config::{OnLoss as Configured, Span};
use backstay_deploy::{Decision, Deploy, Ended, Guarded, OnLoss, guard};
use backstay_model::{Outcome, Purpose};
use backstay_snapshot::SnapshotRequest;

use crate::arguments::Guard;
use crate::exit::Exit;
use crate::output::amounts;
use crate::report::{Failure, Report, State};
use crate::restored;
use crate::surroundings::Surroundings;
use crate::wiring::{Release, probes, steady};

pub async fn run(surroundings: &Surroundings, arguments: Guard) -> Result<Report, Failure> {
    let release = Release::open(surroundings).await?;
    restored::recover_first(&release).await?;
    let deploy = deploy(&release, arguments).await?;
    let guarded = guard(&release.site(), &deploy).await;
    let guarded = guarded.map_err(|error| Failure::from(error).of_run(&release.context.run))?;
    Ok(report(&release, &guarded))
}

async fn deploy(release: &Release, arguments: Guard) -> Result<Deploy, Failure> {
    let settings = &release.project.settings;
    let (mut probes, mut rule) = probes(&release.project, &release.containers).await?;
    probes.extend(steady(&release.containers));
    rule.settle = settings.guard.settle_window.duration();
    // What became ready at the last moment has to stay so as well.
    rule.timeout = settings.guard.ready_within.map_or(rule.timeout, Span::duration) + rule.settle;
    Ok(Deploy {
        words: arguments.command,
        folder: release.project.surroundings.folder.clone(),
        // Standard output belongs to the result.
        output: || std::io::stderr().into(),
        limit: settings.guard.timeout.duration(),
        fence: arguments.fence,
        on_loss: match settings.guard.on_loss {
            Configured::TakeBack => OnLoss::TakeBack,
            Configured::Ask => OnLoss::Ask,
        },
        choices: restored::choices(release),
        snapshot: SnapshotRequest {
            labels: std::collections::BTreeMap::new(),
            purpose: Purpose::BeforeDeploy,
            pin: None,
            prove: true,
            keep_warm: arguments.keep_warm,
            origin: crate::origin::read(&release.project).await,
            skip_if_unchanged: false,
            health: None,
            not_covered: release.not_covered.clone(),
        },
        probes,
        rule,
    })
}

fn report(release: &Release, guarded: &Guarded) -> Report {
    let mut lines = vec![sentence(guarded)];
    lines.push(format!("  before the deploy: snapshot {}, proven", guarded.snapshot));
    lines.push(format!("  the command: {}", command(&guarded.ended)));
    if guarded.ended == Ended::Well {
        lines.push(format!("  health: {}", restored::health(&guarded.condition)));
    }
    let mut report = match &guarded.restored {
        Some(done) => {
            let inner = restored::report(release, done);
            lines.push(inner.text.clone());
            Report { text: String::new(), exit: Exit::Done, outcome: Outcome::Done, error: None, ..inner }
        }
        None => Report::seen(""),
    };
    report.text = lines.join("\n");
    report.changed = guarded.decision != Decision::NothingToTakeBack;
    let report = report
        .of_run(&guarded.run)
        .of_snapshot(&guarded.snapshot)
        .field("decision", decision(guarded.decision))
        .field("command_exit", exit_code(&guarded.ended))
        .field("rows_written", guarded.rows_written)
        .field("condition", &guarded.condition);
    match failure(guarded) {
        Some(failure) => report.failing(failure),
        None => report,
    }
}

fn sentence(guarded: &Guarded) -> String {
    match (guarded.decision, guarded.outcome) {
        (Decision::Keep, _) => "The deploy is done and healthy.".to_owned(),
        (Decision::NothingToTakeBack, _) => {
            "The deploy failed before it changed anything: nothing was taken back.".to_owned()
        }
        (Decision::TakeBackWhole, Outcome::TakenBack) => {
            "The deploy failed and was taken back, the database as well.".to_owned()
        }
        (Decision::TakeBackAroundDatabase, Outcome::TakenBack) => {
            "The deploy failed and was taken back, but for the database: its schema fits, so no row was touched."
                .to_owned()
        }
        _ => "The deploy failed, and a person has to decide.".to_owned(),
    }
}

fn failure(guarded: &Guarded) -> Option<Failure> {
    let why = match &guarded.condition {
        _ if guarded.ended != Ended::Well => command(&guarded.ended),
        condition => restored::health(condition),
    };
    let back = format!("`backstay restore {} --yes` takes everything back", guarded.snapshot);
    match guarded.outcome {
        Outcome::Done => None,
        Outcome::TakenBack => {
            let failure =
                Failure::new(Exit::TakenBack, format!("the deploy was taken back: {why}")).of_run(&guarded.run);
            Some(Failure { state: State::TakenBack, ..failure }.hint("mend the deploy and run it again"))
        }
        Outcome::Failed | Outcome::Refused => {
            let failure = Failure::new(Exit::Failed, format!("the deploy failed: {why}")).of_run(&guarded.run);
            Some(failure.hint("there is nothing to clean up: mend the deploy and run it again"))
        }
        Outcome::Stuck => {
            let rows = guarded.rows_written.map_or("an unknown number of rows were".to_owned(), |rows| {
                amounts::counted(rows, "row was", "rows were")
            });
            let failure =
                Failure::new(Exit::Stuck, format!("the deploy failed: {why}")).of_run(&guarded.run).hint(back);
            let state = match &guarded.restored {
                Some(done) => done.state.clone(),
                None => format!(
                    "the new release is live as the deploy left it; {rows} written since the snapshot and would go with the database"
                ),
            };
            Some(Failure { state: State::Changed(state), ..failure })
        }
    }
}

fn command(ended: &Ended) -> String {
    match ended {
        Ended::Well => "exit 0".to_owned(),
        Ended::Badly(code) => format!("exit {code}"),
        Ended::Signalled(signal) => format!("ended by signal {signal}"),
        Ended::OutOfTime => "ended because its time was up".to_owned(),
        Ended::Interrupted => "ended because guard was asked to stop".to_owned(),
        Ended::NotStarted(why) => format!("could not be started: {why}"),
    }
}

fn exit_code(ended: &Ended) -> Option<i32> {
    match ended {
        Ended::Well => Some(0),
        Ended::Badly(code) => Some(*code),
        Ended::Signalled(signal) => Some(128 + signal),
        Ended::OutOfTime | Ended::Interrupted | Ended::NotStarted(_) => None,
    }
}

fn decision(decision: Decision) -> &'static str {
    match decision {
        Decision::Keep => "keep",
        Decision::NothingToTakeBack => "nothing_to_take_back",
        Decision::TakeBackWhole => "take_back_whole",
        Decision::TakeBackAroundDatabase => "take_back_around_database",
        Decision::Ask => "ask",
    }
}

#[cfg(test)]
mod tests {
    use backstay_part::Condition;

    use super::*;

    #[test]
    fn a_deploy_that_was_taken_back_is_never_a_success() {
        for (outcome, decision) in [
            (Outcome::TakenBack, Decision::TakeBackWhole),
            (Outcome::TakenBack, Decision::TakeBackAroundDatabase),
            (Outcome::Failed, Decision::NothingToTakeBack),
            (Outcome::Stuck, Decision::Ask),
            (Outcome::Stuck, Decision::TakeBackWhole),
        ] {
            let guarded = Guarded {
                run: "20251022_153000_4f2a".parse().unwrap(),
                snapshot: "20251022_153000".parse().unwrap(),
                ended: Ended::Well,
                condition: Condition::Healthy,
                decision,
                restored: None,
                outcome,
                rows_written: None,
            };
            assert!(failure(&guarded).is_some_and(|failure| failure.exit != Exit::Done), "{outcome:?}");
        }
    }
}
