use backstay_restore::settle;

use crate::arguments::Settle;
use crate::commands::migrate::settle_pins;
use crate::confirm;
use crate::report::{Failure, Report};
use crate::restored;
use crate::surroundings::Surroundings;
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
    if settled.parts.is_empty() && unpinned.is_empty() {
        let report = Report::seen("Nothing is kept: there is nothing to let go.");
        return Ok(report.field("settled", &settled).field("unpinned", &unpinned));
    }
    let of_migrations = format!("No longer pinned for a migration: snapshot {}.", listed(&unpinned));
    if settled.parts.is_empty() {
        return Ok(Report::changed(of_migrations).field("settled", &settled).field("unpinned", &unpinned));
    }
    let mut lines = vec![format!("Let go of what {} kept.", listed(&settled.runs))];
    if !settled.safety.is_empty() {
        lines.push(format!("  it is in the safety snapshot {}", listed(&settled.safety)));
    }
    if !unpinned.is_empty() {
        lines.push(of_migrations);
    }
    let report = Report::changed(lines.join("\n")).field("settled", &settled).field("unpinned", &unpinned);
    Ok(match &settled.run {
        Some(run) => report.of_run(run),
        None => report,
    })
}

fn listed<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
