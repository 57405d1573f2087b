use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use backstay_health::{Baseline, Probe, Rule, at_capture, look_once, watch};
use backstay_model::{Outcome, PartKind, RunId, SnapshotId};
use backstay_part::{Condition, Site, Workload};
use backstay_repository::LeasePurpose;
use backstay_restore::{Choices, Plan, Restored, Source, Wish, execute, in_the_way, plan};
use backstay_run::{Beginning, Claim, Context, GUARDED, Mark, Run};
use backstay_snapshot::{SnapshotRequest, Taken, take};

use crate::fence::{Fenced, StoppedBefore, close};
use crate::{Decision, Ended, Error, OnLoss, Situation, command, decide};

/// A deploy, and what may happen when it goes wrong.
pub struct Deploy {
    pub words: Vec<OsString>,
    pub folder: PathBuf,
    /// Where what the deploy prints goes.
    pub output: fn() -> Stdio,
    pub limit: Duration,
    /// Writers are stopped before the snapshot, and the deploy starts them again.
    pub fence: bool,
    pub on_loss: OnLoss,
    pub choices: Choices,
    pub snapshot: SnapshotRequest,
    pub probes: Vec<Probe>,
    pub rule: Rule,
}

/// How a guarded deploy ended.
#[derive(Debug)]
pub struct Guarded {
    pub run: RunId,
    /// The proven snapshot from before the deploy.
    pub snapshot: SnapshotId,
    pub ended: Ended,
    /// Of the release after the deploy, where the deploy ended well.
    pub condition: Condition,
    pub decision: Decision,
    /// How taking back went, where something was taken back.
    pub restored: Option<Restored>,
    pub outcome: Outcome,
    /// Rows written since the snapshot, where they could be counted.
    pub rows_written: Option<u64>,
}

/// Snapshot, deploy, look; and take back what went wrong.
pub async fn guard(site: &Site<'_>, deploy: &Deploy) -> Result<Guarded, Error> {
    let purpose = LeasePurpose::Change(site.context.environment.clone());
    let claim = Claim::take(site.context, site.repository, None, purpose, site.lease_wait).await?;
    let guarded = match in_the_way(site).await?.into_iter().next() {
        Some(other) => Err(Error::Restore(Box::new(backstay_restore::Error::InTheWay(Box::new(other))))),
        None => guard_under(site, &claim, deploy).await,
    };
    claim.release().await;
    guarded
}

async fn guard_under(site: &Site<'_>, claim: &Claim<'_>, deploy: &Deploy) -> Result<Guarded, Error> {
    let beginning =
        Beginning { command: "guard", snapshot: None, before: None, undoes: None, work: serde_json::Value::Null };
    let mut run = Run::begin(site.context, site.repository, site.journals, beginning).await?;
    let id = run.record().id.clone();
    let lent = Site { lent: Some((claim.lease(), &id)), ..*site };
    match before(&lent, &mut run, deploy).await {
        Ok(before) => Ok(deploy_under(&lent, run, deploy, before).await?),
        Err(error) => {
            run.end(Outcome::Failed, Some(format!("before the deploy: {error}"))).await;
            Err(error)
        }
    }
}

/// What is known when the deploy begins.
struct Before {
    taken: Taken,
    source: Source,
    baseline: Baseline,
    /// Where writers were stopped.
    fenced: Option<Fenced>,
}

/// Everything before the deploy: when it fails, the deploy never begins.
async fn before(site: &Site<'_>, run: &mut Run, deploy: &Deploy) -> Result<Before, Error> {
    // A probe that is bad because writers stand still was not bad before.
    let baseline = look_once(&deploy.probes).await;
    let fenced = match deploy.fence {
        true => Some(close(site, run).await?),
        false => None,
    };
    match record(site, run, deploy, &baseline).await {
        Ok((taken, source)) => Ok(Before { taken, source, baseline, fenced }),
        Err(error) => {
            if let Some(fenced) = &fenced {
                fenced.open(site).await;
            }
            Err(error)
        }
    }
}

async fn record(
    site: &Site<'_>,
    run: &mut Run,
    deploy: &Deploy,
    baseline: &Baseline,
) -> Result<(Taken, Source), Error> {
    run.enter("snapshot");
    let taken = snapshot(site, deploy, baseline).await?;
    run.set_snapshot(taken.manifest.id.clone());
    let entry = site.repository.entry(&taken.manifest.environment, &taken.manifest.id).await;
    let entry = entry.map_err(|source| Error::Repository { action: "read the snapshot back from", source })?;
    let source = Source::open(site.repository, &entry).await.map_err(Box::new)?;
    Ok((taken, source))
}

async fn snapshot(site: &Site<'_>, deploy: &Deploy, baseline: &Baseline) -> Result<Taken, Error> {
    let request = SnapshotRequest { health: at_capture(&deploy.probes, baseline), ..deploy.snapshot.clone() };
    let taken = take(site, &request).await.map_err(Box::new)?;
    match &taken.proven {
        Some(proven) if !proven.verdict.judgement.is_good() => Err(Error::NotProven { snapshot: taken.manifest.id }),
        _ => Ok(taken),
    }
}

