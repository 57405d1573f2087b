use std::collections::BTreeMap;

use backstay_model::{Event, Finding, HEALTH_LABEL, Manifest, Origin, Outcome, Purpose, Severity};
use backstay_part::Site;
use backstay_repository::{Lease, LeasePurpose, SnapshotWriter};
use backstay_run::{Beginning, Claim, Run};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::join;

use crate::capture::{CapturedPart, capture_all};
use crate::prove::{Copies, Proven, prove_under};
use crate::{Error, unchanged};

/// What a snapshot is asked to be.
#[derive(Debug, Clone)]
pub struct SnapshotRequest {
    pub labels: BTreeMap<String, String>,
    pub purpose: Purpose,
    /// Why prune must never remove it.
    pub pin: Option<String>,
    /// Restore it into scratch and compare, before it is called done.
    pub prove: bool,
    /// Keep the copies it was proven with, so that taking it back has nothing to load. Proves it.
    pub keep_warm: bool,
    pub origin: Origin,
    /// Where nothing changed since the newest snapshot, that one is the answer.
    pub skip_if_unchanged: bool,
    /// How healthy the release is: it becomes the label `health`, where nobody gave another.
    pub health: Option<String>,
    /// What belongs to the release and no part covers, in words for a person.
    pub not_covered: Vec<String>,
}

/// A snapshot that exists.
#[derive(Debug, Clone)]
pub struct Taken {
    pub manifest: Manifest,
    /// Nothing had changed: the manifest is the newest snapshot's.
    pub skipped: bool,
    /// What proving found, where it was asked for.
    pub proven: Option<Proven>,
    /// What the store grew by.
    pub bytes_stored: u64,
}

/// Every part's look at whether it could be captured and restored. Changes nothing.
pub async fn preflight(site: &Site<'_>) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for part in site.parts {
        findings.extend(part.preflight(site.context).await?);
    }
    Ok(findings)
}

/// Captures every part of the site under one id and writes the manifest last.
pub async fn take(site: &Site<'_>, request: &SnapshotRequest) -> Result<Taken, Error> {
    let mut findings = preflight(site).await?;
    findings.retain(|finding| finding.severity == Severity::NotReady);
    if !findings.is_empty() {
        return Err(Error::NotReady { findings });
    }
    let claim = Claim::take(site.context, site.repository, site.lent, LeasePurpose::Write, site.lease_wait).await?;
    // A snapshot within another run is in that run's journal.
    let taken = match claim.lender() {
        Some(_) => take_into(site, request, begin(site, claim.lease()).await).await,
        None => take_as_run(site, request, claim.lease()).await,
    };
    claim.release().await;
    taken
}

async fn take_as_run(site: &Site<'_>, request: &SnapshotRequest, lease: &Lease) -> Result<Taken, Error> {
    let beginning = Beginning { command: "snapshot", snapshot: None, before: None, undoes: None, work: Value::Null };
    let run = Run::begin(site.context, site.repository, site.journals, beginning);
    let (run, begun) = join!(run, begin(site, lease));
    let mut run = run?;
    run.enter("capture");
    match take_into(site, request, begun).await {
        Ok(taken) => {
            run.set_snapshot(taken.manifest.id.clone());
            let skipped = taken.skipped.then(|| "nothing had changed".to_owned());
            run.end(Outcome::Done, skipped).await;
            Ok(taken)
        }
        // What could not be removed is for recover, which finds the run unfinished.
        Err(error @ Error::Abandon { .. }) => {
            run.pause(Outcome::Stuck, error.to_string()).await;
            Err(error)
        }
        Err(error) => {
            if let Error::Unproven { snapshot, .. } = &error {
                run.set_snapshot(snapshot.clone());
            }
            run.end(Outcome::Failed, Some(error.to_string())).await;
            Err(error)
        }
    }
}

/// A snapshot that has its id, and the moment from which it counts.
struct Begun {
    writer: SnapshotWriter,
    at: DateTime<Utc>,
}

async fn begin(site: &Site<'_>, lease: &Lease) -> Result<Begun, Error> {
    let at = site.context.clock.now();
    let writer = site.repository.begin(lease, &site.context.environment).await;
    let writer = writer.map_err(|source| Error::Repository { action: "begin a snapshot in", source })?;
    Ok(Begun { writer, at })
}

/// Fills what has begun, if it has.
async fn take_into(site: &Site<'_>, request: &SnapshotRequest, begun: Result<Begun, Error>) -> Result<Taken, Error> {
    let begun = begun?;
    let writer = &begun.writer;
    let captured = site.context.interrupt.unless(capture_all(site, writer)).await;
    let captured = captured.ok_or(Error::Interrupted)??;
    if request.skip_if_unchanged
        && let Some(newest) = unchanged::newest_if_same(site, &captured).await?
    {
        return Ok(Taken { manifest: newest, skipped: true, proven: None, bytes_stored: writer.bytes_stored() });
    }
    let manifest = manifest(site, request, &begun, &captured);
    // Whoever asks to stop from here on is told of a snapshot that exists.
    let committed = writer.commit(manifest).await;
    let manifest = committed.map_err(|source| Error::Repository { action: "commit the snapshot to", source })?;
    site.context.hear(Event::StepEnded { step: "snapshot".to_owned(), remark: Some(manifest.id.to_string()) });
    if let Some(why) = &request.pin {
        let pin = site.repository.pin(&manifest.environment, &manifest.id, why);
        pin.await.map_err(|source| Error::Repository { action: "pin the snapshot in", source })?;
    }
    let copies = match (request.keep_warm, request.prove) {
        (true, _) => Some(Copies::StayWarm),
        (false, true) => Some(Copies::Go),
        (false, false) => None,
    };
    let proven = match copies {
        Some(copies) => {
            let proven = prove_under(site, &manifest, copies, &mut |_| {}).await;
            Some(proven.map_err(|error| unproven(&manifest, error))?)
        }
        None => None,
    };
    Ok(Taken { manifest, skipped: false, proven, bytes_stored: writer.bytes_stored() })
}

fn unproven(manifest: &Manifest, error: Error) -> Error {
    match error {
        // The run is not at its end, which comes before what it was for.
        error @ Error::Abandon { .. } => error,
        error => Error::Unproven { snapshot: manifest.id.clone(), source: Box::new(error) },
    }
}

fn manifest(site: &Site<'_>, request: &SnapshotRequest, begun: &Begun, captured: &[CapturedPart]) -> Manifest {
    let mut labels = request.labels.clone();
    if let Some(health) = &request.health {
        labels.entry(HEALTH_LABEL.to_owned()).or_insert_with(|| health.clone());
    }
    let mut not_covered = request.not_covered.clone();
    for part in captured {
        not_covered.extend(part.not_covered.iter().map(|text| format!("{}: {text}", part.record.name)));
    }
    Manifest {
        id: begun.writer.id().clone(),
        project: site.context.project.clone(),
        environment: site.context.environment.clone(),
        purpose: request.purpose,
        taken_at: begun.at,
        committed_at: site.context.clock.now(),
        run: site.context.run.clone(),
        origin: request.origin.clone(),
        labels,
        parts: captured.iter().map(|part| part.record.clone()).collect(),
        not_covered,
    }
}
