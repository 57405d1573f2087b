use backstay_config::OnFailure;
use backstay_migrate::{Candidate, Gate, gate, status, tools};
use backstay_model::{Outcome, PartKind, Purpose, SnapshotId};
use backstay_part::Recorded;
use backstay_postgres::ServerFacts;
use backstay_repository::Entry;
use backstay_restore::{Source, Wish, execute, plan};

use super::Site;
use crate::exit::Exit;
use crate::report::{Failure, Report, State};
use crate::restored;
use crate::wiring::Release;

/// How many of the newest snapshots are looked at for one at the live head.
const LOOKED_AT_MAX: usize = 20;

/// By this `settle` knows the pins that are its own to lift.
const PINNED: &str = "the snapshot behind a migration, until `backstay settle`";

/// The snapshot that takes a run back, where there is one, and whether it was pinned for that.
#[derive(Default)]
pub struct Behind {
    pub snapshot: Option<SnapshotId>,
    newly_pinned: bool,
}

/// Asks the gate, and pins the snapshot it opens with.
pub async fn pass(release: &Release, site: &Site, named: Option<&SnapshotId>) -> Result<Behind, Failure> {
    if site.folder.is_some() && nothing_pending(site).await? {
        return Ok(Behind::default());
    }
    let (candidates, _) = candidates(release, site, named).await?;
    let live = tools(&site.target).await?;
    match gate(release.project.settings.production, &live, &candidates, named) {
        Gate::Open { snapshot } => {
            let mut newly_pinned = false;
            if let Some(id) = &snapshot {
                let environment = &release.context.environment;
                // Somebody's own pin stays theirs.
                newly_pinned = !release.repository.entry(environment, id).await?.pinned;
                if newly_pinned {
                    release.repository.pin(environment, id, PINNED).await?;
                }
            }
            Ok(Behind { snapshot, newly_pinned })
        }
        Gate::Closed { why, take_one } => {
            let failure = Failure::refused(format!("nothing could take the migration back: {why}"));
            Err(if take_one { failure.hint("take one first: `backstay snapshot --prove`") } else { failure })
        }
    }
}

/// Lifts the pins of migrations, whose release is settled now. Returns the snapshots.
pub async fn settle_pins(release: &Release) -> Result<Vec<SnapshotId>, Failure> {
    let mut lifted = Vec::new();
    for (id, why) in release.repository.pins(&release.context.environment).await? {
        if why == PINNED {
            release.repository.unpin(&release.context.environment, &id).await?;
            lifted.push(id);
        }
    }
    Ok(lifted)
}

async fn nothing_pending(site: &Site) -> Result<bool, Failure> {
    let status = status(&site.target, site.folder.as_ref()).await?;
    Ok(status.pending.is_empty() && status.half_done.is_empty() && status.faults.is_empty())
}

/// The newest proven snapshot whose migration head is the live one's.
pub async fn newest_proven(
    release: &Release,
    site: &Site,
    named: Option<&SnapshotId>,
) -> Result<Option<Entry>, Failure> {
    let (candidates, entries) = candidates(release, site, named).await?;
    let live = tools(&site.target).await?;
    // As in production: only what is proven will do to rehearse on.
    Ok(match gate(true, &live, &candidates, named) {
        Gate::Open { snapshot: Some(id) } => entries.into_iter().find(|entry| entry.manifest.id == id),
        _ => None,
    })
}

async fn candidates(
    release: &Release,
    site: &Site,
    named: Option<&SnapshotId>,
) -> Result<(Vec<Candidate>, Vec<Entry>), Failure> {
    let mut entries = release.repository.list(Some(&release.context.environment)).await?;
    entries.retain(|entry| match named {
        Some(id) => entry.manifest.id == *id,
        None => entry.manifest.purpose != Purpose::Safety,
    });
    entries.truncate(LOOKED_AT_MAX);
    let mut candidates = Vec::new();
    for entry in &entries {
        for record in &entry.manifest.parts {
            let recorded = Recorded::open(&release.repository, record).await?;
            let Ok(facts) = recorded.facts::<ServerFacts>() else { continue };
            let database = facts.databases.into_iter().find(|database| database.label == site.database);
            candidates.extend(database.map(|database| Candidate {
                id: entry.manifest.id.clone(),
                proven: entry.is_proven(),
                heads: database.migrations,
            }));
        }
    }
    Ok((candidates, entries))
}

/// After a migration failed half-way: the database goes back to the snapshot where the settings want that,
/// else the command that does it is said.
pub async fn after_failure(
    release: &Release,
    site: &Site,
    failure: Failure,
    behind: &Behind,
) -> Result<Report, Failure> {
    let (Exit::Stuck, Some(snapshot)) = (failure.exit, &behind.snapshot) else {
        if let (true, Some(id)) = (behind.newly_pinned, &behind.snapshot) {
            // Nothing changed, so nothing needs a way back.
            release.repository.unpin(&release.context.environment, id).await?;
        }
        return Err(failure);
    };
    if site.migrations.on_failure == OnFailure::Ask {
        let database = &site.database;
        let hint = format!("`backstay restore {snapshot} --only database` takes `{database}` back to before the run");
        return Err(failure.hint(hint));
    }
    let printer = release.project.surroundings.printer;
    printer.note(&format!(
        "the migration failed half-way; the database goes back to snapshot {snapshot}: {}",
        failure.what.join(": ")
    ));
    let entry = release.repository.entry(&release.context.environment, snapshot).await?;
    let source = Source::open(&release.repository, &entry).await?;
    let wish = Wish { only: Some([PartKind::Database].into()), ..Wish::default() };
    let plan = plan(&release.site(), &source, &wish).await?;
    let done = execute(&release.site(), &source, &plan, &restored::choices(release)).await?;
    let report = restored::report(release, &done);
    if done.outcome != Outcome::Done {
        return Ok(report);
    }
    Ok(report.failing(Failure { exit: Exit::TakenBack, state: State::TakenBack, ..failure }))
}
