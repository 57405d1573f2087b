use std::time::{Duration, Instant};

use backstay_run::Context;
use sqlx::postgres::PgConnection;

use crate::error::Place;
use crate::folder::Migration;
use crate::history::History;
use crate::lock::Lock;
use crate::observe::Recorder;
use crate::sql::Statement;
use crate::target::execute;
use crate::{Blocker, Error, RunOptions, Target, blocker, bookkeeping};

/// By this an orphaned session is told from every other.
pub(crate) const PURPOSE: &str = "migrate run";
const POLL: Duration = Duration::from_millis(100);
const BEGINS_CHARACTERS_MAX: usize = 60;
const IDLE_MAX: Duration = Duration::from_secs(300);

/// The connection that migrations run on, and the lock that stands beside it.
pub(crate) struct Session<'c> {
    pub(crate) context: &'c Context,
    pub(crate) target: Target,
    pub(crate) options: RunOptions,
    pub(crate) connection: PgConnection,
    pub(crate) pid: i32,
    pub(crate) lock: Lock,
    /// The history's table, by its full name, once it was seen.
    pub(crate) history_table: Option<String>,
    /// Files that this run has committed.
    pub(crate) committed: Vec<String>,
    pub(crate) mode: Mode,
    /// Whether the schema `backstay` is there or may be made.
    pub(crate) bookkeeping: bool,
    /// Measures each statement of a rehearsal.
    pub(crate) recorder: Option<Recorder>,
}

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Real,
    /// A rehearsal that is rolled back.
    InPlace,
    /// A rehearsal on a copy, which commits like the real run.
    Copy,
}

impl Mode {
    /// Whether history and bookkeeping are written.
    pub(crate) fn records(self) -> bool {
        self != Self::InPlace
    }
}

/// How a single statement ended.
pub(crate) struct Executed {
    pub(crate) result: Result<(), sqlx::Error>,
    pub(crate) took: Duration,
    pub(crate) blockers: Vec<Blocker>,
}

impl<'c> Session<'c> {
    pub(crate) async fn open(
        context: &'c Context,
        target: &Target,
        options: &RunOptions,
        mode: Mode,
    ) -> Result<Self, Error> {
        let mut lock = Lock::take(context, target, options.lock_wait).await?;
        lock.outwait_orphans(context, options.lock_wait).await?;
        let connection = target.connect(PURPOSE).await?;
        let (target, options) = (target.clone(), options.clone());
        let mut session = Self {
            context,
            target,
            options,
            connection,
            pid: 0,
            lock,
            history_table: None,
            committed: Vec::new(),
            mode,
            bookkeeping: false,
            recorder: (mode != Mode::Real).then(Recorder::default),
        };
        session.prepare().await?;
        session.look_for_bookkeeping().await?;
        Ok(session)
    }

    async fn prepare(&mut self) -> Result<(), Error> {
        let idle = IDLE_MAX.as_millis();
        let sql = format!("set idle_in_transaction_session_timeout = {idle}; {}", self.timeouts());
        self.target.say(&mut self.connection, &sql).await?;
        let (pid, strings): (i32, String) =
            crate::target::query_as("select pg_backend_pid(), current_setting('standard_conforming_strings')")
                .fetch_one(&mut self.connection)
                .await
                .map_err(self.target.failed("prepare the session"))?;
        self.pid = pid;
        if strings == "off" {
            let why = "standard_conforming_strings is off here, so where a string ends is not certain; turn it on";
            return Err(Error::Refused { why: why.to_owned() });
        }
        Ok(())
    }

    async fn look_for_bookkeeping(&mut self) -> Result<(), Error> {
        if self.mode.records() {
            let standing = bookkeeping::standing(&mut self.connection).await.map_err(|source| self.query(source))?;
            self.bookkeeping = standing != bookkeeping::Standing::Forbidden;
            if !self.bookkeeping {
                self.context.warn(format!(
                    "this role may not create the schema backstay in {}: statements and texts are not kept",
                    self.target.describe()
                ));
            }
        }
        Ok(())
    }

    pub(crate) async fn history(&mut self) -> Result<History, sqlx::Error> {
        let found = match &self.history_table {
            Some(table) => History::of(&mut self.connection, table.clone()).await?,
            None => History::read(&mut self.connection).await?,
        };
        self.history_table.clone_from(&found.table);
        Ok(found)
    }

    /// Goes on with a new connection after the old one was lost.
    pub(crate) async fn replace(&mut self, connection: PgConnection) -> Result<(), Error> {
        self.connection = connection;
        self.prepare().await
    }

    /// Set before each file, because the one before may have set its own.
    pub(crate) fn timeouts(&self) -> String {
        let statement = self.options.statement_timeout.map_or(0, |limit| limit.as_millis());
        format!("set lock_timeout = {}; set statement_timeout = {statement}", self.options.lock_timeout.as_millis())
    }

    /// Sends one statement, names who keeps it waiting, and gives it up when asked to stop.
    pub(crate) async fn execute(&mut self, sql: &str) -> Executed {
        let began = Instant::now();
        let mut blockers = Vec::new();
        let mut cancelled = false;
        let interrupt = self.context.interrupt.clone();
        let statement = execute(&mut self.connection, sql);
        tokio::pin!(statement);
        let result = loop {
            tokio::select! {
                biased;
                result = &mut statement => break result,
                () = interrupt.requested(), if !cancelled => {
                    cancelled = true;
                    // Without a result: where it cannot be sent, the statement ends by itself.
                    let _ = self.lock.cancel(self.pid).await;
                }
                () = tokio::time::sleep(POLL) => {
                    if let Ok(found) = self.lock.blockers(self.pid).await && !found.is_empty() {
                        blockers = found;
                    }
                }
            }
        };
        Executed { result, took: began.elapsed(), blockers }
    }

    pub(crate) async fn roll_back(&mut self) {
        // Without a result: where the session is gone, the server has rolled back already.
        let _ = execute(&mut self.connection, "rollback").await;
    }

    pub(crate) fn query(&self, source: sqlx::Error) -> Error {
        self.target.failed("keep the history")(source)
    }

    /// The error for a statement that failed for good.
    pub(crate) fn failed(&self, place: Place, half: bool, source: sqlx::Error) -> Error {
        let committed = self.committed.clone();
        if self.context.interrupt.is_requested() && crate::failure::is_cancelled(&source) {
            return Error::Interrupted { committed, half: half.then_some(place) };
        }
        if crate::failure::is_lost(&source) && !half {
            return Error::Lost { target: self.target.describe(), file: place.file, committed, source: source.into() };
        }
        Error::Statement { place, committed, half, source: source.into() }
    }

    pub(crate) async fn close(self) {
        use sqlx::Connection;
        let _ = self.connection.close().await;
        self.lock.release().await;
    }
}

impl Lock {
    async fn blockers(&mut self, pid: i32) -> Result<Vec<Blocker>, sqlx::Error> {
        blocker::of(self.connection(), pid).await
    }
}

pub(crate) fn place(file: &str, statement: &Statement<'_>) -> Place {
    let beginning: String = statement.text.chars().take(4 * BEGINS_CHARACTERS_MAX).collect();
    let begins = beginning.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown: String = begins.chars().take(BEGINS_CHARACTERS_MAX).collect();
    if shown.len() < begins.len() || beginning.len() < statement.text.len() {
        shown.push('…');
    }
    Place { file: file.to_owned(), line: statement.line, begins: shown }
}

/// A place for what concerns a file as a whole.
pub(crate) fn whole(migration: &Migration) -> Place {
    Place { file: migration.up.file.clone(), line: 1, begins: migration.description.clone() }
}
