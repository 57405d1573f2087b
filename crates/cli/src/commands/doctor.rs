use std::collections::BTreeSet;

use backstay_model::{Examination, Finding, Severity};
use backstay_part::{Part, Recorded};
use backstay_repository::{Creation, Entry, Error as RepositoryError, Listing, Repository, StoreError};
use backstay_restore::in_the_way;
use backstay_snapshot::preflight;

use crate::exit::Exit;
use crate::output::amounts;
use crate::report::{Failure, Report};
use crate::surroundings::Surroundings;
use crate::wiring::{Containers, Release};

const SNAPSHOTS_LOOKED_AT: usize = 5;

pub async fn run(surroundings: &Surroundings) -> Result<Report, Failure> {
    let release = Release::open(surroundings).await?;
    let mut findings =
        vec![Finding::new(Severity::Good, "repository", format!("{} opens", release.repository.location()))];
    findings.push(creation(&release.repository).await?);
    findings.extend(preflight(&release.site()).await?);
    if let Containers::OutOfReach(failure) = &release.containers {
        let finding = Finding::new(Severity::Warning, "containers", failure.what.join(": "));
        findings.push(failure.hints.iter().fold(finding, |finding, hint| finding.with_hint(hint.clone())));
    }
    findings
        .extend(release.not_covered.iter().map(|what| Finding::new(Severity::Warning, "not covered", what.clone())));
    let Listing { entries, damage } = release.repository.listing(Some(&release.context.environment)).await?;
    findings.extend(damage.iter().map(|damage| {
        let finding = Finding::new(Severity::NotReady, "repository", damage.to_string());
        finding.with_hint("`backstay check` names all that is damaged")
    }));
    findings.extend(ages(&release, &entries));
    findings.extend(images(&release, &entries).await?);
    // What keeps it from looking, such as a server out of reach, is a finding already.
    findings.extend(leftovers(&release).await.unwrap_or_default());
    for run in in_the_way(&release.site()).await? {
        let finding = Finding::new(Severity::NotReady, "unfinished run", run.who.clone());
        findings.push(if run.alive == Some(true) { finding } else { finding.with_hint("`backstay recover` ends it") });
    }
    Ok(report(&findings))
}

/// What the repository's store does with a second creation under the same name.
async fn creation(repository: &Repository) -> Result<Finding, Failure> {
    let subject = "repository's store";
    Ok(match repository.probe().await {
        Ok(Creation::Holds) => Finding::new(Severity::Good, subject, "never writes over a manifest"),
        Ok(found) => Finding::new(Severity::Warning, subject, super::init::unprotected(found))
            .with_hint("let one host alone write to it, or use a server that honours If-None-Match"),
        Err(RepositoryError::Store { source: StoreError::Denied { .. }, .. }) => Finding::new(
            Severity::Warning,
            subject,
            "whether it writes over manifests was not tried: that takes the right to write",
        ),
        Err(error) => return Err(error.into()),
    })
}

/// How old the last snapshot and the last proof are.
fn ages(release: &Release, entries: &[Entry]) -> [Finding; 2] {
    let limit = release.project.settings.snapshot.stale_after.duration();
    let now = release.context.clock.now();
    let judged = |subject: &str, at: Option<chrono::DateTime<chrono::Utc>>, hint: &str| match at {
        None => Finding::new(Severity::Stale, subject, "there is none").with_hint(hint),
        Some(at) if (now - at).to_std().is_ok_and(|age| age > limit) => Finding::new(
            Severity::Stale,
            subject,
            format!("{}, older than {}", amounts::ago(at, now), amounts::time(limit)),
        )
        .with_hint(hint),
        Some(at) => Finding::new(Severity::Good, subject, amounts::ago(at, now)),
    };
    let taken = entries.iter().map(|entry| entry.manifest.taken_at).max();
    let proofs = entries.iter().filter_map(|entry| entry.verdict.as_ref());
    let proven = proofs
        .filter(|verdict| verdict.examination == Examination::Prove && verdict.judgement.is_good())
        .map(|verdict| verdict.at)
        .max();
    [
        judged("last snapshot", taken, "`backstay snapshot` takes one"),
        judged("last proof", proven, "`backstay prove` makes one"),
    ]
}

/// Whether the images of the newest snapshots could be brought back now, and from where.
async fn images(release: &Release, entries: &[Entry]) -> Result<Vec<Finding>, Failure> {
    let Some(images) = &release.images else { return Ok(Vec::new()) };
    let mut findings = Vec::new();
    for entry in entries.iter().take(SNAPSHOTS_LOOKED_AT) {
        let Some(record) = entry.manifest.part(images.name()) else { continue };
        let recorded = Recorded::open(&release.repository, record).await?;
        let available = images.available(&recorded).await?;
        let lost: Vec<&str> =
            available.iter().filter(|image| image.from.is_empty()).map(|image| image.service.as_str()).collect();
        let subject = format!("images of {}", entry.manifest.id);
        findings.push(if lost.is_empty() {
            let from: BTreeSet<&str> = available.iter().flat_map(|image| image.from.iter().copied()).collect();
            Finding::new(
                Severity::Good,
                subject,
                format!("to be had: {}", from.into_iter().collect::<Vec<_>>().join(", ")),
            )
        } else {
            Finding::new(Severity::NotReady, subject, format!("gone from everywhere: {}", lost.join(", ")))
                .with_hint("take a new snapshot; `images = \"archive\"` keeps them in the repository")
        });
    }
    Ok(findings)
}

/// Databases that a run made and nobody needs any more.
async fn leftovers(release: &Release) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    for part in &release.databases {
        for left in part.leftovers().await? {
            let size = left
                .bytes
                .and_then(|bytes| u64::try_from(bytes).ok())
                .map_or("size unknown".to_owned(), amounts::bytes);
            let text = format!("{}, {size}, of run {}", left.what, left.run);
            findings.push(
                Finding::new(Severity::Warning, format!("database {}", left.database), text).with_hint(left.remove),
            );
        }
    }
    Ok(findings)
}

fn report(findings: &[Finding]) -> Report {
    let mut lines = Vec::new();
    for finding in findings {
        let mark = match finding.severity {
            Severity::Good => "ok",
            Severity::Warning => "note",
            Severity::Stale => "STALE",
            Severity::NotReady => "NOT READY",
        };
        lines.push(format!("{mark:<9} {}: {}", finding.subject, finding.text));
        lines.extend(finding.hint.iter().map(|hint| format!("          hint: {hint}")));
    }
    let worst = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Good);
    let report = Report::seen(lines.join("\n")).field("findings", findings);
    if worst >= Severity::Stale { report.ending(Exit::Stale) } else { report }
}
