use backstay_model::{Event, Loss, PartName, with_causes};
use backstay_part::{Comparison, Site, Standing};
use backstay_run::{Mark, Run, Steps};

use crate::course::{COMPARE, Work, activate_step, stage_step, token};
use crate::{Error, plan};

/// Switches every part that is not switched yet, each in one short step that can be taken back.
pub(crate) async fn activate_all(site: &Site<'_>, run: &mut Run, work: &Work) -> Result<(), Error> {
    run.enter("activate");
    for name in &work.parts {
        let unknown = || Error::Journal { run: site.context.run.clone() };
        let part = site.part(name).ok_or_else(unknown)?;
        let step = activate_step(name);
        if run.entries().done(&step).is_some() {
            continue;
        }
        let staged = token(run.entries(), &stage_step(name)).ok_or_else(unknown)?;
        site.context.hear(Event::StepBegan { step: step.clone() });
        run.note(&step, Mark::Intent, &()).await?;
        let activated = part.activate(site.context, &staged).await?;
        run.note(&step, Mark::Done, &activated).await?;
        site.context.hear(Event::StepEnded { step, remark: None });
    }
    Ok(())
}

/// Where every part stands, read from the parts themselves.
pub(crate) async fn standings(site: &Site<'_>, run: &Run, work: &Work) -> Result<Vec<(PartName, Standing)>, Error> {
    let mut standings = Vec::new();
    for name in &work.parts {
        let unknown = || Error::Journal { run: site.context.run.clone() };
        let part = site.part(name).ok_or_else(unknown)?;
        let staged = token(run.entries(), &stage_step(name)).ok_or_else(unknown)?;
        standings.push((name.clone(), part.standing(site.context, &staged).await?));
    }
    Ok(standings)
}

/// Holds on to both sides of the switch as they are now.
pub(crate) async fn both_sides<'a>(site: &'a Site<'a>, run: &Run, work: &Work) -> Result<Vec<Comparison<'a>>, Error> {
    let mut comparisons = Vec::new();
    for name in &work.parts {
        let activated = token(run.entries(), &activate_step(name));
        if let (Some(part), Some(activated)) = (site.part(name), activated) {
            comparisons.extend(part.compare(site.context, &activated).await?);
        }
    }
    Ok(comparisons)
}

/// What the switch took away, counted row by row. An error is for who set a limit.
pub(crate) async fn loss(
    site: &Site<'_>,
    run: &mut Run,
    sides: Result<Vec<Comparison<'_>>, Error>,
) -> Result<Option<Loss>, Error> {
    run.enter(COMPARE);
    site.context.hear(Event::StepBegan { step: COMPARE.to_owned() });
    let mut losses = Vec::new();
    for comparison in sides? {
        losses.push(comparison.await?);
    }
    site.context.hear(Event::StepEnded { step: COMPARE.to_owned(), remark: None });
    Ok(plan::together(&losses))
}

/// What went wrong, where not all parts are switched.
pub(crate) fn not_all_switched(standings: &[(PartName, Standing)]) -> Vec<String> {
    let wrong = standings.iter().filter(|(_, standing)| !matches!(standing, Standing::Switched | Standing::Settled));
    wrong.map(|(part, standing)| format!("{part} {}", in_words(standing))).collect()
}

pub(crate) fn in_words(standing: &Standing) -> String {
    match standing {
        Standing::NotSwitched => "is as it was before".to_owned(),
        Standing::Half(where_) => format!("is half switched: {where_}"),
        Standing::Switched => "is switched, and what it was is kept".to_owned(),
        Standing::Settled => "is switched, and what it was is gone".to_owned(),
        Standing::Unclear(why) => format!("is not as anybody left it: {why}"),
    }
}

/// The loss, or why it is not known.
pub(crate) fn judge_loss(loss: &Result<Option<Loss>, Error>, work: &Work) -> Result<(), String> {
    let Some(max) = work.choices.max_loss else { return Ok(()) };
    match loss {
        Err(error) => Err(format!("{}: {}", Error::LossUnknown { max }, with_causes(error))),
        Ok(Some(loss)) if loss.rows() > max => Err(Error::TooMuchLoss { rows: loss.rows(), max }.to_string()),
        Ok(_) => Ok(()),
    }
}
