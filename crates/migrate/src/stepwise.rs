use std::time::{Duration, Instant};

use backstay_model::Event;

use crate::bookkeeping::{self, Direction, Line, digest};
use crate::error::Place;
use crate::folder::{Migration, Script};
use crate::leftover;
use crate::session::{Executed, Session, place, whole};
use crate::sql::{BlockRule, Phrase, Statement, block_rule};
use crate::transaction::{chosen, pause_after};
use crate::{Error, failure, guise, history};

/// Runs a file that asks to be outside of a transaction: each statement by itself, with a journal
/// that says after any interruption how far it came.
pub(crate) async fn apply(session: &mut Session<'_>, migration: &Migration, direction: Direction) -> Result<(), Error> {
    let Some(script) = chosen(migration, direction) else { return Ok(()) };
    let statements = script.statements().map_err(|fault| Error::Faults { faults: vec![fault] })?;
    if !session.bookkeeping {
        let why = format!(
            "{} runs outside of a transaction and needs a journal in the schema backstay, which this role may not create",
            script.file
        );
        return Err(Error::Refused { why });
    }
    session.context.hear(Event::StepBegan { step: format!("migrate {}", script.file) });
    let (table, lines) = begin(session, migration, direction).await?;
    let began = Instant::now();
    for (ordinal, statement) in statements.iter().enumerate() {
        let mut step = Step::new(session, script, migration.version, direction, ordinal, statement);
        let line = lines.iter().find(|line| line.ordinal == step.ordinal);
        step.run(session, line).await.map_err(|error| standing_half(error, &step.place, session))?;
    }
    end(session, migration, direction, &table, began.elapsed()).await?;
    session.committed.push(script.file.clone());
    session.context.hear(Event::StepEnded { step: format!("migrate {}", script.file), remark: None });
    Ok(())
}

/// A query of our own that failed: by then the version is marked as begun.
fn standing_half(error: Error, place: &Place, session: &Session<'_>) -> Error {
    match error {
        Error::Query { source, .. } => {
            Error::Statement { place: place.clone(), committed: session.committed.clone(), half: true, source }
        }
        other => other,
    }
}

/// Marks the version as begun, so that an application looking at the history sees it half done,
/// and finds what an earlier run has done of it already.
async fn begin(
    session: &mut Session<'_>,
    migration: &Migration,
    direction: Direction,
) -> Result<(String, Vec<Line>), Error> {
    let context = session.context;
    let snapshot = session.options.snapshot.clone();
    let timeouts = session.timeouts();
    let known = session.history_table.clone();
    let connection = &mut session.connection;
    let marked = async {
        crate::target::execute(connection, &format!("begin; {timeouts}")).await?;
        let table = history::ensure(connection, known.as_deref()).await?;
        bookkeeping::ensure(connection).await?;
        bookkeeping::begin_run(connection, context, direction, snapshot.as_ref()).await?;
        let found = history::History::of(connection, table.clone()).await?;
        let half = found.applied.iter().any(|applied| applied.version == migration.version && !applied.success);
        let lines = if half { bookkeeping::lines(connection, migration.version, direction).await? } else { Vec::new() };
        if !half {
            history::record(connection, &table, migration, false, -1).await?;
            bookkeeping::keep(connection, context.run.as_str(), migration).await?;
        }
        crate::target::execute(connection, "commit").await?;
        Ok::<_, sqlx::Error>((table, lines))
    };
    match marked.await {
        Ok(found) => {
            session.history_table = Some(found.0.clone());
            Ok(found)
        }
        Err(source) => {
            session.roll_back().await;
            // Where the connection was lost, the mark may stand.
            let half = failure::is_lost(&source);
            Err(session.failed(whole(migration), half, source))
        }
    }
}

