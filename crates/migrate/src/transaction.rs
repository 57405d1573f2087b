use std::time::{Duration, Instant};

use backstay_model::Event;
use rand::RngExt;
use sqlx::postgres::PgConnection;

use crate::bookkeeping::{self, Direction, Ran, digest};
use crate::cuts::Batch;
use crate::error::Place;
use crate::folder::{Migration, Script};
use crate::session::{Executed, Mode, Session, place, whole};
use crate::sql::{Effects, effects};
use crate::{Blocker, Error, failure, guise, history};

const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
const RECONNECT_MAX: Duration = Duration::from_secs(60);
const RECONNECT_POLL: Duration = Duration::from_millis(200);

/// How a batch ended when it did not fail.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Committed,
    /// Everything was rolled back: a COMMIT before this file of the batch would let it pass.
    NeedsCommitBefore(usize),
}

enum Failure {
    /// Somebody else was in the way; everything is rolled back.
    Contended {
        place: Place,
        blockers: Vec<Blocker>,
    },
    NeedsCommitBefore(usize),
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// Runs a batch in one transaction, again and again while somebody stands in the way, up to a limit.
pub(crate) async fn apply(
    session: &mut Session<'_>,
    batch: &Batch<'_>,
    direction: Direction,
) -> Result<Applied, Error> {
    let deadline = session.context.clock.elapsed() + session.options.retry_for;
    let mut named = Vec::new();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let (place, blockers) = match once(session, batch, direction).await {
            Ok(()) => return Ok(Applied::Committed),
            Err(Failure::NeedsCommitBefore(index)) => return Ok(Applied::NeedsCommitBefore(index)),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Contended { place, blockers }) => (place, blockers),
        };
        if !blockers.is_empty() {
            named = blockers;
        }
        let pause = pause_after(attempts);
        if session.context.clock.elapsed() + pause > deadline || session.mode == Mode::InPlace {
            return Err(Error::Locked { place, attempts, blockers: named, committed: session.committed.clone() });
        }
        let who = named.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        session.context.hear(Event::Waiting { on: format!("a lock for {place}; {who}") });
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = session.context.interrupt.requested() => {
                return Err(Error::Interrupted { committed: session.committed.clone(), half: None });
            }
        }
    }
}

/// Twice as long each time, and never the same for two runners.
pub(crate) fn pause_after(attempts: u32) -> Duration {
    let full = BACKOFF_FIRST.saturating_mul(1 << attempts.min(10)).min(BACKOFF_MAX);
    full.mul_f64(rand::rng().random_range(0.5..1.0))
}

async fn once(session: &mut Session<'_>, batch: &Batch<'_>, direction: Direction) -> Result<(), Failure> {
    let attempt = attempt(session, batch, direction).await;
    if attempt.is_err() {
        session.roll_back().await;
        if let Some(recorder) = session.recorder.as_mut() {
            recorder.forget_batch();
        }
    }
    attempt
}

async fn attempt(session: &mut Session<'_>, batch: &Batch<'_>, direction: Direction) -> Result<(), Failure> {
    let Some(first) = batch.migrations.first() else { return Ok(()) };
    let begun = session.execute("begin").await;
    begun.result.map_err(|source| session.failed(whole(first), false, source))?;
    let mut table = None;
    let mut xid = String::new();
    for (index, migration) in batch.migrations.iter().enumerate() {
        let Some(script) = chosen(migration, direction) else { continue };
        let statements = script.statements().map_err(|fault| Error::Faults { faults: vec![fault] })?;
        let effects = effects(&statements);
        if index == 0 && !effects.sets_transaction {
            table = Some(open(session, direction).await?);
            xid = current_xid(session).await?;
        }
        let began = Instant::now();
        let ran = file(session, script, index, &effects).await?;
        if table.is_none() {
            table = Some(open(session, direction).await?);
            xid = current_xid(session).await?;
        }
        // A role that the file took ends with the file.
        guise::lay_down(&mut session.connection).await.map_err(|source| kept(session, source))?;
        if current_xid(session).await? != xid {
            return Err(Error::Escaped { file: script.file.clone() }.into());
        }
        if session.mode.records() {
            let table = table.as_deref().unwrap_or_default();
            keep(session, table, migration, direction, &ran, began.elapsed()).await?;
        }
    }
    commit(session, batch, &xid).await
}

pub(crate) fn chosen(migration: &Migration, direction: Direction) -> Option<&Script> {
    match direction {
        Direction::Up => Some(&migration.up),
        Direction::Down => migration.down.as_ref(),
    }
}

