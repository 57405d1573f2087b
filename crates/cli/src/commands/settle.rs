use backstay_model::SnapshotId;
use backstay_restore::{Settled, settle};

use crate::arguments::Settle;
use crate::commands::migrate::settle_pins;
use crate::confirm;
use crate::report::{Failure, Report};
use crate::restored;
use crate::surroundings::Surroundings;
use crate::warm_copies;
use crate::wiring::Release;

pub async fn run(surroundings: &Surroundings, arguments: Settle) -> Result<Report, Failure> {
    let release = Release::open(surroundings).await?;
    restored::recover_first(&release).await?;
    if arguments.discard {
        let what = "Drop everything that earlier restores kept, without capturing it. It cannot be had again.";
        confirm::plainly(&release, &arguments.confirmation, what)?;
    }
    let settled = settle(&release.site(), None, arguments.discard).await?;
    let unpinned = settle_pins(&release).await?;
    let cooled = warm_copies::drop_orphans(&release.parts, &release.context, &release.repository).await?;
    let report = report(&settled, &unpinned, &cooled);
    Ok(report.field("settled", &settled).field("unpinned", &unpinned).field("cooled", &cooled))
}

fn report(settled: &Settled, unpinned: &[SnapshotId], cooled: &[String]) -> Report {
    let mut lines = Vec::new();
    if !settled.parts.is_empty() {
        lines.push(format!("Let go of what {} kept.", listed(&settled.runs)));
    }
    if !settled.safety.is_empty() {
        lines.push(format!("  it is in the safety snapshot {}", listed(&settled.safety)));
    }
    if !unpinned.is_empty() {
        lines.push(format!("No longer pinned for a migration: snapshot {}.", listed(unpinned)));
    }
    if !cooled.is_empty() {
        lines.push(format!("Dropped the warm copy of a snapshot that is gone: {}.", listed(cooled)));
    }
    if lines.is_empty() {
        return Report::seen("Nothing is kept: there is nothing to let go.");
    }
    let report = Report::changed(lines.join("\n"));
    match &settled.run {
        Some(run) => report.of_run(run),
        None => report,
    }
}

fn listed<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
