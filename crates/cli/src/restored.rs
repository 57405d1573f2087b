//! What restore, undo and recover say of how they ended.

use backstay_config::Unhealthy;
use backstay_model::{Loss, Outcome, RunId};
use backstay_part::Condition;
use backstay_restore::{Choices, Ending, Recovered, Restored, recover};

use crate::exit::Exit;
use crate::output::{amounts, loss_text};
use crate::report::{Failure, Report, State};
use crate::wiring::Release;

/// What the settings choose for every switch.
pub fn choices(release: &Release) -> Choices {
    Choices { max_loss: None, keep_unhealthy: release.project.settings.restore.unhealthy == Unhealthy::Keep }
}

/// A run that died before this one is ended first: nothing is built upon half a switch.
pub async fn recover_first(release: &Release) -> Result<(), Failure> {
    while let Some(recovered) = recover(&release.site(), None).await? {
        let text =
            format!("first ended run {} ({}), which had died: {}", recovered.run, recovered.command, recovered.state);
        if recovered.ending == Ending::Undecided {
            return Err(stuck(&recovered, &text));
        }
        release.project.surroundings.printer.note(&text);
    }
    Ok(())
}

/// The result of a restore that came to the fence.
pub fn report(release: &Release, done: &Restored) -> Report {
    told(release, done, sentence(done))
}

/// The result of an undo. What is live is what the undone run replaced, which is no snapshot's release.
pub fn report_undo(release: &Release, done: &Restored, undoes: &RunId) -> Report {
    let text = match done.outcome {
        Outcome::Done => format!("Done: what run {undoes} replaced is live again, and was read back."),
        _ => sentence(done),
    };
    told(release, done, text).field("undoes", undoes)
}

fn told(release: &Release, done: &Restored, first: String) -> Report {
    let mut lines = vec![first];
    if let Some(condition) = &done.condition {
        lines.push(format!("  health: {}", health(condition)));
    }
    if let Some(loss) = &done.loss {
        lines.push(loss_text(loss));
    }
    if !done.kept.is_empty() {
        let kept = done.kept.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if done.outcome == Outcome::Done {
            lines.push(format!("  kept: what was replaced of {kept}"));
            lines.push("  next: `backstay undo` puts it back, `backstay settle` lets go of it".to_owned());
        } else {
            lines.push(format!("  left: the copy of {kept} that was live meanwhile, with what was written to it"));
            lines.push("  next: look what it holds, then `backstay settle --discard` drops it".to_owned());
        }
    }
    for phase in &done.phases {
        lines.push(format!("  {:<10} {:>7} ms", phase.name, amounts::number(phase.milliseconds)));
    }
    let mut report = Report::changed(lines.join("\n"))
        .of_run(&done.run)
        .field("state", &done.state)
        .field("loss", &done.loss)
        .field("rows_lost", done.loss.as_ref().map(Loss::rows))
        .field("kept", &done.kept)
        .field("phases", &done.phases);
    report.snapshot = done.snapshot.clone();
    finish(release, report, done)
}

fn sentence(done: &Restored) -> String {
    match (done.outcome, &done.snapshot) {
        (Outcome::Done, _) if done.command == "undo" => {
            "Done: what ran before is live again, and was read back.".to_owned()
        }
        (Outcome::Done, Some(snapshot)) => {
            format!("Done: the release of snapshot {snapshot} is live, and was read back.")
        }
        (Outcome::Done, None) => "Done: what ran before is live again, and was read back.".to_owned(),
        (Outcome::TakenBack, _) => {
            "It did not go well, and everything was taken back: what ran before runs again.".to_owned()
        }
        _ => format!("Not finished: {}", done.state),
    }
}

fn finish(release: &Release, report: Report, done: &Restored) -> Report {
    let exit = match done.outcome {
        Outcome::Done if done.interrupted => {
            release
                .project
                .surroundings
                .printer
                .note("asked to stop after the switch had begun: it was finished instead");
            Exit::Done
        }
        Outcome::Done => return unless_unhealthy(report, done),
        Outcome::TakenBack => Exit::TakenBack,
        Outcome::Stuck => Exit::Stuck,
        Outcome::Refused => Exit::Refused,
        Outcome::Failed => Exit::Failed,
    };
    if exit == Exit::Done {
        return report;
    }
    let first = format!("run {} did not reach its end", done.run);
    let failure = Failure {
        exit,
        what: std::iter::once(first).chain(done.why.iter().cloned()).collect(),
        state: if exit == Exit::TakenBack { State::TakenBack } else { State::Changed(done.state.clone()) },
        hints: match exit {
            Exit::TakenBack if done.kept.is_empty() => {
                vec!["mend the cause and run it again; nothing is left to clean up".to_owned()]
            }
            Exit::TakenBack => vec!["mend the cause and run it again; what is left is in no way".to_owned()],
            _ => vec!["`backstay recover` tries to end it; `backstay` says how it stands".to_owned()],
        },
        run: Some(done.run.clone()),
    };
    report.failing(failure)
}

/// What was brought back stays where its health is not known or was to be kept, and it is not called a success.
fn unless_unhealthy(report: Report, done: &Restored) -> Report {
    match &done.condition {
        None | Some(Condition::Healthy) => report,
        Some(condition) => {
            let mut failure = Failure::new(
                Exit::Unhealthy,
                format!("it runs, and is not known to be healthy: {}", health(condition)),
            )
            .of_run(&done.run)
            .hint("`backstay health` looks again; `backstay undo` puts back what ran before");
            failure.state = State::Changed(done.state.clone());
            // It is done all the same: the exit code says that it is not well.
            Report { outcome: done.outcome, ..report.failing(failure) }
        }
    }
}

pub fn recovered_in_words(recovered: &Recovered) -> String {
    let words = match recovered.ending {
        Ending::Abandoned => "had changed nothing",
        Ending::Finished => "was finished: the new state is live",
        Ending::TakenBack => "was taken back: the state from before is live",
        Ending::Stands => "had died in the middle",
        Ending::Undecided => "needs a person",
    };
    format!("Run {} ({}) {words}.\n  {}", recovered.run, recovered.command, recovered.state)
}

/// How a recovery ended.
pub fn recovered(release: &Release, recovered: &Recovered) -> Report {
    let text = recovered_in_words(recovered);
    let report =
        Report::changed(text).of_run(&recovered.run).field("ending", recovered.ending).field("state", &recovered.state);
    if recovered.ending == Ending::Undecided {
        return report.failing(stuck(recovered, &recovered.state));
    }
    if let Some(done) = &recovered.restored
        && let Some(condition) = &done.condition
        && *condition != Condition::Healthy
    {
        release.project.surroundings.printer.note(&format!("warning: health: {}", health(condition)));
    }
    report
}

fn stuck(recovered: &Recovered, state: &str) -> Failure {
    let first = "the run cannot be ended without a person".to_owned();
    let why = recovered.restored.iter().flat_map(|done| done.why.iter().cloned());
    Failure {
        exit: Exit::Stuck,
        what: std::iter::once(first).chain(why).collect(),
        state: State::Changed(state.to_owned()),
        hints: vec!["docs/runbooks/by-hand.md says how to look, and how to end it by hand".to_owned()],
        run: Some(recovered.run.clone()),
    }
}

pub fn health(condition: &Condition) -> String {
    match condition {
        Condition::Healthy => "healthy".to_owned(),
        Condition::Unhealthy { failures } => format!("UNHEALTHY: {}", failures.join("; ")),
        Condition::Undecided { why } => format!("undecided: {why}"),
    }
}
