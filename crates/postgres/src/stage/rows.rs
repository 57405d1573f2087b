use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use backstay_model::{Event, Root};
use backstay_part::Part;
use futures_util::future::try_join_all;

use super::archive::{Archive, Means, Target, next, stream};
use super::queue::{Queue, Task};
use super::statistics::{self, Statistics};
use super::{Build, connect_to_fill, entries, search_path};
use crate::capture::statements::listed;
use crate::catalog::partitions;
use crate::{Error, RowsOf, Session, TableFacts, fuse, literal, qualified};

/// A foreign key, and a check whose function reads other tables: the rows of those may come later, and a key that is
/// built on them may stand in the way.
const WAITS_FOR_OTHERS: [&str; 3] = ["23503", "23514", "40P01"];

/// What the server grants to one who builds an index.
const GRANTED: &str = "
    select m.setting::pg_catalog.int8, h.setting::pg_catalog.int8
      from pg_catalog.pg_settings m, pg_catalog.pg_settings h
     where m.name = 'maintenance_work_mem' and h.name = 'max_parallel_maintenance_workers'";

/// A stream of one table to copy in one transaction.
pub(super) struct Job<'a> {
    pub table: &'a TableFacts,
    /// The table's among those of the facts.
    pub place: usize,
    pub root: &'a Root,
    stream: &'a str,
    /// Where it goes: the table, or the root of its tree.
    into: String,
    /// All of the table's rows: it may be emptied and frozen.
    whole: bool,
}

/// What the workers share.
struct Work<'a> {
    build: &'a Build<'a>,
    archive: &'a Archive,
    target: Target<'a>,
    queue: Queue<'a>,
    granted: Means,
    /// What calls functions that may read other tables, and comes after all of those.
    later: Mutex<VecDeque<Job<'a>>>,
    /// The tables that statistics have been gathered of.
    analyzed: Mutex<Vec<String>>,
}

