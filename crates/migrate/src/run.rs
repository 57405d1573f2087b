use std::time::Duration;

use backstay_model::SnapshotId;
use backstay_run::Context;
use serde::Serialize;

use crate::aftermath::{self, Aftermath};
use crate::bookkeeping::{self, Direction};
use crate::cuts::{Batch, Cut, batches};
use crate::folder::{Fault, FaultKind, Folder, Migration};
use crate::history::History;
use crate::measured::milliseconds;
use crate::session::{Mode, Session};
use crate::transaction::Applied;
use crate::{Error, Target, stepwise, transaction};

const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_FOR: Duration = Duration::from_secs(60);

/// How a run goes about it.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// One transaction for each file instead of one for all.
    pub per_file: bool,
    /// How long a statement waits for one lock before everything is rolled back and tried again.
    pub lock_timeout: Duration,
    /// How long trying again goes on.
    pub retry_for: Duration,
    pub statement_timeout: Option<Duration>,
    /// How long another migration is waited for.
    pub lock_wait: Duration,
    /// Whether files below the newest applied one are run instead of refused.
    pub out_of_order: bool,
    /// The last version to run; all where nothing is said.
    pub up_to: Option<i64>,
    /// The snapshot that takes this run back: recorded with it.
    pub snapshot: Option<SnapshotId>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            per_file: false,
            lock_timeout: LOCK_TIMEOUT,
            retry_for: RETRY_FOR,
            statement_timeout: None,
            lock_wait: RETRY_FOR,
            out_of_order: false,
            up_to: None,
            snapshot: None,
        }
    }
}

/// What a run did, read back from the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunReport {
    /// Files in the order they were applied; empty where nothing was pending.
    pub applied: Vec<String>,
    /// How many transactions they took.
    pub transactions: usize,
    pub cuts: Vec<Cut>,
    pub milliseconds: u64,
    /// The newest version of the history now.
    pub head: Option<i64>,
    pub aftermath: Aftermath,
}

/// Applies every pending migration.
pub async fn run(
    context: &Context,
    target: &Target,
    folder: &Folder,
    options: &RunOptions,
) -> Result<RunReport, Error> {
    let mut session = Session::open(context, target, options, Mode::Real).await?;
    let ran = run_in(&mut session, folder).await;
    session.close().await;
    ran
}

/// Everything between taking the lock and giving it back.
pub(crate) async fn run_in(session: &mut Session<'_>, folder: &Folder) -> Result<RunReport, Error> {
    let began = session.context.clock.elapsed();
    let before = aftermath::look(session).await?;
    // Only now: what was pending before the lock was taken may have been applied by who held it.
    let pending = pending(session, folder).await?;
    let deferrable = crate::catalog::has_deferrable(&mut session.connection)
        .await
        .map_err(session.target.failed("read the constraints"))?;
    let (batches, mut cuts) = batches(&pending, session.options.per_file, deferrable)
        .map_err(|fault| Error::Faults { faults: vec![fault] })?;
    let transactions = apply_all(session, batches, &mut cuts).await?;
    let read = read_back(session, &pending, &before).await;
    let unread = |source| if pending.is_empty() { source } else { Error::Unread { source: Box::new(source) } };
    let (head, aftermath) = read.map_err(unread)?;
    let took = session.context.clock.elapsed().saturating_sub(began);
    let applied = session.committed.clone();
    Ok(RunReport { applied, transactions, cuts, milliseconds: milliseconds(took), head, aftermath })
}

/// Nothing counts as applied that the history does not hold.
async fn read_back(
    session: &mut Session<'_>,
    pending: &[&Migration],
    before: &aftermath::Before,
) -> Result<(Option<i64>, Aftermath), Error> {
    let failed = session.target.failed("read the history back");
    let history = session.history().await.map_err(failed)?;
    if let Some(missing) = pending.iter().find(|one| !history.has(one.version)) {
        let why = format!("{} was run and the history does not hold it", missing.up.file);
        return Err(Error::Refused { why });
    }
    let aftermath = aftermath::after(session, before, !pending.is_empty()).await?;
    Ok((history.head().map(|applied| applied.version), aftermath))
}

/// What is left to do, after everything that speaks against doing it was looked for.
pub(crate) async fn pending<'f>(session: &mut Session<'_>, folder: &'f Folder) -> Result<Vec<&'f Migration>, Error> {
    let failed = session.target.failed("read the history");
    let history = session.history().await.map_err(&failed)?;
    let resumable = bookkeeping::resumable(&mut session.connection, Direction::Up).await.map_err(&failed)?;
    drop(failed);
    let (pending, faults) = judge(&history, folder, &resumable, &session.options);
    if faults.is_empty() { Ok(pending) } else { Err(Error::Faults { faults }) }
}

/// The pending migrations, and what is wrong with them or with the history. Pure.
pub(crate) fn judge<'f>(
    history: &History,
    folder: &'f Folder,
    resumable: &[i64],
    options: &RunOptions,
) -> (Vec<&'f Migration>, Vec<Fault>) {
    let mut faults = history.faults(folder, resumable);
    if options.out_of_order {
        faults.retain(|fault| fault.kind != FaultKind::OutOfOrder);
    }
    let mut pending = history.pending(folder);
    if let Some(last) = options.up_to {
        pending.retain(|migration| migration.version <= last);
    }
    for migration in &pending {
        faults.extend(migration.up.faults());
    }
    (pending, faults)
}

async fn apply_all(session: &mut Session<'_>, batches: Vec<Batch<'_>>, cuts: &mut Vec<Cut>) -> Result<usize, Error> {
    let mut waiting: Vec<Batch<'_>> = batches.into_iter().rev().collect();
    let mut transactions = 0;
    while let Some(batch) = waiting.pop() {
        if batch.outside {
            for migration in &batch.migrations {
                stepwise::apply(session, migration, Direction::Up).await?;
            }
            transactions += 1;
            continue;
        }
        match transaction::apply(session, &batch, Direction::Up).await? {
            Applied::Committed => transactions += 1,
            Applied::NeedsCommitBefore(index) => {
                let mut first = batch.migrations;
                let rest = first.split_off(index);
                if let Some(migration) = rest.first() {
                    let file = migration.up.file.clone();
                    session
                        .context
                        .warn(format!("{file} needs a COMMIT before it; everything was rolled back and starts again"));
                    cuts.push(Cut { before: file, why: "PostgreSQL asked for a COMMIT when it ran".to_owned() });
                }
                waiting.push(Batch { migrations: rest, outside: false });
                waiting.push(Batch { migrations: first, outside: false });
            }
        }
    }
    Ok(transactions)
}