/// What a transaction begins with: the history's table, and our own.
async fn open(session: &mut Session<'_>, direction: Direction) -> Result<String, Failure> {
    let table = if session.mode.records() {
        let known = session.history_table.clone();
        let made = history::ensure(&mut session.connection, known.as_deref()).await;
        let table = made.map_err(|source| kept(session, source))?;
        session.history_table = Some(table.clone());
        if session.bookkeeping {
            let context = session.context;
            let snapshot = session.options.snapshot.clone();
            bookkeeping::ensure(&mut session.connection).await.map_err(|source| kept(session, source))?;
            bookkeeping::begin_run(&mut session.connection, context, direction, snapshot.as_ref())
                .await
                .map_err(|source| kept(session, source))?;
        }
        table
    } else {
        String::new()
    };
    if let Some(recorder) = session.recorder.as_mut() {
        recorder.begin_batch(&mut session.connection).await.map_err(|source| kept(session, source))?;
    }
    Ok(table)
}

/// A query of our own that failed within the transaction.
fn kept(session: &Session<'_>, source: sqlx::Error) -> Failure {
    if failure::is_contention(&source) {
        let place = Place { file: "the history".to_owned(), line: 1, begins: "bookkeeping".to_owned() };
        return Failure::Contended { place, blockers: Vec::new() };
    }
    if failure::is_lost(&source) {
        let (target, committed) = (session.target.describe(), session.committed.clone());
        return Failure::Final(Error::Lost {
            target,
            file: "the history".to_owned(),
            committed,
            source: source.into(),
        });
    }
    let place = Place { file: "the history".to_owned(), line: 1, begins: "bookkeeping".to_owned() };
    Failure::Final(session.failed(place, false, source))
}

async fn current_xid(session: &mut Session<'_>) -> Result<String, Failure> {
    crate::target::query_scalar("select pg_catalog.pg_current_xact_id()::text")
        .fetch_one(&mut session.connection)
        .await
        .map_err(|source| kept(session, source))
}

async fn file(
    session: &mut Session<'_>,
    script: &Script,
    index: usize,
    effects: &Effects,
) -> Result<Vec<Ran>, Failure> {
    let statements = script.statements().map_err(|fault| Error::Faults { faults: vec![fault] })?;
    session.context.hear(Event::StepBegan { step: format!("migrate {}", script.file) });
    let timeouts = session.timeouts();
    session.execute(&timeouts).await.result.map_err(|source| kept(session, source))?;
    let local = local_values(&mut session.connection, effects).await.map_err(|source| kept(session, source))?;
    let mut ran = Vec::with_capacity(statements.len());
    for statement in &statements {
        let at = place(&script.file, statement);
        if session.context.interrupt.is_requested() {
            let committed = session.committed.clone();
            return Err(Error::Interrupted { committed, half: None }.into());
        }
        let executed = run_one(session, &at, statement.text).await?;
        match executed.result {
            Ok(()) => ran.push(Ran { line: statement.line, digest: digest(statement.text), took: executed.took }),
            Err(source) => return Err(judge(session, at, index, source, executed.blockers)),
        }
    }
    restore(&mut session.connection, &local).await.map_err(|source| kept(session, source))?;
    session.context.hear(Event::StepEnded { step: format!("migrate {}", script.file), remark: None });
    Ok(ran)
}

async fn run_one(session: &mut Session<'_>, at: &Place, sql: &str) -> Result<Executed, Failure> {
    if let Some(mut recorder) = session.recorder.take() {
        let executed = recorder.measure(session, at, sql).await;
        session.recorder = Some(recorder);
        return executed.map_err(|source| kept(session, source));
    }
    Ok(session.execute(sql).await)
}

fn judge(session: &Session<'_>, at: Place, index: usize, source: sqlx::Error, blockers: Vec<Blocker>) -> Failure {
    if failure::is_contention(&source) {
        return Failure::Contended { place: at, blockers };
    }
    if index > 0 && failure::needs_earlier_commit(&source) {
        return Failure::NeedsCommitBefore(index);
    }
    Failure::Final(session.failed(at, false, source))
}

/// The values of what a file sets until COMMIT, so that they do not reach into the next file.
async fn local_values(connection: &mut PgConnection, effects: &Effects) -> Result<Vec<(String, String)>, sqlx::Error> {
    let mut values = Vec::new();
    for name in &effects.local_settings {
        let value: Option<String> = crate::target::query_scalar("select pg_catalog.current_setting($1, true)")
            .bind(name)
            .fetch_one(&mut *connection)
            .await?;
        values.push((name.clone(), value.unwrap_or_default()));
    }
    Ok(values)
}

