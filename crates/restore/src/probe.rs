use backstay_model::{Event, with_causes};
use backstay_part::{Condition, Site};
use backstay_run::{Mark, Run};

use crate::Error;
use crate::course::{PROBE, START, Work, note_anyway, observed};

/// Starts what was stopped, on what is live now.
pub(crate) async fn start(site: &Site<'_>, run: &mut Run) -> Result<(), Error> {
    run.enter(START);
    let observed = observed(run)?;
    site.context.hear(Event::StepBegan { step: START.to_owned() });
    run.note(START, Mark::Intent, &()).await?;
    site.workload.start(site.context, &observed).await?;
    run.note(START, Mark::Done, &()).await?;
    site.context.hear(Event::StepEnded { step: START.to_owned(), remark: None });
    Ok(())
}

/// Looks whether it is healthy. Who cannot look does not know.
pub(crate) async fn probe(site: &Site<'_>, run: &mut Run) -> Condition {
    run.enter(PROBE);
    site.context.hear(Event::StepBegan { step: PROBE.to_owned() });
    let looked = site.workload.probe(site.context).await;
    let condition = looked.unwrap_or_else(|error| Condition::Undecided { why: with_causes(&error) });
    note_anyway(run, PROBE, Mark::Done, &condition).await;
    site.context.hear(Event::StepEnded { step: PROBE.to_owned(), remark: Some(in_words(&condition)) });
    condition
}

/// Why what was found means going back. Not knowing is no reason to go back to what was left.
pub(crate) fn judge(condition: &Condition, work: &Work) -> Result<(), Vec<String>> {
    match condition {
        Condition::Unhealthy { failures } if !work.choices.keep_unhealthy => Err(failures.clone()),
        _ => Ok(()),
    }
}

pub(crate) fn in_words(condition: &Condition) -> String {
    match condition {
        Condition::Healthy => "healthy".to_owned(),
        Condition::Unhealthy { failures } => format!("unhealthy: {}", failures.join("; ")),
        Condition::Undecided { why } => format!("undecided: {why}"),
    }
}
