use std::collections::BTreeMap;
use std::sync::Arc;

use backstay_model::{Event, Examination, Judgement, Manifest, ObjectId, Outcome, PartName, PartRecord, Verdict};
use backstay_part::{ErrorKind, Part, Proof, Recorded, RecordedError, Site};
use backstay_repository::{Entry, LeasePurpose};
use backstay_run::{Beginning, Claim, Run};
use serde_json::Value;

use crate::Error;

/// What restoring a snapshot into scratch and comparing it found.
#[derive(Debug, Clone)]
pub struct Proven {
    pub verdict: Verdict,
    pub proofs: BTreeMap<PartName, Proof>,
}

/// Restores every part of a snapshot into scratch, compares it with the facts recorded at capture,
/// removes the scratch again and stores the verdict.
pub async fn prove(site: &Site<'_>, entry: &Entry) -> Result<Proven, Error> {
    let claim = Claim::take(site.context, site.repository, site.lent, LeasePurpose::Read, site.lease_wait).await?;
    let proven = match claim.lender() {
        Some(_) => prove_under(site, &entry.manifest, Copies::Go, &mut |_| {}).await,
        None => prove_as_run(site, &entry.manifest).await,
    };
    claim.release().await;
    proven
}

async fn prove_as_run(site: &Site<'_>, manifest: &Manifest) -> Result<Proven, Error> {
    let snapshot = Some(manifest.id.clone());
    let beginning = Beginning { command: "prove", snapshot, before: None, undoes: None, work: Value::Null };
    let mut run = Run::begin(site.context, site.repository, site.journals, beginning).await?;
    match prove_under(site, manifest, Copies::Go, &mut |phase| run.enter(phase)).await {
        Ok(proven) => {
            run.end(Outcome::Done, Some(describe(&proven.verdict.judgement).to_owned())).await;
            Ok(proven)
        }
        Err(error @ Error::Abandon { .. }) => {
            run.pause(Outcome::Stuck, error.to_string()).await;
            Err(error)
        }
        Err(error) => {
            run.end(Outcome::Failed, Some(error.to_string())).await;
            Err(error)
        }
    }
}

/// What becomes of copies that were proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copies {
    Go,
    StayWarm,
}

/// Told what the parts are busy with.
type Phases<'a> = dyn FnMut(&str) + Send + 'a;

pub(crate) async fn prove_under(
    site: &Site<'_>,
    manifest: &Manifest,
    copies: Copies,
    enter: &mut Phases<'_>,
) -> Result<Proven, Error> {
    let mut proofs = BTreeMap::new();
    let mut judgement = Judgement::Good;
    for record in &manifest.parts {
        let part = site
            .part(&record.name)
            .ok_or_else(|| Error::PartNotHere { snapshot: manifest.id.clone(), part: record.name.clone() })?;
        match prove_and_abandon(site, part, record, copies, enter).await? {
            Examined::Compared(proof) => {
                if !proof.holds() {
                    judgement = worse(judgement, Judgement::DoesNotProve { findings: named(record, &proof.findings) });
                }
                proofs.insert(record.name.clone(), proof);
            }
            Examined::Damaged { objects, finding } => {
                let findings = named(record, &[finding]);
                judgement = worse(judgement, Judgement::Damaged { objects, findings });
            }
        }
    }
    let verdict = Verdict {
        environment: manifest.environment.clone(),
        snapshot: manifest.id.clone(),
        examination: Examination::Prove,
        judgement,
        at: site.context.clock.now(),
        run: site.context.run.clone(),
        host: site.context.host.clone(),
    };
    let added = site.repository.add_verdict(verdict.clone()).await;
    added.map_err(|source| Error::Repository { action: "write the verdict to", source })?;
    Ok(Proven { verdict, proofs })
}

enum Examined {
    Compared(Proof),
    Damaged { objects: Vec<ObjectId>, finding: String },
}

