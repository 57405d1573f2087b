use std::collections::BTreeMap;

use backstay_model::{Event, Manifest, Origin, Outcome, PartName, Purpose, RunId, RunRecord, SnapshotId, with_causes};
use backstay_part::{Site, Token};
use backstay_repository::{Lease, LeasePurpose};
use backstay_run::{BEGIN, Beginning, Claim, Entry, Mark, Run, Steps};
use serde::{Deserialize, Serialize};

use crate::course::encode;
use crate::recover::{Ending, Recovered};
use crate::undo::KeptRun;
use crate::{Error, status, way};

const SETTLE: &str = "settle";

/// What a settle is about: the first line of its journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SettleWork {
    pub runs: Vec<RunId>,
    /// Whose kept parts go, and with which token.
    tokens: Vec<(RunId, PartName, Token)>,
    /// Copies that writers had for a while, to be removed with all that is in them.
    left: Vec<(RunId, PartName)>,
}

impl SettleWork {
    pub(crate) fn of_record(record: &RunRecord) -> Option<Self> {
        let entries: Vec<Entry> = serde_json::from_value(record.journal.clone()).ok()?;
        Self::of_entries(&entries)
    }

    fn of_entries(entries: &[Entry]) -> Option<Self> {
        serde_json::from_value(entries.done(BEGIN)?.get("work")?.clone()).ok()
    }
}

/// What was let go.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Settled {
    /// The run, where there was anything to let go.
    pub run: Option<RunId>,
    pub runs: Vec<RunId>,
    pub parts: Vec<PartName>,
    /// The snapshots that hold what was let go.
    pub safety: Vec<SnapshotId>,
}

/// Lets go of what finished runs keep, of all or of the one that is named. Unless it is to be
/// discarded, what is kept is first captured, so that nothing is dropped that nothing else holds.
pub async fn settle(site: &Site<'_>, which: Option<&RunId>, discard: bool) -> Result<Settled, Error> {
    let purpose = LeasePurpose::Change(site.context.environment.clone());
    let claim = Claim::take(site.context, site.repository, site.lent, purpose, site.lease_wait).await?;
    let settled = settle_under(site, &claim, which, discard).await;
    claim.release().await;
    settled
}

async fn settle_under(
    site: &Site<'_>,
    claim: &Claim<'_>,
    which: Option<&RunId>,
    discard: bool,
) -> Result<Settled, Error> {
    way::clear(site, claim.lender()).await?;
    let wanted = |run: &RunId| which.is_none_or(|which| which == run);
    let mut kept = status::kept_runs(site).await?;
    kept.retain(|kept| wanted(&kept.record.id));
    let mut left = status::left_behind(&status::history(site).await?);
    left.retain(|left| wanted(&left.run));
    if let (false, Some(only)) = (discard, left.first())
        && let Some(part) = only.parts.first()
    {
        return Err(Error::OnlyCopy { run: only.run.clone(), part: part.clone() });
    }
    if kept.is_empty() && left.is_empty() {
        return Ok(Settled::default());
    }
    let work = SettleWork {
        runs: kept.iter().map(|kept| kept.record.id.clone()).chain(left.iter().map(|left| left.run.clone())).collect(),
        tokens: kept.iter().flat_map(tokens_of).collect(),
        left: left.iter().flat_map(|left| left.parts.iter().map(|part| (left.run.clone(), part.clone()))).collect(),
    };
    let encoded = encode(site, &work)?;
    let beginning = Beginning { command: SETTLE, snapshot: None, before: None, undoes: None, work: encoded };
    let mut run = Run::begin(site.context, site.repository, site.journals, beginning).await?;
    let safety = match capture_unless(discard, site, &mut run, claim.lease(), &kept).await {
        Err(error) => {
            run.end(Outcome::Failed, Some(with_causes(&error))).await;
            return Err(error);
        }
        Ok(safety) => safety,
    };
    let id = run.record().id.clone();
    let runs = work.runs.clone();
    let parts = let_go(site, run, &work).await?;
    Ok(Settled { run: Some(id), runs, parts, safety })
}

fn tokens_of(kept: &KeptRun) -> impl Iterator<Item = (RunId, PartName, Token)> + '_ {
    kept.tokens.iter().map(|(part, token)| (kept.record.id.clone(), part.clone(), token.clone()))
}

