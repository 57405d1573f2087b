use backstay_model::{Event, Outcome, PartKind, PartName};
use backstay_part::{Site, Standing};
use backstay_run::{Mark, Run, Steps};

use crate::activate::{in_words, standings};
use crate::course::{REVERT, Restored, START, Work, abandon_all, note_anyway, observed, stage_step, token};
use crate::error::chain;
use crate::{Error, probe};

/// Puts back what was live before, from wherever the run came to, starts it and says how it is. It is
/// tried once: what fails here is for a person, and for `recover`.
pub(crate) async fn take_back(site: &Site<'_>, mut run: Run, work: &Work, why: Vec<String>) -> Restored {
    run.enter(REVERT);
    site.context.hear(Event::StepBegan { step: REVERT.to_owned() });
    note_anyway(&mut run, REVERT, Mark::Intent, &why).await;
    // Another host has to know that this run goes back. It will find out from the parts if it must.
    if let Err(error) = run.publish().await {
        site.context.warn(chain(&error));
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
    let left = written_to(site, &run, work);
    let away: Vec<PartName> = work.parts.iter().filter(|name| !left.contains(name)).cloned().collect();
    let mut state = format!("what ran before runs again, {}", probe::in_words(&condition));
    for part in &left {
        note_anyway(&mut run, &format!("left {part}"), Mark::Done, &()).await;
        state.push_str(&format!("; the copy of {part} that ran meanwhile is left for what was written to it"));
    }
    if let Err(error) = abandon_all(site, &run, &away, &why.join("; ")).await {
        let state = format!("{state}; {}", chain(&error));
        let record = run.pause(Outcome::Stuck, state.clone()).await;
        return Restored { why, condition: Some(condition), ..Restored::new(site, record, state) };
    }
    let record = run.end(Outcome::TakenBack, Some(why.join("; "))).await;
    Restored { why, condition: Some(condition), kept: left, ..Restored::new(site, record, state) }
}

/// The databases that writers had for a while before they were taken away again. Their copies are
/// the only place of those writes, so they are not removed unasked. What an undo took up is kept by
/// the earlier run again.
fn written_to(site: &Site<'_>, run: &Run, work: &Work) -> Vec<PartName> {
    if run.record().command == "undo" || run.entries().intended(START).is_none() {
        return Vec::new();
    }
    let database = |name: &&PartName| site.part(name).is_some_and(|part| part.kind() == PartKind::Database);
    work.parts.iter().filter(database).cloned().collect()
}

async fn stuck(site: &Site<'_>, run: Run, work: &Work, mut why: Vec<String>, error: &Error) -> Restored {
    why.push(chain(error));
    let mut state = String::from("taking it back did not work");
    match standings(site, &run, work).await {
        Ok(standings) => {
            for (part, standing) in standings {
                state.push_str(&format!("; {part} {}", in_words(&standing)));
            }
        }
        Err(error) => state.push_str(&format!("; where the parts stand cannot be read: {}", chain(&error))),
    }
    let record = run.pause(Outcome::Stuck, state.clone()).await;
    Restored { why, ..Restored::new(site, record, state) }
}
