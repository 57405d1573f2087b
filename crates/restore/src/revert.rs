use backstay_model::{Event, Outcome, PartName, with_causes};
use backstay_part::{Site, Standing};
use backstay_run::{Mark, Run};

use crate::activate::{in_words, standings};
use crate::course::{REVERT, Restored, Work, abandon_all, note_anyway, observed, stage_step, token};
use crate::{Error, probe};

/// Puts back what was live before, from wherever the run came to, starts it and says how it is. It is
/// tried once: what fails here is for a person, and for `recover`.
pub(crate) async fn take_back(site: &Site<'_>, mut run: Run, work: &Work, why: Vec<String>) -> Restored {
    run.enter(REVERT);
    site.context.hear(Event::StepBegan { step: REVERT.to_owned() });
    note_anyway(&mut run, REVERT, Mark::Intent, &why).await;
    // Another host has to know that this run goes back. It will find out from the parts if it must.
    if let Err(error) = run.publish().await {
        site.context.warn(with_causes(&error));
    }
    match put_back(site, &mut run, work).await {
        Err(error) => stuck(site, run, work, why, &error).await,
        Ok(()) => taken_back(site, run, work, why).await,
    }
}

/// Makes writers quiet, switches every part back that was switched, reads that back, and starts.
pub(crate) async fn put_back(site: &Site<'_>, run: &mut Run, work: &Work) -> Result<(), Error> {
    let observed = observed(run)?;
    site.workload.stop(site.context, &observed).await?;
    for name in work.parts.iter().rev() {
        let unknown = || Error::Journal { run: site.context.run.clone() };
        let part = site.part(name).ok_or_else(unknown)?;
        let staged = token(run.entries(), &stage_step(name)).ok_or_else(unknown)?;
        part.revert(site.context, &staged).await?;
        note_anyway(run, &format!("{REVERT} {name}"), Mark::Done, &()).await;
    }
    for (part, standing) in standings(site, run, work).await? {
        if standing != Standing::NotSwitched {
            return Err(Error::Refused { refusals: vec![format!("{part} {}", in_words(&standing))] });
        }
    }
    site.workload.start(site.context, &observed).await?;
    note_anyway(run, "restart", Mark::Done, &()).await;
    Ok(())
}

async fn taken_back(site: &Site<'_>, mut run: Run, work: &Work, why: Vec<String>) -> Restored {
    let condition = probe::probe(site, &mut run).await;
    let mut state = format!("what ran before runs again, {}", probe::in_words(&condition));
    let left = match clear_away(site, &mut run, work, &why).await {
        Ok(left) => left,
        Err(error) => {
            let state = format!("{state}; {}", with_causes(&error));
            let record = run.pause(Outcome::Stuck, state.clone()).await;
            return Restored { why, condition: Some(condition), ..Restored::new(site, record, state) };
        }
    };
    for (part, copies) in &left {
        let copies = copies.join(", ");
        state.push_str(&format!(
            "; the copy of {part} that was live meanwhile ({copies}) is left for what was written to it"
        ));
    }
    let left = left.into_iter().map(|(part, _)| part).collect();
    let record = run.end(Outcome::TakenBack, Some(why.join("; "))).await;
    Restored { why, condition: Some(condition), kept: left, ..Restored::new(site, record, state) }
}

/// Removes what was staged and says which copies stay. What was live for a while may be the only place
/// of what somebody wrote then, so it is not removed unasked; the journal has its name for `settle`. What
/// an undo took up is kept by the earlier run again.
async fn clear_away(
    site: &Site<'_>,
    run: &mut Run,
    work: &Work,
    why: &[String],
) -> Result<Vec<(PartName, Vec<String>)>, Error> {
    abandon_all(site, run, &work.parts, &why.join("; ")).await?;
    let mut left = Vec::new();
    for name in &work.parts {
        let Some(part) = site.part(name) else { continue };
        let copies = part.left(site.context, &site.context.run).await?;
        if !copies.is_empty() {
            run.note(&format!("left {name}"), Mark::Done, &copies).await?;
            left.push((name.clone(), copies));
        }
    }
    Ok(left)
}

async fn stuck(site: &Site<'_>, run: Run, work: &Work, mut why: Vec<String>, error: &Error) -> Restored {
    why.push(with_causes(error));
    let mut state = String::from("taking it back did not work");
    match standings(site, &run, work).await {
        Ok(standings) => {
            for (part, standing) in standings {
                state.push_str(&format!("; {part} {}", in_words(&standing)));
            }
        }
        Err(error) => state.push_str(&format!("; where the parts stand cannot be read: {}", with_causes(&error))),
    }
    let record = run.pause(Outcome::Stuck, state.clone()).await;
    Restored { why, ..Restored::new(site, record, state) }
}
