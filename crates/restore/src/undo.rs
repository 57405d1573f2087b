use std::time::Duration;

use backstay_model::{Loss, PartName, RunId, RunRecord, SnapshotId, with_causes};
use backstay_part::{Site, Token};
use backstay_repository::LeasePurpose;
use backstay_run::{Beginning, Claim, Entry, Run};
use serde::Serialize;

use crate::course::{Choices, Restored, Work, activate_step, encode, token};
use crate::execute::{give_up, switch};
use crate::{Error, fence, plan, stage, status, way};

/// What an undo would do. It is made without changing anything.
#[derive(Debug, Clone, Serialize)]
pub struct UndoPlan {
    /// The restore or undo that is undone.
    pub undoes: RunId,
    pub parts: Vec<PartName>,
    /// The snapshot behind what will run, where there is one.
    pub snapshot: Option<SnapshotId>,
    /// What runs on the parts, and which of it is stopped for the switch.
    pub workload: String,
    pub stops: Vec<String>,
}

/// How long an undo looks for what it would lose: whoever wants to go back wants to go back soon.
const LOOKING_MAX: Duration = Duration::from_secs(30);

/// Looks what the newest restore or undo, or the one that is named, has kept.
pub async fn plan_undo(site: &Site<'_>, which: Option<&RunId>) -> Result<UndoPlan, Error> {
    let kept = find(site, which).await?;
    Ok(UndoPlan {
        undoes: kept.record.id,
        parts: kept.tokens.into_iter().map(|(part, _)| part).collect(),
        snapshot: kept.record.before,
        workload: site.workload.describe(),
        stops: site.workload.running(site.context).await?,
    })
}

/// What was written to what is live since the switch, and would go with it. Nothing where that takes too
/// long to find out, or nothing of it has rows. Changes nothing.
pub async fn loss_of_undo(site: &Site<'_>, plan: &UndoPlan) -> Result<Option<Loss>, Error> {
    let kept = find(site, Some(&plan.undoes)).await?;
    let compared = tokio::time::timeout(LOOKING_MAX, reversed_loss(site, &kept)).await;
    let compared = compared.unwrap_or_else(|_| Err("it takes longer than half a minute to compare".to_owned()));
    Ok(compared.unwrap_or_else(|why| {
        site.context.warn(format!("how many rows an undo would lose is not known: {why}"));
        None
    }))
}

/// What live holds and kept lacks: the loss of the switch, seen from the other side.
async fn reversed_loss(site: &Site<'_>, kept: &KeptRun) -> Result<Option<Loss>, String> {
    let mut losses = Vec::new();
    for (name, activated) in &kept.tokens {
        let Some(part) = site.part(name) else { continue };
        losses.extend(part.loss(site.context, activated).await.map_err(|error| with_causes(&error))?);
    }
    for table in losses.iter_mut().flat_map(|loss| &mut loss.tables) {
        std::mem::swap(&mut table.inserted, &mut table.deleted);
    }
    Ok(plan::together(&losses))
}

/// Puts back what a restore or an undo replaced. It adds to history: what it replaces is kept in turn,
/// so an undo can be undone.
pub async fn undo(site: &Site<'_>, which: Option<&RunId>, choices: &Choices) -> Result<Restored, Error> {
    let purpose = LeasePurpose::Change(site.context.environment.clone());
    let claim = Claim::take(site.context, site.repository, site.lent, purpose, site.lease_wait).await?;
    let undone = undo_under(site, &claim, which, choices).await;
    claim.release().await;
    undone
}

async fn undo_under(
    site: &Site<'_>,
    claim: &Claim<'_>,
    which: Option<&RunId>,
    choices: &Choices,
) -> Result<Restored, Error> {
    way::clear(site, claim.lender()).await?;
    let kept = find(site, which).await?;
    let work = Work { parts: kept.tokens.iter().map(|(part, _)| part.clone()).collect(), choices: *choices };
    let encoded = encode(site, &work)?;
    let beginning = Beginning {
        command: "undo",
        snapshot: kept.record.before.clone(),
        before: kept.record.snapshot.clone(),
        undoes: Some(kept.record.id.clone()),
        work: encoded,
    };
    let mut run = Run::begin(site.context, site.repository, site.journals, beginning).await?;
    let ready = match take_up(site, &mut run, &kept).await {
        Ok(()) => fence::prepare(site, &mut run, claim.lease()).await,
        failed => failed,
    };
    match ready {
        Err(error) => Err(give_up(site, run, &work.parts, error).await),
        Ok(()) => Ok(switch(site, run, &work, claim).await),
    }
}

async fn take_up(site: &Site<'_>, run: &mut Run, kept: &KeptRun) -> Result<(), Error> {
    run.enter("stage");
    for (name, activated) in &kept.tokens {
        let part = site.part(name).ok_or_else(|| kept.not_undoable(format!("{name} is not configured here")))?;
        stage::stage_kept(site, run, part.as_ref(), activated).await?;
    }
    Ok(())
}

/// A finished run, and with what each part that it switched can be switched again.
pub(crate) struct KeptRun {
    pub record: RunRecord,
    pub tokens: Vec<(PartName, Token)>,
}

impl KeptRun {
    fn not_undoable(&self, why: String) -> Error {
        Error::NotUndoable { run: self.record.id.clone(), why }
    }

    /// Nothing where the run switched nothing, or its journal is not to be had.
    pub(crate) fn of(record: RunRecord) -> Self {
        let entries: Vec<Entry> = serde_json::from_value(record.journal.clone()).unwrap_or_default();
        let tokens = entries.iter().filter_map(|entry| {
            let name: PartName = entry.step.strip_prefix(&activate_prefix())?.parse().ok()?;
            Some((name.clone(), token(&entries, &activate_step(&name))?))
        });
        let mut unique: Vec<(PartName, Token)> = Vec::new();
        for (name, token) in tokens {
            if !unique.iter().any(|(known, _)| *known == name) {
                unique.push((name, token));
            }
        }
        Self { record, tokens: unique }
    }
}

fn activate_prefix() -> String {
    "activate ".to_owned()
}

/// The newest restore or undo that still keeps what it replaced, and with which token each part does.
pub async fn newest_kept(site: &Site<'_>) -> Result<(RunRecord, Vec<(PartName, Token)>), Error> {
    let kept = find(site, None).await?;
    Ok((kept.record, kept.tokens))
}

async fn find(site: &Site<'_>, which: Option<&RunId>) -> Result<KeptRun, Error> {
    let kept = status::kept_runs(site).await?;
    let found = match which {
        None => kept.into_iter().next().ok_or(Error::NothingToUndo)?,
        Some(run) => kept
            .into_iter()
            .find(|kept| kept.record.id == *run)
            .ok_or_else(|| Error::NotUndoable { run: run.clone(), why: "it keeps nothing".to_owned() })?,
    };
    if let Some((name, _)) = found.tokens.iter().find(|(name, _)| site.part(name).is_none()) {
        return Err(found.not_undoable(format!("{name} is not configured here")));
    }
    Ok(found)
}
