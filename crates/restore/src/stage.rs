use backstay_model::{Event, Examination, Judgement, PartName, Verdict, with_causes};
use backstay_part::{ErrorKind, Part, Recorded, Site, Token};
use backstay_run::{Mark, Run};

use crate::course::{stage_step, token};
use crate::{Error, Source};

/// Builds the recorded state of every part beside the live one, and then compares all of it with the
/// facts recorded at capture. Nothing live is touched.
pub(crate) async fn stage_and_prove(
    site: &Site<'_>,
    run: &mut Run,
    source: &Source,
    parts: &[PartName],
) -> Result<(), Error> {
    run.enter("stage");
    for name in parts {
        stage(site, run, source, name).await?;
    }
    run.enter("prove");
    for name in parts {
        prove(site, run, source, name).await?;
    }
    Ok(())
}

async fn stage(site: &Site<'_>, run: &mut Run, source: &Source, name: &PartName) -> Result<(), Error> {
    let missing = || Error::PartNotHere { snapshot: source.manifest.id.clone(), part: name.clone() };
    let part = site.part(name).ok_or_else(missing)?;
    let recorded = source.parts.get(name).ok_or_else(missing)?;
    let step = stage_step(name);
    site.context.hear(Event::StepBegan { step: step.clone() });
    run.note(&step, Mark::Intent, &()).await?;
    let staged = site.context.interrupt.unless(warm_or_new(site, part.as_ref(), recorded)).await;
    let staged = staged.ok_or(Error::Interrupted)??;
    run.note(&step, Mark::Done, &staged).await?;
    site.context.hear(Event::StepEnded { step, remark: None });
    Ok(())
}

/// A warm copy needs no load. Where it cannot be had, a new one is built.
async fn warm_or_new(site: &Site<'_>, part: &dyn Part, recorded: &Recorded) -> Result<Token, backstay_part::Error> {
    match part.take_warm(site.context, recorded).await {
        Ok(Some(warm)) => return Ok(warm),
        Ok(None) => {}
        Err(error) if error.kind == ErrorKind::Interrupted => return Err(error),
        Err(error) => site.context.warn(with_causes(&error)),
    }
    part.stage(site.context, recorded).await
}

async fn prove(site: &Site<'_>, run: &mut Run, source: &Source, name: &PartName) -> Result<(), Error> {
    let missing = || Error::PartNotHere { snapshot: source.manifest.id.clone(), part: name.clone() };
    let part = site.part(name).ok_or_else(missing)?;
    let recorded = source.parts.get(name).ok_or_else(missing)?;
    let staged = token(run.entries(), &stage_step(name)).ok_or_else(missing)?;
    let step = format!("prove {name}");
    site.context.hear(Event::StepBegan { step: step.clone() });
    let proof = site.context.interrupt.unless(part.prove(site.context, recorded, &staged)).await;
    let proof = proof.ok_or(Error::Interrupted)??;
    if !proof.holds() {
        disprove(site, source, name, &proof.findings).await;
        let (snapshot, part) = (source.manifest.id.clone(), name.clone());
        return Err(Error::NotProven { snapshot, part, findings: proof.findings });
    }
    run.note(&step, Mark::Done, &proof.compared).await?;
    site.context.hear(Event::StepEnded { step, remark: Some(proof.compared) });
    Ok(())
}

/// A snapshot that did not prove once must not count as proven for anybody.
async fn disprove(site: &Site<'_>, source: &Source, part: &PartName, findings: &[String]) {
    let verdict = Verdict {
        environment: source.manifest.environment.clone(),
        snapshot: source.manifest.id.clone(),
        examination: Examination::Prove,
        judgement: Judgement::DoesNotProve {
            findings: findings.iter().map(|finding| format!("{part}: {finding}")).collect(),
        },
        at: site.context.clock.now(),
        run: site.context.run.clone(),
        host: site.context.host.clone(),
    };
    if let Err(error) = site.repository.add_verdict(verdict).await {
        site.context.warn(with_causes(&error));
    }
}

/// For undo: takes up what an earlier run kept.
pub(crate) async fn stage_kept(
    site: &Site<'_>,
    run: &mut Run,
    part: &dyn Part,
    activated: &Token,
) -> Result<(), Error> {
    let step = stage_step(part.name());
    run.note(&step, Mark::Intent, &()).await?;
    let staged = site.context.interrupt.unless(part.stage_kept(site.context, activated)).await;
    let staged = staged.ok_or(Error::Interrupted)??;
    run.note(&step, Mark::Done, &staged).await?;
    Ok(())
}
