use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use backstay_model::{Event, PartName, Root};
use backstay_repository::SnapshotWriter;
use backstay_run::Context;
use tokio::task::JoinSet;

use super::copy::{Sink, copy_out};
use super::statements::{generated_columns, stored_rows};
use crate::catalog::relations::Relation;
use crate::session::connect;
use crate::{Error, Extent, RangeFacts, RowSum, Session, Settings, TableFacts};

/// Tables are cut at multiples of this, so that the rows of an untouched range are the same stream again.
const RANGE_BYTES: u64 = 1 << 30;
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// One range of one table.
#[derive(Debug, Clone)]
struct Job {
    table: usize,
    extent: Extent,
    stream: String,
    /// Its share of the table's size on disk.
    expected: u64,
}

/// What a job came to.
struct Done {
    job: Job,
    root: Root,
    stored: RowSum,
    generated: Option<RowSum>,
}

/// What workers share.
struct Work {
    part: PartName,
    context: Context,
    writer: SnapshotWriter,
    settings: Settings,
    snapshot: String,
    encoding: String,
    tables: Vec<TableFacts>,
    queue: Mutex<VecDeque<Job>>,
    /// Jobs whose table a worker could not lock without waiting.
    refused: Mutex<Vec<Job>>,
}

pub(super) struct Rows {
    pub tables: Vec<TableFacts>,
    pub contents: Vec<(String, Root)>,
}

/// What the rows of one database are read with.
pub(super) struct Plan<'a> {
    pub part: &'a PartName,
    pub context: &'a Context,
    pub writer: &'a SnapshotWriter,
    pub settings: &'a Settings,
    pub snapshot: &'a str,
    pub label: &'a str,
    pub workers: usize,
    pub block_bytes: u64,
}

/// Copies all rows, side by side, largest first. `coordinator` holds the locks and copies what the
/// workers were refused.
pub(super) async fn copy_all(
    coordinator: &mut Session,
    relations: &[Relation],
    tables: Vec<TableFacts>,
    plan: &Plan<'_>,
) -> Result<Rows, Error> {
    // By name, not by place: the server orders names in its encoding, which is not our order.
    let relations: HashMap<_, _> =
        relations.iter().map(|relation| ((relation.schema.as_str(), relation.name.as_str()), relation)).collect();
    let mut jobs = Vec::new();
    let mut rows = Some(0);
    for (at, table) in tables.iter().enumerate().filter(|(_, table)| !table.excluded) {
        let relation = relations.get(&(table.schema.as_str(), table.name.as_str())).ok_or_else(|| Error::Moving {
            database: coordinator.database.clone(),
            what: format!("{}.{} was not listed", table.schema, table.name),
        })?;
        if relation.holds_rows() {
            jobs.extend(jobs_of(at, relation, plan));
            rows = rows.zip(u64::try_from(relation.rows_estimated).ok()).map(|(sum, rows)| sum + rows);
        }
    }
    plan.context.hear(Event::TotalKnown {
        part: plan.part.clone(),
        subject: coordinator.database.clone(),
        bytes: jobs.iter().map(|job| job.expected).sum(),
        rows,
    });
    jobs.sort_by_key(|job| std::cmp::Reverse(job.expected));
    let workers = plan.workers.clamp(1, jobs.len().max(1));
    let work = Arc::new(Work {
        part: plan.part.clone(),
        context: plan.context.clone(),
        writer: plan.writer.clone(),
        settings: plan.settings.clone(),
        snapshot: plan.snapshot.to_owned(),
        encoding: coordinator.encoding.clone(),
        tables,
        queue: Mutex::new(jobs.into()),
        refused: Mutex::default(),
    });
    // Dropped with this future, and the workers with it.
    let mut running = JoinSet::new();
    for _ in 0..workers {
        running.spawn(worker(Arc::clone(&work)));
    }
    let mut done = Vec::new();
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(result) => done.extend(result?),
            Err(_) => return Err(Error::Interrupted),
        }
    }
    let refused = std::mem::take(&mut *work.refused.lock().unwrap_or_else(PoisonError::into_inner));
    for job in refused {
        done.push(copy_job(coordinator, &work, job).await?);
    }
    Ok(collect(work.tables.clone(), done))
}

fn jobs_of(table: usize, relation: &Relation, plan: &Plan<'_>) -> Vec<Job> {
    let heap = u64::try_from(relation.heap_bytes).unwrap_or_default();
    let size = u64::try_from(relation.table_bytes).unwrap_or_default();
    // Rows that a condition selects may lie anywhere and are few; other ways of storing have no blocks.
    let in_ranges = relation.in_blocks && !relation.is_configuration();
    let ranges = if in_ranges { heap.div_ceil(RANGE_BYTES).max(1) } else { 1 };
    let blocks = RANGE_BYTES / plan.block_bytes.max(1);
    (0..ranges)
        .map(|at| Job {
            table,
            extent: Extent { first: at * blocks, end: (at + 1 < ranges).then_some((at + 1) * blocks) },
            stream: format!("{}/rows/{}/{at:04}", plan.label, relation.qualified()),
            expected: size / ranges,
        })
        .collect()
}

