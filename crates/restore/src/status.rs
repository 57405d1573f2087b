use std::collections::BTreeSet;

use backstay_model::{Outcome, PartName, Purpose, RunId, RunRecord, SnapshotId};
use backstay_part::Site;
use backstay_repository::Entry;
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::Error;
use crate::settle::SettleWork;
use crate::undo::KeptRun;
use crate::way::{InTheWay, in_the_way};

/// How an environment stands.
#[derive(Debug, Clone)]
pub struct Status {
    pub running: Running,
    /// Runs that did not end, newest first.
    pub unfinished: Vec<InTheWay>,
    /// The newest snapshot that is proven and was taken on purpose.
    pub last_good: Option<Entry>,
    pub kept: Vec<Kept>,
}

/// What is known of the release that runs.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Running {
    /// What runs on the parts, by name.
    pub services: Vec<String>,
    /// The snapshot behind it: the one it was restored from, or the newest taken of it since.
    pub snapshot: Option<SnapshotId>,
    /// The run that last changed what runs, and when.
    pub since: Option<(RunId, DateTime<Utc>)>,
}

/// What a finished run keeps until it is settled.
#[derive(Debug, Clone, Serialize)]
pub struct Kept {
    pub run: RunId,
    pub command: String,
    pub ended_at: Option<DateTime<Utc>>,
    pub parts: Vec<PartName>,
    /// Nobody holds what was written to these but this machine: they go only when told to.
    pub only_copy: bool,
}

/// All runs of the environment, newest first.
pub async fn history(site: &Site<'_>) -> Result<Vec<RunRecord>, Error> {
    let runs = site.repository.runs(&site.context.environment).await;
    let mut runs = runs.map_err(|source| Error::Repository { action: "read the runs in", source })?;
    runs.retain(|record| record.project == site.context.project);
    Ok(runs)
}

/// Reads how the environment stands. Changes nothing.
pub async fn status(site: &Site<'_>) -> Result<Status, Error> {
    let records = history(site).await?;
    let entries = entries(site).await?;
    let last_good = entries.iter().find(|entry| entry.is_proven() && entry.manifest.purpose != Purpose::Safety);
    let mut kept: Vec<Kept> = keeping(records.clone()).iter().map(kept_of).collect();
    kept.extend(left_behind(&records));
    Ok(Status {
        running: Running {
            services: site.workload.running(site.context).await?,
            snapshot: behind(&records, &entries),
            since: last_change(&records).and_then(|record| Some((record.id.clone(), record.ended_at?))),
        },
        unfinished: in_the_way(site).await?,
        last_good: last_good.cloned(),
        kept,
    })
}

/// The snapshot behind the release that runs, where one is known.
pub(crate) async fn behind_what_runs(site: &Site<'_>) -> Result<Option<SnapshotId>, Error> {
    Ok(behind(&history(site).await?, &entries(site).await?))
}

/// The finished runs that still keep what they replaced, newest first.
pub(crate) async fn kept_runs(site: &Site<'_>) -> Result<Vec<KeptRun>, Error> {
    Ok(keeping(history(site).await?))
}

/// Copies that writers had for a while before they were taken back, run by run.
pub(crate) fn left_behind(records: &[RunRecord]) -> Vec<Kept> {
    let settled = settled(records);
    let mut left = Vec::new();
    for record in records {
        if record.outcome != Some(Outcome::TakenBack) || settled.contains(&record.id) {
            continue;
        }
        let parts = left_by(record);
        if !parts.is_empty() {
            left.push(Kept { parts, only_copy: true, ..kept_by(record) });
        }
    }
    left
}

/// The parts of which a run that was taken back left a copy.
fn left_by(record: &RunRecord) -> Vec<PartName> {
    let entries: Vec<backstay_run::Entry> = serde_json::from_value(record.journal.clone()).unwrap_or_default();
    let steps = entries.iter().filter_map(|entry| entry.step.strip_prefix("left "));
    let parts: BTreeSet<PartName> = steps.filter_map(|name| name.parse().ok()).collect();
    parts.into_iter().collect()
}

async fn entries(site: &Site<'_>) -> Result<Vec<Entry>, Error> {
    let entries = site.repository.list(Some(&site.context.environment)).await;
    let mut entries = entries.map_err(|source| Error::Repository { action: "list", source })?;
    entries.retain(|entry| entry.manifest.project == site.context.project);
    Ok(entries)
}

fn last_change(records: &[RunRecord]) -> Option<&RunRecord> {
    records.iter().find(|record| record.changed_what_runs())
}

/// A snapshot taken since the last change holds what runs; else what that change brought does.
fn behind(records: &[RunRecord], entries: &[Entry]) -> Option<SnapshotId> {
    let change = last_change(records);
    let since = |entry: &&Entry| {
        entry.manifest.purpose != Purpose::Safety
            && change.is_none_or(|change| change.ended_at.is_some_and(|ended| entry.manifest.taken_at >= ended))
    };
    let newer = entries.iter().find(since).map(|entry| entry.manifest.id.clone());
    newer.or_else(|| change.filter(|change| change.brought_back())?.snapshot.clone())
}

fn keeping(records: Vec<RunRecord>) -> Vec<KeptRun> {
    let done = |record: &&RunRecord| record.outcome == Some(Outcome::Done);
    let mut gone = settled(&records);
    gone.extend(records.iter().filter(done).filter_map(|record| record.undoes.clone()));
    let keeps = |record: &RunRecord| {
        record.outcome == Some(Outcome::Done) && record.brought_back() && !gone.contains(&record.id)
    };
    let kept = records.into_iter().filter(keeps).map(KeptRun::of);
    kept.filter(|kept| !kept.tokens.is_empty()).collect()
}

fn settled(records: &[RunRecord]) -> BTreeSet<RunId> {
    let done = |record: &&RunRecord| record.outcome == Some(Outcome::Done) && record.command == "settle";
    let of = |record: &RunRecord| SettleWork::of_record(record).map(|work| work.runs).unwrap_or_default();
    records.iter().filter(done).flat_map(of).collect()
}

fn kept_of(kept: &KeptRun) -> Kept {
    Kept { parts: kept.tokens.iter().map(|(part, _)| part.clone()).collect(), ..kept_by(&kept.record) }
}

fn kept_by(record: &RunRecord) -> Kept {
    Kept {
        run: record.id.clone(),
        command: record.command.clone(),
        ended_at: record.ended_at,
        parts: Vec::new(),
        only_copy: false,
    }
}