async fn restore(connection: &mut PgConnection, values: &[(String, String)]) -> Result<(), sqlx::Error> {
    for (name, value) in values {
        crate::target::query("select pg_catalog.set_config($1, $2, true)")
            .bind(name)
            .bind(value)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn keep(
    session: &mut Session<'_>,
    table: &str,
    migration: &Migration,
    direction: Direction,
    ran: &[Ran],
    took: Duration,
) -> Result<(), Failure> {
    let run = session.context.run.as_str().to_owned();
    let connection = &mut session.connection;
    let written = match direction {
        Direction::Up => history::record(connection, table, migration, true, bookkeeping::nanoseconds(took)).await,
        Direction::Down => history::forget(connection, table, migration.version).await,
    };
    written.map_err(|source| kept(session, source))?;
    if session.bookkeeping {
        let connection = &mut session.connection;
        let kept_texts = bookkeeping::keep(connection, &run, migration).await;
        kept_texts.map_err(|source| kept(session, source))?;
        let connection = &mut session.connection;
        let journaled = bookkeeping::write_done(connection, &run, migration.version, direction, ran).await;
        journaled.map_err(|source| kept(session, source))?;
    }
    Ok(())
}

/// Ends the transaction. What COMMIT would check is checked just before, so that it cannot surprise.
async fn commit(session: &mut Session<'_>, batch: &Batch<'_>, xid: &str) -> Result<(), Failure> {
    let file = batch.migrations.last().map_or_else(String::new, |last| last.up.file.clone());
    let checked = session.execute("set constraints all immediate").await;
    if let Err(source) = checked.result {
        if failure::is_contention(&source) {
            let place = Place { file, line: 1, begins: "COMMIT".to_owned() };
            return Err(Failure::Contended { place, blockers: checked.blockers });
        }
        if failure::is_lost(&source) {
            return Err(kept(session, source));
        }
        return Err(Error::Commit { file, committed: session.committed.clone(), source: source.into() }.into());
    }
    if let Some(recorder) = session.recorder.as_mut() {
        recorder.end_batch(&mut session.connection).await.map_err(|source| kept(session, source))?;
    }
    if session.mode == Mode::InPlace {
        session.roll_back().await;
        return Ok(());
    }
    hold(session, &file).await?;
    match session.execute("commit").await.result {
        Ok(()) => {}
        Err(source) if failure::is_lost(&source) => resolve(session, &file, xid, source).await?,
        Err(source) if failure::is_contention(&source) => {
            let place = Place { file, line: 1, begins: "COMMIT".to_owned() };
            return Err(Failure::Contended { place, blockers: Vec::new() });
        }
        Err(source) => {
            return Err(Error::Commit { file, committed: session.committed.clone(), source: source.into() }.into());
        }
    }
    session.committed.extend(batch.migrations.iter().map(|migration| migration.up.file.clone()));
    Ok(())
}

/// Nothing is committed without the lock: whoever has it now may be at work.
async fn hold(session: &mut Session<'_>, file: &str) -> Result<(), Error> {
    match session.lock.hold().await {
        Err(Error::Query { source, .. }) => {
            let (target, committed) = (session.target.describe(), session.committed.clone());
            Err(Error::Lost { target, file: file.to_owned(), committed, source })
        }
        held => held,
    }
}

/// The connection was lost at COMMIT.
async fn resolve(session: &mut Session<'_>, file: &str, xid: &str, source: sqlx::Error) -> Result<(), Error> {
    if committed_after_loss(session, xid).await? {
        return Ok(());
    }
    let (target, committed) = (session.target.describe(), session.committed.clone());
    Err(Error::Lost { target, file: file.to_owned(), committed, source: source.into() })
}

/// Asks the server, over a new connection, how a transaction ended, until it says so.
pub(crate) async fn committed_after_loss(session: &mut Session<'_>, xid: &str) -> Result<bool, Error> {
    let deadline = session.context.clock.elapsed() + RECONNECT_MAX;
    while session.context.clock.elapsed() < deadline {
        if let Ok(mut connection) = session.target.connect(crate::session::PURPOSE).await {
            let status: Result<Option<String>, _> =
                crate::target::query_scalar("select pg_catalog.pg_xact_status($1::xid8)")
                    .bind(xid)
                    .fetch_one(&mut connection)
                    .await;
            let status = status.ok().flatten();
            if matches!(status.as_deref(), Some("committed" | "aborted")) {
                session.replace(connection).await?;
                return Ok(status.as_deref() == Some("committed"));
            }
        }
        tokio::time::sleep(RECONNECT_POLL).await;
    }
    Err(Error::Unknown { target: session.target.describe(), file: session.context.run.to_string() })
}