/// The deploy itself and what follows from how it ended.
async fn deploy_under(site: &Site<'_>, mut run: Run, deploy: &Deploy, before: Before) -> Result<Guarded, Error> {
    let id = run.record().id.clone();
    let snapshot = before.taken.manifest.id.clone();
    // From here on the release may be in the middle of anything, and a recovery has to know it.
    run.note(GUARDED, Mark::Intent, &snapshot).await?;
    run.publish().await?;
    run.enter("deploy");
    let variables = [("BACKSTAY_RUN".to_owned(), id.to_string())];
    let Deploy { words, folder, output, limit, .. } = deploy;
    let ended = command::run(words, folder, &variables, output(), *limit, &site.context.interrupt).await;
    run.enter("probe");
    let condition = match ended {
        Ended::Well => {
            watch(&deploy.probes, &deploy.rule, &before.baseline, true, &site.context.clock, &site.context.interrupt)
                .await
                .condition
        }
        _ => Condition::Undecided { why: "the deploy did not end well".to_owned() },
    };
    let mut guarded = Guarded {
        run: id,
        snapshot,
        ended,
        condition,
        decision: Decision::Keep,
        restored: None,
        outcome: Outcome::Done,
        rows_written: None,
    };
    let judged = judge(site, &mut run, deploy, &before, &mut guarded).await;
    if judged.is_err() {
        guarded.outcome = Outcome::Stuck;
        guarded.decision = Decision::Ask;
    }
    let remark = remark(&guarded, judged.as_ref().err());
    run.end(guarded.outcome, Some(remark)).await;
    judged.map(|()| guarded)
}

async fn judge(
    site: &Site<'_>,
    run: &mut Run,
    deploy: &Deploy,
    before: &Before,
    guarded: &mut Guarded,
) -> Result<(), Error> {
    let source = &before.source;
    if guarded.ended == Ended::Well && guarded.condition == Condition::Healthy {
        if let Some(fenced) = &before.fenced {
            fenced.name_what_is_missing(site).await;
        }
        return Ok(());
    }
    run.enter("take back");
    // What is taken back is no part of the deploy that somebody asked to stop.
    let inner = Context {
        run: RunId::new(site.context.clock.now(), salt(&guarded.run)),
        interrupt: backstay_run::Interrupt::default(),
        ..site.context.clone()
    };
    let stopped_before = before.fenced.as_ref().map(|fenced| StoppedBefore { workload: site.workload, fenced });
    let workload = stopped_before.as_ref().map_or(site.workload, |stopped| stopped as &dyn Workload);
    let site = &Site { workload, ..site.within(&inner) };
    let whole = plan(site, source, &Wish::default()).await.map_err(Box::new)?;
    guarded.rows_written = whole.loss.as_ref().map(backstay_model::Loss::rows);
    let situation = Situation {
        ended: guarded.ended.clone(),
        condition: guarded.condition.clone(),
        anything_changed: anything_changed(&whole, guarded.rows_written),
        schema_as_captured: whole.depth.data_must_go_back.is_empty(),
        rows_written: guarded.rows_written,
        fenced: deploy.fence,
        on_loss: deploy.on_loss,
    };
    guarded.decision = decide(&situation);
    guarded.outcome = match guarded.decision {
        Decision::Keep => Outcome::Done,
        Decision::NothingToTakeBack => Outcome::Failed,
        Decision::Ask => Outcome::Stuck,
        Decision::TakeBackWhole => take_back(site, deploy, source, &whole, guarded).await?,
        Decision::TakeBackAroundDatabase => {
            let wish = Wish { only: Some([PartKind::Images, PartKind::Files].into()), ..Wish::default() };
            let around = plan(site, source, &wish).await.map_err(Box::new)?;
            take_back(site, deploy, source, &around, guarded).await?
        }
    };
    if let (Decision::NothingToTakeBack, Some(fenced)) = (guarded.decision, &before.fenced) {
        fenced.start_again(site).await?;
    }
    Ok(())
}

async fn take_back(
    site: &Site<'_>,
    deploy: &Deploy,
    source: &Source,
    plan: &Plan,
    guarded: &mut Guarded,
) -> Result<Outcome, Error> {
    if plan.changing().next().is_none() {
        guarded.decision = Decision::NothingToTakeBack;
        return Ok(Outcome::Failed);
    }
    let restored = execute(site, source, plan, &deploy.choices).await.map_err(Box::new)?;
    // A restore that came to its end has taken the deploy back; anything else is for a person.
    let outcome = if restored.outcome == Outcome::Done { Outcome::TakenBack } else { Outcome::Stuck };
    guarded.restored = Some(restored);
    Ok(outcome)
}

/// Whether the deploy left anything behind: in images and files by what differs, in databases by schema
/// and by what was written.
fn anything_changed(plan: &Plan, rows_written: Option<u64>) -> bool {
    let around = plan.changing().any(|part| part.kind != PartKind::Database);
    let has_database = plan.parts.iter().any(|part| part.kind == PartKind::Database);
    around || !plan.depth.data_must_go_back.is_empty() || (has_database && rows_written != Some(0))
}

/// Keeps the inner run's id apart from guard's own, should both begin in one second.
fn salt(run: &RunId) -> u16 {
    let last = run.as_str().rsplit('_').next().and_then(|digits| u16::from_str_radix(digits, 16).ok());
    last.unwrap_or_default().wrapping_add(1)
}

fn remark(guarded: &Guarded, error: Option<&Error>) -> String {
    let deploy = match &guarded.ended {
        Ended::Well => match &guarded.condition {
            Condition::Healthy => "the deploy is healthy".to_owned(),
            Condition::Unhealthy { failures } => format!("unhealthy: {}", failures.join("; ")),
            Condition::Undecided { why } => format!("undecided: {why}"),
        },
        Ended::Badly(code) => format!("the deploy ended with {code}"),
        Ended::Signalled(signal) => format!("the deploy was ended by signal {signal}"),
        Ended::OutOfTime => "the deploy ran out of time".to_owned(),
        Ended::Interrupted => "the deploy was asked to stop".to_owned(),
        Ended::NotStarted(why) => format!("the deploy could not be started: {why}"),
    };
    match error {
        Some(error) => format!("{deploy}; taking it back failed: {error}"),
        None => deploy,
    }
}
