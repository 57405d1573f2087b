use backstay_config::OnFailure;
use backstay_migrate::{Candidate, Gate, gate, status, tools};
use backstay_model::{Outcome, PartKind, Purpose, SnapshotId};
use backstay_part::Recorded;
use backstay_postgres::ServerFacts;
use backstay_repository::Entry;
use backstay_restore::{Source, Wish, execute, plan};
use backstay_run::{Context, Interrupt};

use super::{Site, recorded};
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
    let (candidates, _) = candidates(release, site, named).await?;
    let live = tools(&site.target).await?;
    let mut decided = gate(release.project.settings.production, &live, &candidates, named);
    if named.is_none()
        && !matches!(decided, Gate::Open { snapshot: Some(_) })
        && let Some(id) = behind_half_done(release, site).await?
    {
        decided = Gate::Open { snapshot: Some(id) };
    }
    match decided {
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

/// Where a run stopped in the middle of a file, no snapshot stands at the head of now: the one behind that run is
/// what takes the whole of it back, so whoever goes on goes on with that.
async fn behind_half_done(release: &Release, site: &Site) -> Result<Option<SnapshotId>, Failure> {
    if site.folder.is_none() || status(&site.target, site.folder.as_ref()).await?.half_done.is_empty() {
        return Ok(None);
    }
    let environment = &release.context.environment;
    let runs = release.repository.runs(environment).await?;
    let stopped = runs.into_iter().find(|run| run.command == "migrate run" && run.outcome != Some(Outcome::Done));
    let Some(id) = stopped.and_then(|run| run.snapshot) else { return Ok(None) };
    let entries = release.repository.list(Some(environment)).await?;
    Ok(entries.into_iter().find(|entry| entry.manifest.id == id && entry.is_proven()).map(|entry| entry.manifest.id))
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
    // A run of its own, which nobody asked to stop.
    let inner =
        Context { run: recorded::next_run(release), interrupt: Interrupt::default(), ..release.context.clone() };
    let place = release.site().within(&inner);
    let plan = plan(&place, &source, &wish).await?;
    let done = execute(&place, &source, &plan, &restored::choices(release)).await?;
    let report = restored::report(release, &done);
    if done.outcome != Outcome::Done {
        return Ok(report);
    }
    Ok(report.failing(Failure { exit: Exit::TakenBack, state: State::TakenBack, ..failure }))
}