/// Whatever happens, the scratch copy is removed before this returns, unless it is proven and stays warm.
async fn prove_and_abandon(
    site: &Site<'_>,
    part: &Arc<dyn Part>,
    record: &PartRecord,
    copies: Copies,
    enter: &mut Phases<'_>,
) -> Result<Examined, Error> {
    let step = format!("prove {}", record.name);
    site.context.hear(Event::StepBegan { step: step.clone() });
    let examined = site.context.interrupt.unless(examine(site, part, record, copies, enter)).await;
    enter("clear away");
    // What stays warm is not the run's any more, and is passed over.
    let abandoned = part.abandon(site.context, &site.context.run, None).await;
    abandoned.map_err(|source| Error::Abandon { part: record.name.clone(), source })?;
    let examined = examined.ok_or(Error::Interrupted)??;
    let remark = match &examined {
        Examined::Compared(proof) => proof.compared.clone(),
        Examined::Damaged { finding, .. } => finding.clone(),
    };
    site.context.hear(Event::StepEnded { step, remark: Some(remark) });
    Ok(examined)
}

async fn examine(
    site: &Site<'_>,
    part: &Arc<dyn Part>,
    record: &PartRecord,
    copies: Copies,
    enter: &mut Phases<'_>,
) -> Result<Examined, Error> {
    enter("stage");
    let recorded = match Recorded::open(site.repository, record).await {
        Err(error) => return damage_or(error),
        Ok(recorded) => recorded,
    };
    let staged = match copies {
        Copies::Go => part.stage_for_proof(site.context, &recorded).await,
        Copies::StayWarm => part.stage(site.context, &recorded).await,
    };
    let staged = match staged {
        Err(error) if error.kind == ErrorKind::Damaged => return Ok(damaged(&error)),
        staged => staged?,
    };
    enter("prove");
    match part.prove(site.context, &recorded, &staged).await {
        Err(error) if error.kind == ErrorKind::Damaged => Ok(damaged(&error)),
        proof => {
            let proof = proof?;
            if copies == Copies::StayWarm && proof.holds() {
                part.keep_warm(site.context, &recorded, &staged).await?;
            }
            Ok(Examined::Compared(proof))
        }
    }
}

fn damage_or(error: RecordedError) -> Result<Examined, Error> {
    let found = damaged(&error);
    match (&error, &found) {
        (RecordedError::Parse { .. }, _) => Ok(found),
        (_, Examined::Damaged { objects, .. }) if !objects.is_empty() => Ok(found),
        _ => Err(error.into()),
    }
}

fn damaged(error: &(dyn std::error::Error + 'static)) -> Examined {
    let chain = std::iter::successors(Some(error), |error| error.source());
    let mut finding = Vec::new();
    let mut objects = Vec::new();
    for cause in chain {
        finding.push(cause.to_string());
        objects.extend(damaged_object(cause));
    }
    Examined::Damaged { objects, finding: finding.join(": ") }
}

fn damaged_object(cause: &(dyn std::error::Error + 'static)) -> Option<ObjectId> {
    cause.downcast_ref::<backstay_repository::Error>()?.damage()?.object
}

fn named(record: &PartRecord, findings: &[String]) -> Vec<String> {
    findings.iter().map(|finding| format!("{}: {finding}", record.name)).collect()
}

/// Damage says more than a difference, which may come of it.
fn worse(known: Judgement, found: Judgement) -> Judgement {
    match (known, found) {
        (Judgement::Good, found) => found,
        (
            Judgement::Damaged { mut objects, mut findings },
            Judgement::Damaged { objects: more_objects, findings: more },
        ) => {
            objects.extend(more_objects);
            findings.extend(more);
            Judgement::Damaged { objects, findings }
        }
        (Judgement::DoesNotProve { mut findings }, Judgement::DoesNotProve { findings: more }) => {
            findings.extend(more);
            Judgement::DoesNotProve { findings }
        }
        (Judgement::Damaged { objects, mut findings }, Judgement::DoesNotProve { findings: more })
        | (Judgement::DoesNotProve { findings: more }, Judgement::Damaged { objects, mut findings }) => {
            findings.extend(more);
            Judgement::Damaged { objects, findings }
        }
        (known, Judgement::Good) => known,
    }
}

fn describe(judgement: &Judgement) -> &'static str {
    match judgement {
        Judgement::Good => "proven",
        Judgement::Damaged { .. } => "damaged",
        Judgement::DoesNotProve { .. } => "does not prove",
    }
}
