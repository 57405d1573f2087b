use backstay_model::{Loss, Outcome, PartKind, PartName, PartPlan, SnapshotId, with_causes};
use backstay_part::{Condition, Site};
use backstay_repository::LeasePurpose;
use backstay_run::{Beginning, Claim, Run};

use crate::activate::{activate_all, both_sides, judge_loss, loss, not_all_switched, standings};
use crate::course::{Choices, Restored, Work, abandon_all, encode};
use crate::{Error, Plan, Source, fence, plan, probe, revert, stage, status, way};

/// Carries a plan out. An error means that nothing changed; whatever ends after the fence, well or
/// not, is told by what is returned.
pub async fn execute(site: &Site<'_>, source: &Source, plan: &Plan, choices: &Choices) -> Result<Restored, Error> {
    let purpose = LeasePurpose::Change(site.context.environment.clone());
    let claim = Claim::take(site.context, site.repository, site.lent, purpose, site.lease_wait).await?;
    let restored = execute_under(site, &claim, source, plan, choices).await;
    claim.release().await;
    restored
}

async fn execute_under(
    site: &Site<'_>,
    claim: &Claim<'_>,
    source: &Source,
    plan: &Plan,
    choices: &Choices,
) -> Result<Restored, Error> {
    way::clear(site, claim.lender()).await?;
    let fresh = plan.renewed(site, source).await?;
    limit_loss(&fresh, choices)?;
    let parts: Vec<PartName> = fresh.iter().filter(|part| !part.unchanged).map(|part| part.part.clone()).collect();
    let work = Work { parts, choices: *choices };
    let before = status::behind_what_runs(site).await?;
    let mut run = begin(site, &plan.snapshot, before, &work).await?;
    if work.parts.is_empty() {
        let state = "everything is as it was recorded; nothing had to be switched".to_owned();
        let record = run.end(Outcome::Done, Some(state.clone())).await;
        return Ok(Restored::new(site, record, state));
    }
    let ready = match stage::stage_and_prove(site, &mut run, source, &work.parts).await {
        Ok(()) => plan.renewed(site, source).await.map(drop),
        failed => failed,
    };
    let ready = match ready {
        Ok(()) => fence::prepare(site, &mut run, claim.lease()).await,
        failed => failed,
    };
    match ready {
        Err(error) => Err(give_up(site, run, &work.parts, error).await),
        Ok(()) => Ok(switch(site, run, &work, claim).await),
    }
}

async fn begin(site: &Site<'_>, snapshot: &SnapshotId, before: Option<SnapshotId>, work: &Work) -> Result<Run, Error> {
    let work = encode(site, work)?;
    let beginning = Beginning { command: "restore", snapshot: Some(snapshot.clone()), before, undoes: None, work };
    Ok(Run::begin(site.context, site.repository, site.journals, beginning).await?)
}

fn limit_loss(fresh: &[PartPlan], choices: &Choices) -> Result<(), Error> {
    let Some(max) = choices.max_loss else { return Ok(()) };
    if !fresh.iter().any(|part| part.kind == PartKind::Database && !part.unchanged) {
        return Ok(());
    }
    match plan::estimate(fresh) {
        None => Err(Error::LossUnknown { max }),
        Some(loss) if loss.rows() > max => Err(Error::TooMuchLoss { rows: loss.rows(), max }),
        Some(_) => Ok(()),
    }
}

/// Before the fence: what was staged goes away, and nothing has changed.
pub(crate) async fn give_up(site: &Site<'_>, run: Run, parts: &[PartName], error: Error) -> Error {
    if let Err(left) = abandon_all(site, &run, parts, &with_causes(&error)).await {
        run.pause(Outcome::Stuck, with_causes(&left)).await;
        return left;
    }
    run.end(Outcome::Failed, Some(with_causes(&error))).await;
    error
}

/// After the fence: it ends in new or in old, whoever wants to stop.
pub(crate) async fn switch(site: &Site<'_>, mut run: Run, work: &Work, claim: &Claim<'_>) -> Restored {
    if let Err(error) = fence::close(site, &mut run, claim.lease()).await {
        return revert::take_back(site, run, work, vec![with_causes(&error)]).await;
    }
    finish(site, run, work).await
}

/// From writers that are quiet to a release that runs and was looked at; or back.
pub(crate) async fn finish(site: &Site<'_>, mut run: Run, work: &Work) -> Restored {
    if let Err(error) = activate_all(site, &mut run, work).await {
        return revert::take_back(site, run, work, vec![with_causes(&error)]).await;
    }
    let (loss, condition) = match count_and_start(site, &mut run, work).await {
        Err(why) => return revert::take_back(site, run, work, why).await,
        Ok(looked) => looked,
    };
    if let Err(error) = &loss {
        site.context.warn(format!("what was lost is not known: {}", with_causes(error)));
    }
    let state = format!("it runs, {}", probe::in_words(&condition));
    let record = run.end(Outcome::Done, Some(state.clone())).await;
    let (kept, loss) = (work.parts.clone(), loss.unwrap_or_default());
    Restored { condition: Some(condition), loss, kept, ..Restored::new(site, record, state) }
}

type Counted = Result<Option<Loss>, Error>;

/// Users wait for no count, unless somebody said how much may be lost.
async fn count_and_start(site: &Site<'_>, run: &mut Run, work: &Work) -> Result<(Counted, Condition), Vec<String>> {
    let sides = both_sides(site, run, work).await;
    if work.choices.max_loss.is_none() {
        let condition = look_after_start(site, run, work).await?;
        return Ok((loss(site, run, sides).await, condition));
    }
    let loss = loss(site, run, sides).await;
    judge_loss(&loss, work).map_err(|why| vec![why])?;
    Ok((loss, look_after_start(site, run, work).await?))
}

async fn look_after_start(site: &Site<'_>, run: &mut Run, work: &Work) -> Result<Condition, Vec<String>> {
    probe::start(site, run).await.map_err(|error| vec![with_causes(&error)])?;
    let condition = probe::probe(site, run).await;
    probe::judge(&condition, work)?;
    let standings = standings(site, run, work).await.map_err(|error| vec![with_causes(&error)])?;
    let wrong = not_all_switched(&standings);
    if wrong.is_empty() { Ok(condition) } else { Err(wrong) }
}