async fn worker(work: Arc<Work>) -> Result<Vec<Done>, Error> {
    let mut done = Vec::new();
    let next = || work.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let Some(mut job) = next() else { return Ok(done) };
    let mut session = connect(&work.settings, "capture rows").await?;
    let begin = format!(
        "begin isolation level repeatable read, read only; set transaction snapshot {}",
        crate::literal(&work.snapshot)
    );
    session.execute("take up the snapshot", &begin).await?;
    loop {
        if lock_at_once(&mut session, &work, &job).await? {
            done.push(copy_job(&mut session, &work, job).await?);
            // Gives the lock back at once: the coordinator has its own, and the server has only so many.
            session.execute("let go of the table", "rollback to savepoint job; release savepoint job").await?;
        } else {
            work.refused.lock().unwrap_or_else(PoisonError::into_inner).push(job);
        }
        match next() {
            Some(another) => job = another,
            None => break,
        }
    }
    session.close().await;
    Ok(done)
}

/// Never waits: behind an ALTER that waits for the coordinator's lock, waiting would last forever.
async fn lock_at_once(session: &mut Session, work: &Work, job: &Job) -> Result<bool, Error> {
    let Some(table) = work.tables.get(job.table) else { return Ok(false) };
    session.execute("mark a place", "savepoint job").await?;
    let name = crate::qualified(&table.schema, &table.name);
    let sql = format!("lock table only {name} in access share mode nowait");
    match session.execute("lock a table for reading", &sql).await {
        Ok(()) => Ok(true),
        Err(error) if error.sqlstate().as_deref() == Some(LOCK_NOT_AVAILABLE) => {
            session.execute("go back", "rollback to savepoint job; release savepoint job").await?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

async fn copy_job(session: &mut Session, work: &Work, job: Job) -> Result<Done, Error> {
    let Some(table) = work.tables.get(job.table) else { return Err(Error::Interrupted) };
    let title = format!("{}.{}", table.schema, table.name);
    let subject = format!("{} {title}", session.database);
    let progress = Progress::begin(work, subject.clone(), job.expected);
    let moved = |bytes| progress.moved(bytes);
    let mut sink = Sink::stream(&work.writer, &subject);
    let mut stored = RowSum::default();
    let sql = stored_rows(table, job.extent, &work.encoding);
    copy_out(session, &title, &sql, &mut sink, &mut stored, &moved).await?;
    let mut generated = None;
    if !table.generated.is_empty() {
        let sql = generated_columns(table, job.extent, &work.encoding);
        let sum = generated.insert(RowSum::default());
        copy_out(session, &title, &sql, &mut Sink::Nowhere, sum, &|_| {}).await?;
    }
    let Some(root) = sink.finish().await? else { return Err(Error::Interrupted) };
    progress.end();
    Ok(Done { job, root, stored, generated })
}

/// Says how far a range is, in bytes on disk: what a table will be as text nobody knows before.
struct Progress<'a> {
    work: &'a Work,
    subject: String,
    expected: u64,
    said: Mutex<u64>,
}

impl<'a> Progress<'a> {
    fn begin(work: &'a Work, subject: String, expected: u64) -> Self {
        let event =
            Event::TransferBegan { part: work.part.clone(), subject: subject.clone(), bytes_expected: Some(expected) };
        work.context.hear(event);
        Self { work, subject, expected, said: Mutex::default() }
    }

    /// Never says more than was expected, so that the total stays what it was.
    fn moved(&self, bytes: u64) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = bytes.min(self.expected.saturating_sub(*said));
        *said += bytes;
        self.say(bytes);
    }

    fn end(&self) {
        self.moved(u64::MAX);
        let (part, subject) = (self.work.part.clone(), self.subject.clone());
        self.work.context.hear(Event::TransferEnded { part, subject });
    }

    fn say(&self, bytes: u64) {
        if bytes > 0 {
            let (part, subject) = (self.work.part.clone(), self.subject.clone());
            self.work.context.hear(Event::TransferMoved { part, subject, bytes });
        }
    }
}

fn collect(mut tables: Vec<TableFacts>, mut done: Vec<Done>) -> Rows {
    done.sort_by_key(|done| (done.job.table, done.job.extent.first));
    let mut contents = Vec::with_capacity(done.len());
    let mut sums: Vec<(RowSum, Option<RowSum>)> = vec![Default::default(); tables.len()];
    for Done { job, root, stored, generated } in done {
        let (Some(table), Some((sum, generated_sum))) = (tables.get_mut(job.table), sums.get_mut(job.table)) else {
            continue;
        };
        table.ranges.push(RangeFacts { stream: job.stream.clone(), extent: job.extent, rows: stored.rows() });
        contents.push((job.stream, root));
        sum.merge(&stored);
        if let Some(generated) = generated {
            generated_sum.get_or_insert_default().merge(&generated);
        }
    }
    for (table, (sum, generated)) in tables.iter_mut().zip(sums) {
        table.rows = sum.rows();
        table.bytes = sum.bytes();
        table.fingerprint = sum.fingerprint();
        table.generated_fingerprint = generated.map(|sum| sum.fingerprint());
    }
    Rows { tables, contents }
}
