use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use backstay_model::{Event, Root};
use backstay_part::{Part, Recorded};
use backstay_run::Context;
use futures_util::future::try_join_all;

use super::archive::{next, stream};
use super::{connect_to_fill, search_path};
use crate::capture::statements::listed;
use crate::catalog::partitions;
use crate::{DatabaseFacts, Error, RowsOf, ServerPart, Session, Settings, TableFacts, fuse, literal, qualified};

/// A foreign key, and a check whose function reads other tables: the rows of those may come later.
const WAITS_FOR_OTHERS: [&str; 2] = ["23503", "23514"];

/// Streams of one table to copy in one transaction.
struct Job<'a> {
    table: &'a TableFacts,
    root: &'a Root,
    stream: &'a str,
    /// Where it goes: the table, or the root of its tree.
    into: String,
    /// All of the table's rows: it may be emptied and frozen.
    whole: bool,
}

/// What the workers share.
struct Work<'a> {
    part: &'a ServerPart,
    context: &'a Context,
    recorded: &'a Recorded,
    settings: &'a Settings,
    facts: &'a DatabaseFacts,
    queue: Mutex<VecDeque<Job<'a>>>,
    /// What calls functions that may read other tables, and comes after all of those.
    later: Mutex<VecDeque<Job<'a>>>,
}

/// Copies all rows in, side by side, largest first. Triggers, keys and indexes come later.
pub(super) async fn load_all(
    part: &ServerPart,
    context: &Context,
    recorded: &Recorded,
    facts: &DatabaseFacts,
    settings: &Settings,
) -> Result<(), Error> {
    let mut session = connect_to_fill(settings, "stage rows").await?;
    let scattered = partitions::scattered(&mut session).await?;
    session.close().await;
    let mut jobs = Vec::new();
    for table in &facts.tables {
        let tree = scattered.get(&(table.schema.clone(), table.name.clone()));
        let into =
            tree.map_or_else(|| qualified(&table.schema, &table.name), |tree| qualified(&tree.schema, &tree.name));
        for range in table.ranges.iter().filter(|range| range.rows > 0) {
            let whole = table.ranges.len() == 1 && matches!(table.rows_of, RowsOf::Table) && tree.is_none();
            let root = stream(recorded, &range.stream)?;
            jobs.push(Job { table, root, stream: &range.stream, into: into.clone(), whole });
        }
    }
    context.hear(Event::TotalKnown {
        part: part.name().clone(),
        subject: settings.database().to_owned(),
        bytes: jobs.iter().map(|job| job.root.bytes).sum(),
        rows: Some(facts.tables.iter().map(|table| table.rows).sum()),
    });
    // The constraints of an extension's own tables are there already, so these go in by themselves.
    let of_extensions = |job: &Job<'_>| matches!(job.table.rows_of, RowsOf::ExtensionConfiguration { .. });
    let (configuration, mut jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(of_extensions);
    jobs.sort_by_key(|job| std::cmp::Reverse(job.root.bytes));
    let workers = part.options().workers.clamp(1, jobs.len().max(1));
    let work =
        Work { part, context, recorded, settings, facts, queue: Mutex::new(jobs.into()), later: Mutex::default() };
    load_in_turn(&work, configuration.into()).await?;
    try_join_all((0..workers).map(|_| worker(&work))).await?;
    let later = std::mem::take(&mut *work.later.lock().unwrap_or_else(PoisonError::into_inner));
    load_in_turn(&work, later).await
}

/// Rows that refer to others come after those, whatever order that is.
async fn load_in_turn(work: &Work<'_>, mut jobs: VecDeque<Job<'_>>) -> Result<(), Error> {
    if jobs.is_empty() {
        return Ok(());
    }
    let mut session = connect_to_fill(work.settings, "stage rows").await?;
    let mut refused = 0;
    while let Some(job) = jobs.pop_front() {
        match load(&mut session, work, &job).await {
            Ok(()) => refused = 0,
            Err(error) if waits_for_others(&error) && refused < jobs.len() => {
                session.execute("go back", "rollback").await?;
                refused += 1;
                jobs.push_back(job);
            }
            Err(error) => return Err(error),
        }
    }
    session.close().await;
    Ok(())
}

fn waits_for_others(error: &Error) -> bool {
    error.sqlstate().is_some_and(|state| WAITS_FOR_OTHERS.contains(&state.as_str()))
}

async fn worker(work: &Work<'_>) -> Result<(), Error> {
    let mut session: Option<Session> = None;
    loop {
        let job = work.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(job) = job else { break };
        let session = match &mut session {
            Some(session) => session,
            none => none.insert(connect_to_fill(work.settings, "stage rows").await?),
        };
        match fill(session, work, &job, None).await {
            Err(error) if waits_for_others(&error) || search_path::finds_nothing(&error) => {
                session.execute("go back", "rollback").await?;
                work.later.lock().unwrap_or_else(PoisonError::into_inner).push_back(job);
            }
            other => other?,
        }
    }
    if let Some(session) = session {
        session.close().await;
    }
    Ok(())
}

async fn load(session: &mut Session, work: &Work<'_>, job: &Job<'_>) -> Result<(), Error> {
    match fill(session, work, job, None).await {
        Err(error) if search_path::finds_nothing(&error) => {
            session.execute("go back", "rollback").await?;
            let path = search_path::of(work.facts, &job.table.schema);
            work.context.warn(search_path::warning(&format!("{}.{}", job.table.schema, job.table.name), &error));
            fill(session, work, job, Some(&path)).await
        }
        other => other,
    }
}

async fn fill(session: &mut Session, work: &Work<'_>, job: &Job<'_>, path: Option<&str>) -> Result<(), Error> {
    let name = &job.into;
    let title = format!("{}.{}", job.table.schema, job.table.name);
    fuse::pass("copy rows", &session.database)?;
    let (part, subject) = (work.part.name().clone(), format!("{} {title}", session.database));
    let bytes_expected = Some(job.root.bytes);
    work.context.hear(Event::TransferBegan { part: part.clone(), subject: subject.clone(), bytes_expected });
    session.execute("begin", "begin").await?;
    if let Some(path) = path {
        session.execute("set the search path", &format!("set local search_path = {path}")).await?;
    }
    if job.whole {
        // Emptied in this transaction, it may be filled with rows that need no freezing later.
        session.execute("empty the table", &format!("truncate only {name}")).await?;
    }
    let columns = listed(&job.table.columns);
    let columns = if columns.is_empty() { columns } else { format!(" ({columns})") };
    let freeze = if job.whole { ", freeze" } else { "" };
    let sql = format!(
        "copy {name}{columns} from stdin with (format text, encoding {}{freeze})",
        literal(&work.facts.encoding)
    );
    let failed = &Error::copying(&title, &session.database);
    let mut reader = work.recorded.repository.read(job.root);
    let mut copy = session.connection.copy_in_raw(&sql).await.map_err(failed)?;
    while let Some(piece) = next(&mut reader, job.stream).await? {
        let bytes = piece.len() as u64;
        copy.send(piece).await.map_err(failed)?;
        work.context.hear(Event::TransferMoved { part: part.clone(), subject: subject.clone(), bytes });
    }
    copy.finish().await.map_err(failed)?;
    session.execute("commit the rows", "commit").await?;
    work.context.hear(Event::TransferEnded { part, subject });
    fuse::pass("copy rows", &session.database)
}