/// Copies all rows in, side by side. Triggers come later, and so do keys and indexes, but for those that need nothing
/// but rows that are in already. Returns the tables of which statistics are gathered.
pub(super) async fn load_all(build: &Build<'_>, archive: &Archive, target: Target<'_>) -> Result<Vec<String>, Error> {
    let (part, facts) = (build.part, build.facts);
    let mut session = connect_to_fill(target.settings, "stage rows").await?;
    let scattered = partitions::scattered(&mut session).await?;
    let (memory_kib, helpers) = session.row("look what may be used for an index", GRANTED).await?;
    session.close().await;
    let tree = |table: &TableFacts| scattered.get(&(table.schema.clone(), table.name.clone()));
    let mut jobs = Vec::new();
    for (place, table) in facts.tables.iter().enumerate() {
        let tree = tree(table);
        let into =
            tree.map_or_else(|| qualified(&table.schema, &table.name), |tree| qualified(&tree.schema, &tree.name));
        for range in table.ranges.iter().filter(|range| range.rows > 0) {
            let whole = table.ranges.len() == 1 && matches!(table.rows_of, RowsOf::Table) && tree.is_none();
            let root = stream(build.recorded, &range.stream)?;
            jobs.push(Job { table, place, root, stream: &range.stream, into: into.clone(), whole });
        }
    }
    build.context.hear(Event::TotalKnown {
        part: part.name().clone(),
        subject: target.settings.database().to_owned(),
        bytes: jobs.iter().map(|job| job.root.bytes).sum(),
        rows: Some(facts.tables.iter().map(|table| table.rows).sum()),
    });
    // The constraints of an extension's own tables are there already, so these go in by themselves.
    let of_extensions = |job: &Job<'_>| matches!(job.table.rows_of, RowsOf::ExtensionConfiguration { .. });
    let (configuration, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(of_extensions);
    let mut indexes = entries::by_table(archive.all_for(target).await?, &facts.tables);
    // Rows of other partitions may still come to these.
    indexes.retain(|place, _| facts.tables.get(*place).is_some_and(|table| tree(table).is_none()));
    let workers = part.options().workers.max(1);
    let queue = Queue::new(workers, jobs, indexes, &facts.tables);
    let granted = Means { memory_kib, helpers };
    let work = Work { build, archive, target, queue, granted, later: Mutex::default(), analyzed: Mutex::default() };
    load_in_turn(&work, configuration.into()).await?;
    try_join_all((0..workers).map(|_| worker(&work))).await?;
    let later = std::mem::take(&mut *work.later.lock().unwrap_or_else(PoisonError::into_inner));
    load_in_turn(&work, later).await?;
    Ok(work.analyzed.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Rows that refer to others come after those, whatever order that is.
async fn load_in_turn(work: &Work<'_>, mut jobs: VecDeque<Job<'_>>) -> Result<(), Error> {
    if jobs.is_empty() {
        return Ok(());
    }
    let mut session = connect_to_fill(work.target.settings, "stage rows").await?;
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
    while let Some(task) = work.queue.next().await {
        match task {
            Task::Rows(job) => {
                let session = match &mut session {
                    Some(session) => session,
                    none => none.insert(connect_to_fill(work.target.settings, "stage rows").await?),
                };
                match fill(session, work, &job, None).await {
                    Err(error) if waits_for_others(&error) || search_path::finds_nothing(&error) => {
                        session.execute("go back", "rollback").await?;
                        work.queue.put_off(&job);
                        work.later.lock().unwrap_or_else(PoisonError::into_inner).push_back(job);
                    }
                    other => {
                        other?;
                        let early = job.whole && work.build.statistics == Statistics::OfAll;
                        if early && statistics::gather_early(session, &job.into, job.root.bytes).await? {
                            work.analyzed.lock().unwrap_or_else(PoisonError::into_inner).push(job.into.clone());
                        }
                        work.queue.loaded(&job);
                    }
                }
            }
            Task::Indexes(indexes) => {
                // There are no more rows to load, and pg_restore has a session of its own.
                if let Some(session) = session.take() {
                    session.close().await;
                }
                // What fails here is tried again in its turn, and then says why.
                let _ = work.archive.restore_ahead(work.target, &indexes.entries, indexes.means(work.granted)).await;
                work.queue.built(&indexes);
            }
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
            let path = search_path::of(work.build.facts, &job.table.schema);
            work.build.context.warn(search_path::warning(&format!("{}.{}", job.table.schema, job.table.name), &error));
            fill(session, work, job, Some(&path)).await
        }
        other => other,
    }
}

async fn fill(session: &mut Session, work: &Work<'_>, job: &Job<'_>, path: Option<&str>) -> Result<(), Error> {
    let name = &job.into;
    let title = format!("{}.{}", job.table.schema, job.table.name);
    fuse::pass("copy rows", &session.database)?;
    let (part, subject) = (work.build.part.name().clone(), format!("{} {title}", session.database));
    let bytes_expected = Some(job.root.bytes);
    work.build.context.hear(Event::TransferBegan { part: part.clone(), subject: subject.clone(), bytes_expected });
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
        literal(&work.build.facts.encoding)
    );
    let failed = &Error::copying(&title, &session.database);
    let mut reader = work.build.recorded.repository.read(job.root);
    let mut copy = session.connection.copy_in_raw(&sql).await.map_err(failed)?;
    while let Some(piece) = next(&mut reader, job.stream).await? {
        let bytes = piece.len() as u64;
        copy.send(piece).await.map_err(failed)?;
        work.build.context.hear(Event::TransferMoved { part: part.clone(), subject: subject.clone(), bytes });
    }
    copy.finish().await.map_err(failed)?;
    session.execute("commit the rows", "commit").await?;
    work.build.context.hear(Event::TransferEnded { part, subject });
    fuse::pass("copy rows", &session.database)
}