async fn end(
    session: &mut Session<'_>,
    migration: &Migration,
    direction: Direction,
    table: &str,
    took: Duration,
) -> Result<(), Error> {
    let connection = &mut session.connection;
    // A role that the file took ends with the file.
    if let Err(source) = guise::lay_down(connection).await {
        return Err(session.failed(whole(migration), true, source));
    }
    let connection = &mut session.connection;
    let written = match direction {
        Direction::Up => history::record(connection, table, migration, true, bookkeeping::nanoseconds(took)).await,
        Direction::Down => history::forget(connection, table, migration.version).await,
    };
    written.map_err(|source| session.failed(whole(migration), true, source))
}

struct Step<'s> {
    run: String,
    version: i64,
    direction: Direction,
    ordinal: i32,
    statement: &'s Statement<'s>,
    place: Place,
    digest: Vec<u8>,
    phrase: Phrase,
    /// Whether PostgreSQL refused it in a transaction: only running it shows that a procedure commits.
    wants_no_block: bool,
}

impl<'s> Step<'s> {
    fn new(
        session: &Session<'_>,
        script: &Script,
        version: i64,
        direction: Direction,
        ordinal: usize,
        statement: &'s Statement<'s>,
    ) -> Self {
        Self {
            run: session.context.run.as_str().to_owned(),
            version,
            direction,
            ordinal: i32::try_from(ordinal).unwrap_or(i32::MAX),
            statement,
            place: place(&script.file, statement),
            digest: digest(statement.text),
            phrase: Phrase::of(statement.text),
            wants_no_block: false,
        }
    }

    fn key(&self) -> (&str, i64, Direction, i32) {
        (&self.run, self.version, self.direction, self.ordinal)
    }

    async fn run(&mut self, session: &mut Session<'_>, line: Option<&Line>) -> Result<(), Error> {
        if let Some(line) = line {
            if line.digest != self.digest {
                let why = format!("{} was edited after part of it had run: put back its text", self.place.file);
                return Err(Error::Refused { why });
            }
            if line.done {
                return Ok(());
            }
            if self.was_done(session, line).await? {
                return self.journal(session, Some(Duration::ZERO)).await;
            }
        }
        let deadline = session.context.clock.elapsed() + session.options.retry_for;
        let mut attempts = 0;
        loop {
            attempts += 1;
            if session.context.interrupt.is_requested() {
                let committed = session.committed.clone();
                return Err(Error::Interrupted { committed, half: Some(self.place.clone()) });
            }
            session.lock.hold().await?;
            let executed = match block_rule(&self.phrase) {
                BlockRule::Allowed if !self.wants_no_block => self.inside(session).await?,
                _ => self.outside(session).await?,
            };
            let source = match executed.result {
                Ok(()) => return Ok(()),
                Err(source) => source,
            };
            if !self.wants_no_block && failure::wants_no_block(&source) {
                // It was rolled back whole, and says itself that it can only run by itself.
                self.wants_no_block = true;
                continue;
            }
            let pause = pause_after(attempts);
            if !failure::is_contention(&source) {
                return Err(session.failed(self.place.clone(), true, source));
            }
            if session.context.clock.elapsed() + pause > deadline {
                let mut committed = session.committed.clone();
                committed.push(self.place.file.clone());
                let place = self.place.clone();
                return Err(Error::Locked { place, attempts, blockers: executed.blockers, committed });
            }
            session.context.hear(Event::Waiting { on: format!("a lock for {}", self.place) });
            tokio::time::sleep(pause).await;
        }
    }

    /// In a block: the statement and its line commit together.
    async fn inside(&self, session: &mut Session<'_>) -> Result<Executed, Error> {
        let begun = session.execute("begin").await;
        if begun.result.is_err() {
            return Ok(begun);
        }
        if let Some(recorder) = session.recorder.as_mut() {
            recorder
                .begin_batch(&mut session.connection)
                .await
                .map_err(session.target.failed("watch the rehearsal"))?;
        }
        let before = self.xid(session).await;
        let mut executed = self.measured(session).await?;
        if executed.result.is_ok() {
            executed.result = self.close_block(session, executed.took).await;
        }
        if executed.result.is_err() {
            session.roll_back().await;
            if let Some(recorder) = session.recorder.as_mut() {
                recorder.forget_batch();
            }
        }
        if let Err(source) = &executed.result
            && failure::is_lost(source)
            && let Some(xid) = before
            && crate::transaction::committed_after_loss(session, &xid).await?
        {
            executed.result = Ok(());
        }
        Ok(executed)
    }