async fn capture_unless(
    discard: bool,
    site: &Site<'_>,
    run: &mut Run,
    lease: &Lease,
    kept: &[KeptRun],
) -> Result<Vec<SnapshotId>, Error> {
    let mut safety = Vec::new();
    run.enter("capture");
    // The oldest first, so that ids tell the order in which they were live.
    for kept in kept.iter().rev().filter(|_| !discard) {
        let captured = site.context.interrupt.unless(capture(site, lease, kept)).await;
        if let Some(manifest) = captured.ok_or(Error::Interrupted)?? {
            run.note(&format!("capture {}", kept.record.id), Mark::Done, &manifest.id).await?;
            run.set_snapshot(manifest.id.clone());
            safety.push(manifest.id);
        }
    }
    // From here on it goes through: another host has to know what may be gone already.
    run.note(SETTLE, Mark::Intent, &safety).await?;
    run.publish().await?;
    Ok(safety)
}

/// A safety snapshot of what one run keeps. Nothing where its parts have nothing to capture.
async fn capture(site: &Site<'_>, lease: &Lease, kept: &KeptRun) -> Result<Option<Manifest>, Error> {
    let failed = |action| move |source| Error::Repository { action, source };
    let began = site.context.clock.now();
    let writer =
        site.repository.begin(lease, &site.context.environment).await.map_err(failed("begin a snapshot in"))?;
    let (mut parts, mut not_covered) = (Vec::new(), Vec::new());
    for (name, token) in &kept.tokens {
        let Some(part) = site.part(name) else {
            let why = "it is not configured here".to_owned();
            return Err(Error::NotUndoable { run: kept.record.id.clone(), why });
        };
        let Some(captured) = part.capture_kept(site.context, token, &writer).await? else { continue };
        parts.push(captured.record(&writer, name, part.kind()).await?);
        not_covered.extend(captured.not_covered.iter().map(|text| format!("{name}: {text}")));
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let manifest = Manifest {
        id: writer.id().clone(),
        project: site.context.project.clone(),
        environment: site.context.environment.clone(),
        purpose: Purpose::Safety,
        taken_at: began,
        committed_at: site.context.clock.now(),
        run: site.context.run.clone(),
        origin: Origin { host: site.context.host.clone(), ..Origin::default() },
        labels: BTreeMap::from([("kept_by".to_owned(), kept.record.id.to_string())]),
        parts,
        not_covered,
    };
    writer.commit(manifest).await.map(Some).map_err(failed("commit the snapshot to"))
}

async fn let_go(site: &Site<'_>, mut run: Run, work: &SettleWork) -> Result<Vec<PartName>, Error> {
    run.enter(SETTLE);
    match let_go_of_all(site, work).await {
        Ok(parts) => {
            run.end(Outcome::Done, None).await;
            Ok(parts)
        }
        Err(error) => {
            run.pause(Outcome::Stuck, with_causes(&error)).await;
            Err(error)
        }
    }
}

async fn let_go_of_all(site: &Site<'_>, work: &SettleWork) -> Result<Vec<PartName>, Error> {
    let mut parts = Vec::new();
    for (run, name, token) in &work.tokens {
        let Some(part) = site.part(name) else {
            let why = format!("{name} is not configured here");
            return Err(Error::NotUndoable { run: run.clone(), why });
        };
        site.context.hear(Event::StepBegan { step: format!("settle {name}") });
        part.settle(site.context, token).await?;
        site.context.hear(Event::StepEnded { step: format!("settle {name}"), remark: None });
        parts.push(name.clone());
    }
    for (run, name) in &work.left {
        if let Some(part) = site.part(name) {
            part.discard(site.context, run).await?;
            parts.push(name.clone());
        }
    }
    Ok(parts)
}

/// Ends a settle that died: what it began to let go of goes, and else nothing does.
pub(crate) async fn go_on(site: &Site<'_>, run: Run) -> Result<Recovered, Error> {
    let (id, command) = (run.record().id.clone(), run.record().command.clone());
    let begun = run.entries().intended(SETTLE).is_some();
    let recovered =
        |ending, state: &str| Recovered { run: id.clone(), command, ending, state: state.to_owned(), restored: None };
    if !begun {
        let state = "nothing was let go";
        run.end(Outcome::Failed, Some(format!("died; {state}"))).await;
        return Ok(recovered(Ending::Abandoned, state));
    }
    let work = SettleWork::of_entries(run.entries()).ok_or_else(|| Error::Journal { run: id.clone() })?;
    let_go(site, run, &work).await?;
    Ok(recovered(Ending::Finished, "what was to be let go is gone"))
}
