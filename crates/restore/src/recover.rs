use backstay_model::{Outcome, PartName, RunId};
use backstay_part::{Site, Standing};
use backstay_repository::LeasePurpose;
use backstay_run::{Claim, Context, GUARDED, Run, Steps, Unfinished, unfinished};
use serde::Serialize;

use crate::activate::{in_words, not_all_switched, standings};
use crate::course::{FENCE, REVERT, Restored, Work, abandon_all, observed};
use crate::execute::finish;
use crate::way::{InTheWay, goes_on_beside, is_ours};
use crate::{Error, revert, settle};

/// Where a run that had died was brought to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It had changed nothing; what it staged is gone.
    Abandoned,
    /// What it was about to bring runs.
    Finished,
    /// What ran before it runs again.
    TakenBack,
    /// What it had committed stands, and the next run of its command goes on from there.
    Stands,
    /// A person is needed.
    Undecided,
}

/// How a recovery ended.
#[derive(Debug, Clone, Serialize)]
pub struct Recovered {
    pub run: RunId,
    pub command: String,
    pub ending: Ending,
    /// What is so now, in words.
    pub state: String,
    /// More of it, where the run had come to the fence.
    pub restored: Option<Restored>,
}

/// Ends the newest unfinished run, or the one that is named, in old or in new. Nothing where all runs
/// have ended.
pub async fn recover(site: &Site<'_>, which: Option<&RunId>) -> Result<Option<Recovered>, Error> {
    let purpose = LeasePurpose::Change(site.context.environment.clone());
    let claim = Claim::take(site.context, site.repository, site.lent, purpose, site.lease_wait).await?;
    let recovered = recover_under(site, claim.lender(), which).await;
    claim.release().await;
    recovered
}

async fn recover_under(
    site: &Site<'_>,
    lender: Option<&RunId>,
    which: Option<&RunId>,
) -> Result<Option<Recovered>, Error> {
    let mut found = unfinished(site.context, site.repository, site.journals, true).await?;
    found.retain(|run| lender != Some(&run.record.id));
    let dead = match which {
        Some(wanted) => found.into_iter().find(|run| run.record.id == *wanted),
        None => found.into_iter().find(|run| !goes_on_beside(run)),
    };
    let dead = match (dead, which) {
        (Some(dead), _) => dead,
        (None, Some(run)) => return Err(Error::NoSuchRun { run: run.clone() }),
        (None, None) => return Ok(None),
    };
    if dead.alive == Some(true) || !is_ours(&dead) {
        return Err(Error::InTheWay(Box::new(InTheWay::new(&dead))));
    }
    recover_one(site, &dead).await.map(Some)
}

/// Goes on with a dead run under its own id. The caller holds the lease.
pub(crate) async fn recover_one(site: &Site<'_>, dead: &Unfinished) -> Result<Recovered, Error> {
    let run = Run::resume(site.context, site.repository, site.journals, dead).await?;
    let context = Context { run: dead.record.id.clone(), ..site.context.clone() };
    let site = &site.within(&context);
    if let Some(outcome) = dead.ended_elsewhere {
        return follow(site, run, dead, outcome).await;
    }
    match dead.record.command.as_str() {
        "settle" => settle::go_on(site, run).await,
        "restore" | "undo" if run.entries().intended(FENCE).is_some() => go_on(site, run, dead).await,
        "guard" if run.entries().intended(GUARDED).is_some() => after_a_guard(site, run).await,
        "guard" if run.entries().intended(FENCE).is_some() => open_a_guards_fence(site, run).await,
        "migrate run" | "migrate down" => leave_as_it_stands(run).await,
        _ => abandon(site, run).await,
    }
}

/// The server has rolled back what was not committed, and the history in the database says what was:
/// there is nothing to end that the next migration does not end by itself.
async fn leave_as_it_stands(run: Run) -> Result<Recovered, Error> {
    let (id, command) = (run.record().id.clone(), run.record().command.clone());
    let mut state =
        "what it had committed stands, the rest was rolled back; `backstay migrate status` says which, and \
                     the next `backstay migrate run` goes on from there"
            .to_owned();
    if let Some(before) = &run.record().snapshot {
        state = format!("{state}; `backstay restore {before} --only database` takes all of it back");
    }
    run.end(Outcome::Stuck, Some(format!("died; {state}"))).await;
    Ok(Recovered { run: id, command, ending: Ending::Stands, state, restored: None })
}

/// The deploy had not begun, and what was stopped for it runs again.
async fn open_a_guards_fence(site: &Site<'_>, run: Run) -> Result<Recovered, Error> {
    let seen = observed(&run)?;
    site.workload.start(site.context, &seen).await?;
    let mut recovered = abandon(site, run).await?;
    recovered.state = format!("{}; what it had stopped runs again", recovered.state);
    Ok(recovered)
}

/// Where its own restore came to its end, or was brought there, the deploy has been taken back.
async fn after_a_guard(site: &Site<'_>, run: Run) -> Result<Recovered, Error> {
    let (id, before) = (run.record().id.clone(), run.record().snapshot.clone());
    let records = crate::history(site).await?;
    let took_back = |record: &&backstay_model::RunRecord| {
        record.command == "restore" && record.outcome == Some(Outcome::Done) && record.id > id
    };
    let Some(restore) = records.iter().filter(took_back).find(|record| record.snapshot == before) else {
        return leave_to_a_person(site, run).await;
    };
    let state = format!("run {} has taken the guarded deploy back", restore.id);
    let command = run.record().command.clone();
    run.end(Outcome::TakenBack, Some(format!("died; {state}"))).await;
    Ok(Recovered { run: id, command, ending: Ending::TakenBack, state, restored: None })
}

