use backstay_model::Purpose;
use backstay_part::WarmCopy;
use backstay_snapshot::{SnapshotRequest, Taken, take};

use crate::arguments::Snapshot;
use crate::commands::prove;
use crate::origin;
use crate::output::amounts;
use crate::report::{Failure, Report};
use crate::surroundings::Surroundings;
use crate::warm_copies;
use crate::wiring::{Release, health_at_capture};

pub async fn run(surroundings: &Surroundings, arguments: Snapshot) -> Result<Report, Failure> {
    // What is to go live one day must lie beside what is live.
    let release = match arguments.keep_warm {
        true => Release::open(surroundings).await?,
        false => Release::open_to_prove(surroundings).await?,
    };
    let (origin, health) = tokio::join!(origin::read(&release.project), health_at_capture(&release));
    let request = SnapshotRequest {
        labels: arguments.labels.into_iter().collect(),
        purpose: Purpose::Deliberate,
        pin: arguments.pin.then(|| "pinned when it was taken".to_owned()),
        prove: arguments.prove || (release.project.settings.snapshot.prove && !arguments.no_prove),
        origin,
        keep_warm: arguments.keep_warm,
        skip_if_unchanged: arguments.skip_if_unchanged,
        health,
        not_covered: release.not_covered.clone(),
    };
    let taken =
        take(&release.site(), &request).await.map_err(|error| Failure::from(error).of_run(&release.context.run))?;
    let warm = match arguments.keep_warm {
        true => warm_copies::of_snapshot(warm_copies::on(&release.parts, &release.context).await?, &taken.manifest),
        false => Vec::new(),
    };
    let report = report(&taken, &warm).of_run(&release.context.run);
    match &taken.proven {
        Some(proven) if !proven.verdict.judgement.is_good() => Ok(prove::unproven(report, proven)),
        _ => Ok(report),
    }
}

fn report(taken: &Taken, warm: &[WarmCopy]) -> Report {
    let manifest = &taken.manifest;
    let mut lines = Vec::new();
    if taken.skipped {
        lines.push(format!("Nothing has changed since snapshot {}: no new one was taken.", manifest.id));
    } else {
        let proof = match &taken.proven {
            Some(proven) if proven.verdict.judgement.is_good() => ", proven to restore",
            Some(_) => ", NOT proven",
            None => "",
        };
        lines.push(format!("Snapshot {} is taken{proof}.", manifest.id));
        for part in &manifest.parts {
            lines.push(format!("  {}: {} ({})", part.name, part.summary, amounts::bytes(part.bytes)));
        }
        lines.push(format!("  stored: {} new", amounts::bytes(taken.bytes_stored)));
    }
    lines.extend(warm_copies::lines(warm));
    for what in &manifest.not_covered {
        lines.push(format!("  not covered: {what}"));
    }
    let report = if taken.skipped { Report::seen(lines.join("\n")) } else { Report::changed(lines.join("\n")) };
    report
        .of_snapshot(&manifest.id)
        .field("skipped", taken.skipped)
        .field("proven", taken.proven.as_ref().map(|proven| proven.verdict.judgement.is_good()))
        .field("bytes_stored", taken.bytes_stored)
        .field("warm", warm_copies::json(warm))
        .field("not_covered", &manifest.not_covered)
}
