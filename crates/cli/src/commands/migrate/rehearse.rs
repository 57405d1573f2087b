use backstay_config::MigrationSource;
use backstay_migrate::{
    CommandReport, ForeignCommand, Rehearsal, RunOptions, Target, rehearse_in_place, rehearse_on_copy, run_command,
};
use backstay_model::{PartKind, SnapshotId};
use backstay_part::{Part, Recorded};
use backstay_repository::Entry;

use super::{Site, gate};
use crate::output::amounts;
use crate::report::{Failure, Report};
use crate::surroundings::Surroundings;
use crate::wiring::Release;

/// In a transaction of the live database that is rolled back.
pub async fn in_place(site: &Site, options: &RunOptions) -> Result<Report, Failure> {
    let rehearsal = rehearse_in_place(&site.project.context(), &site.target, site.folder()?, options).await?;
    Ok(rehearsed(&rehearsal))
}

/// For real, on a copy of the newest proven snapshot whose migrations are where the live ones are.
pub async fn on_copy(
    surroundings: &Surroundings,
    site: &Site,
    options: &RunOptions,
    named: Option<&SnapshotId>,
) -> Result<Report, Failure> {
    let release = Release::open(surroundings).await?;
    let entry = gate::newest_proven(&release, site, named).await?.ok_or_else(|| {
        Failure::refused("there is no proven snapshot to rehearse on whose migrations are where the database's are")
            .hint("take one first: `backstay snapshot --prove`")
            .hint("or rehearse in a transaction that is rolled back: `--dry-run=in-place`")
    })?;
    let report = on_copy_of(&release, site, options, &entry).await?;
    Ok(report.of_snapshot(&entry.manifest.id))
}

async fn on_copy_of(release: &Release, site: &Site, options: &RunOptions, entry: &Entry) -> Result<Report, Failure> {
    for part in &release.databases {
        let recorded = entry.manifest.part(part.name()).filter(|record| record.kind == PartKind::Database);
        let (Some(record), Some(_)) = (recorded, part.database(&site.database)) else { continue };
        let recorded = Recorded::open(&release.repository, record).await?;
        let (settings, token) = part.copy_of(&release.context, &recorded, &site.database).await?;
        let rehearsed = rehearse(release, site, options, Target::new(settings)).await;
        // The copy goes, however the rehearsal went.
        part.abandon(&release.context, &release.context.run, Some(&token)).await?;
        return rehearsed;
    }
    Err(Failure::refused(format!("snapshot {} does not hold the database `{}`", entry.manifest.id, site.database)))
}

async fn rehearse(release: &Release, site: &Site, options: &RunOptions, copy: Target) -> Result<Report, Failure> {
    match &site.folder {
        Some(folder) => Ok(rehearsed(&rehearse_on_copy(&release.context, &copy, folder, options).await?)),
        None => {
            let report = run_command(&release.context, &copy, &command_on(site, &copy)?, options.lock_wait).await?;
            Ok(Report::seen(told(&report, "Rehearsed on a copy")).field("rehearsal", &report))
        }
    }
}

/// Another tool's command, for real.
pub async fn foreign(release: &Release, site: &Site, behind: &gate::Behind) -> Result<Report, Failure> {
    let command = command_on(site, &site.target)?;
    let wait = RunOptions::default().lock_wait;
    let report = run_command(&release.context, &site.target, &command, wait).await?;
    let done = Report::changed(told(&report, "Ran")).field("migrated", &report);
    Ok(match &behind.snapshot {
        Some(snapshot) => done.of_snapshot(snapshot),
        None => done,
    })
}

fn command_on(site: &Site, target: &Target) -> Result<ForeignCommand, Failure> {
    let MigrationSource::Command { words, url_variable } = &site.migrations.source else {
        return Err(Failure::refused("no command of another tool is configured"));
    };
    Ok(ForeignCommand {
        command: words.clone(),
        url_variable: url_variable.clone(),
        url: target.settings().to_url().to_string(),
        folder: site.project.settings.folder.clone(),
    })
}

fn rehearsed(rehearsal: &Rehearsal) -> Report {
    Report::seen(rehearsal.to_string()).field("rehearsal", rehearsal)
}

fn told(report: &CommandReport, how: &str) -> String {
    let mut lines = vec![format!(
        "{how} in {} ms: {}",
        report.milliseconds,
        amounts::counted(report.changes.len() as u64, "object changed", "objects changed")
    )];
    lines.extend(report.changes.iter().map(|change| format!("  {change}")));
    lines
        .extend(report.locks.iter().map(|lock| format!("  lock {} on {}: blocks {}", lock.mode, lock.on, lock.blocks)));
    lines.join("\n")
}