/// A guarded deploy that was cut off may have done anything. What it did stands; what was before it is
/// in the snapshot, and the way back is a restore like any other.
async fn leave_to_a_person(site: &Site<'_>, run: Run) -> Result<Recovered, Error> {
    let (id, command) = (run.record().id.clone(), run.record().command.clone());
    let before = run.record().snapshot.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut state = format!(
        "the guarded deploy was cut off, and what it did stands; the release from before it is snapshot {before}: \
         `backstay restore {before}` takes it back"
    );
    let still = stand_still(site, &run).await;
    if !still.is_empty() {
        state = format!("{state}; stopped for the deploy and not running: {}", still.join(", "));
    }
    run.end(Outcome::Stuck, Some(state.clone())).await;
    Ok(Recovered { run: id, command, ending: Ending::Undecided, state, restored: None })
}

/// What a guard had stopped for its deploy and nobody has started since.
async fn stand_still(site: &Site<'_>, run: &Run) -> Vec<String> {
    let stopped = run.entries().done(FENCE).cloned().unwrap_or_default();
    let stopped: Vec<String> = serde_json::from_value(stopped).unwrap_or_default();
    // Who cannot look says what is certain: it was stopped.
    let running = site.workload.running(site.context).await.unwrap_or_default();
    stopped.into_iter().filter(|service| !running.contains(service)).collect()
}

async fn abandon(site: &Site<'_>, run: Run) -> Result<Recovered, Error> {
    let every: Vec<PartName> = site.parts.iter().map(|part| part.name().clone()).collect();
    let (id, command) = (run.record().id.clone(), run.record().command.clone());
    abandon_all(site, &run, &every, "the run died").await?;
    let state = "it had changed nothing, and what it staged is gone".to_owned();
    run.end(Outcome::Failed, Some(format!("died; {state}"))).await;
    Ok(Recovered { run: id, command, ending: Ending::Abandoned, state, restored: None })
}

async fn go_on(site: &Site<'_>, run: Run, dead: &Unfinished) -> Result<Recovered, Error> {
    let work = work_of(dead)?;
    let restored = match direction(site, &run, &work).await? {
        Direction::On => finish(site, run, &work).await,
        Direction::Back(why) => revert::take_back(site, run, &work, why).await,
        Direction::Unclear(why) => {
            let state = why.join("; ");
            let record = run.pause(Outcome::Stuck, state.clone()).await;
            Restored { why, ..Restored::new(site, record, state) }
        }
    };
    let ending = match restored.outcome {
        Outcome::Done => Ending::Finished,
        Outcome::TakenBack => Ending::TakenBack,
        _ => Ending::Undecided,
    };
    let (run, command) = (restored.run.clone(), restored.command.clone());
    Ok(Recovered { run, command, ending, state: restored.state.clone(), restored: Some(restored) })
}

/// The run's record says how it ended: another host saw to that, or it died with the last line of its
/// journal unwritten. What lives on this host alone has to end the same way.
async fn follow(site: &Site<'_>, run: Run, dead: &Unfinished, outcome: Outcome) -> Result<Recovered, Error> {
    let state = format!("it had ended already: {}", dead.record.remark.as_deref().unwrap_or("without a word"));
    let (id, command) = (run.record().id.clone(), run.record().command.clone());
    let recovered = |ending| Recovered { run: id, command, ending, state, restored: None };
    if outcome == Outcome::Done {
        run.close().await?;
        return Ok(recovered(Ending::Finished));
    }
    let mut run = run;
    let every: Vec<PartName> = site.parts.iter().map(|part| part.name().clone()).collect();
    if run.entries().intended(FENCE).is_some() {
        let work = work_of(dead)?;
        let standings = standings(site, &run, &work).await?;
        if standings.iter().any(|(_, standing)| matches!(standing, Standing::Switched | Standing::Half(_))) {
            revert::put_back(site, &mut run, &work).await?;
        }
    }
    abandon_all(site, &run, &every, "the run ended").await?;
    run.close().await?;
    Ok(recovered(if outcome == Outcome::TakenBack { Ending::TakenBack } else { Ending::Abandoned }))
}

fn work_of(dead: &Unfinished) -> Result<Work, Error> {
    let work = dead.work().and_then(|work| serde_json::from_value::<Work>(work).ok());
    work.ok_or_else(|| Error::Journal { run: dead.record.id.clone() })
}

enum Direction {
    On,
    Back(Vec<String>),
    Unclear(Vec<String>),
}

/// Who had decided to go back goes back. Otherwise the parts say: where all are switched the rest is
/// to start and to look; where not, the old side is whole and has the newest writes, so it goes back.
async fn direction(site: &Site<'_>, run: &Run, work: &Work) -> Result<Direction, Error> {
    if let Some(why) = run.entries().intended(REVERT) {
        return Ok(Direction::Back(serde_json::from_value(why.clone()).unwrap_or_default()));
    }
    let standings = standings(site, run, work).await?;
    let unclear = standings.iter().filter(|(_, standing)| matches!(standing, Standing::Unclear(_)));
    let unclear: Vec<String> = unclear.map(|(part, standing)| format!("{part} {}", in_words(standing))).collect();
    if !unclear.is_empty() {
        return Ok(Direction::Unclear(unclear));
    }
    if not_all_switched(&standings).is_empty() {
        return Ok(Direction::On);
    }
    Ok(Direction::Back(vec!["the run died before everything was switched".to_owned()]))
}