    async fn xid(&self, session: &mut Session<'_>) -> Option<String> {
        // Where it cannot be read the connection is gone, which the statement will say.
        crate::target::query_scalar("select pg_catalog.pg_current_xact_id()::text")
            .fetch_one(&mut session.connection)
            .await
            .ok()
    }

    async fn measured(&self, session: &mut Session<'_>) -> Result<Executed, Error> {
        let Some(mut recorder) = session.recorder.take() else { return Ok(session.execute(self.statement.text).await) };
        let executed = recorder.measure(session, &self.place, self.statement.text).await;
        session.recorder = Some(recorder);
        executed.map_err(session.target.failed("watch the rehearsal"))
    }

    async fn close_block(&self, session: &mut Session<'_>, took: Duration) -> Result<(), sqlx::Error> {
        if let Some(recorder) = session.recorder.as_mut() {
            recorder.end_batch(&mut session.connection).await?;
        }
        bookkeeping::write_line(&mut session.connection, self.key(), self.statement.line, &self.digest, Some(took))
            .await?;
        session.execute("commit").await.result
    }

    /// Outside of a block: an intent before, and `done` after, which both commit by themselves.
    async fn outside(&self, session: &mut Session<'_>) -> Result<Executed, Error> {
        leftover::clear(session, &self.phrase).await?;
        let broken = leftover::invalid_indexes(session).await?;
        self.journal(session, None).await?;
        let executed = session.execute(self.statement.text).await;
        match &executed.result {
            Ok(()) => {
                let fresh = leftover::invalid_indexes(session).await?;
                if let Some(index) = fresh.difference(&broken).next() {
                    let (index, committed) = (index.clone(), session.committed.clone());
                    return Err(Error::InvalidIndex { index, place: self.place.clone(), committed });
                }
                if let Some(recorder) = session.recorder.as_mut() {
                    recorder.outside(self.place.clone(), executed.took, &self.phrase);
                }
                self.journal(session, Some(executed.took)).await?;
            }
            Err(source) if failure::is_lost(source) => {
                let (run, statement) = (self.run.clone(), self.place.begins.clone());
                return Err(Error::Unfinished { place: self.place.clone(), run, statement });
            }
            Err(_) => {
                leftover::drop_new(session, &broken).await?;
                let erased = bookkeeping::erase_line(&mut session.connection, self.key()).await;
                erased.map_err(session.target.failed("keep the journal"))?;
            }
        }
        Ok(executed)
    }

    async fn journal(&self, session: &mut Session<'_>, done: Option<Duration>) -> Result<(), Error> {
        bookkeeping::write_line(&mut session.connection, self.key(), self.statement.line, &self.digest, done)
            .await
            .map_err(|source| session.failed(self.place.clone(), true, source))
    }

    /// A statement that was begun and whose end nobody saw: looks whether it took effect. Where that
    /// cannot be seen, a person must look.
    async fn was_done(&self, session: &mut Session<'_>, line: &Line) -> Result<bool, Error> {
        match leftover::effect_of(session, &self.phrase).await? {
            leftover::Effect::Took => Ok(true),
            leftover::Effect::None | leftover::Effect::Repeatable => Ok(false),
            leftover::Effect::Unknown => {
                let (run, statement) = (line.run.clone(), self.place.begins.clone());
                Err(Error::Unfinished { place: self.place.clone(), run, statement })
            }
        }
    }
}
