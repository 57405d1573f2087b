use std::time::Duration;

use backstay_run::Context;
use serde::Serialize;

use crate::bookkeeping::Direction;
use crate::cuts::batches;
use crate::folder::{Folder, Migration};
use crate::measured::Measured;
use crate::plan::{TableSize, sizes, touched};
use crate::run::{pending, run_in};
use crate::session::{Mode, Session};
use crate::sql::external_effect;
use crate::transaction::{self, Applied};
use crate::{Error, RunOptions, Target, catalog};

const IN_PLACE_LOCK: Duration = Duration::from_millis(500);
const IN_PLACE_STATEMENT: Duration = Duration::from_secs(5);
/// A table above this is not touched by a rehearsal in the live database.
const IN_PLACE_BYTES_MAX: i64 = 64 << 20;

/// What a rehearsal found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rehearsal {
    pub database: String,
    pub in_place: bool,
    pub statements: Vec<Measured>,
    /// Files that could not be rehearsed, each with why.
    pub left_out: Vec<(String, String)>,
    /// How the way back went; nothing where it was not tried.
    pub way_back: Option<WayBack>,
    /// What this rehearsal cannot know.
    pub unknown: Vec<String>,
}

/// Whether the down files lead back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum WayBack {
    /// Up, down and up again gave the same schema and the same rows.
    Reversible,
    /// The schema came back, and some rows did not.
    Lossy {
        tables: Vec<String>,
    },
    Not {
        why: String,
    },
}

/// Runs the pending migrations in one transaction of the live database, under tight limits, and rolls
/// it back. Refused where a large table would be rewritten or something would reach outside.
pub async fn rehearse_in_place(
    context: &Context,
    target: &Target,
    folder: &Folder,
    options: &RunOptions,
) -> Result<Rehearsal, Error> {
    let options = RunOptions {
        lock_timeout: IN_PLACE_LOCK.min(options.lock_timeout),
        statement_timeout: Some(IN_PLACE_STATEMENT),
        ..options.clone()
    };
    let mut session = Session::open(context, target, &options, Mode::InPlace).await?;
    let rehearsed = in_place(&mut session, folder).await;
    session.close().await;
    rehearsed
}

async fn in_place(session: &mut Session<'_>, folder: &Folder) -> Result<Rehearsal, Error> {
    let pending = pending(session, folder).await?;
    let failed = session.target.failed("look at the tables");
    let deferrable = catalog::has_deferrable(&mut session.connection).await.map_err(&failed)?;
    let tables = sizes(&mut session.connection, &touched(&pending)).await.map_err(&failed)?;
    refuse_large(&tables)?;
    refuse_outside(&pending)?;
    let (batches, _) = batches(&pending, false, deferrable).map_err(|fault| Error::Faults { faults: vec![fault] })?;
    let mut left_out = Vec::new();
    let mut rehearsed = false;
    for batch in batches {
        if !batch.outside && !rehearsed {
            rehearsed = true;
            if let Applied::NeedsCommitBefore(index) = transaction::apply(session, &batch, Direction::Up).await? {
                let (first, rest) = batch.migrations.split_at(index);
                let first = crate::cuts::Batch { migrations: first.to_vec(), outside: false };
                transaction::apply(session, &first, Direction::Up).await?;
                left_out.extend(rest.iter().map(|one| (one.up.file.clone(), "it needs a COMMIT before it".to_owned())));
            }
            continue;
        }
        rehearsed = true;
        let why = if batch.outside { "it runs outside of a transaction" } else { "it needs a COMMIT before it" };
        left_out.extend(batch.migrations.iter().map(|migration| (migration.up.file.clone(), why.to_owned())));
    }
    let statements = session.recorder.take().map(|recorder| recorder.measured).unwrap_or_default();
    let mut unknown = always_unknown();
    unknown.push("sequences that moved stay moved; rows written and rolled back leave bloat until vacuum".to_owned());
    Ok(Rehearsal { database: session.target.describe(), in_place: true, statements, left_out, way_back: None, unknown })
}

fn refuse_large(tables: &[TableSize]) -> Result<(), Error> {
    match tables.iter().find(|table| table.bytes > IN_PLACE_BYTES_MAX) {
        None => Ok(()),
        Some(large) => {
            let megabytes = large.bytes >> 20;
            let why = format!(
                "{} has {megabytes} MiB: rehearsing on it in place would hold its locks and bloat it; rehearse on a copy",
                large.table
            );
            Err(Error::Refused { why })
        }
    }
}

fn refuse_outside(pending: &[&Migration]) -> Result<(), Error> {
    for migration in pending {
        let statements = migration.up.statements().map_err(|fault| Error::Faults { faults: vec![fault] })?;
        for statement in statements {
            if let Some(effect) = external_effect(statement.text) {
                let why =
                    format!("{} line {} {effect}, which no rollback takes back", migration.up.file, statement.line);
                return Err(Error::Refused { why });
            }
        }
    }
    Ok(())
}

/// Runs the pending migrations for real on a copy that the caller made and lets go of.
pub async fn rehearse_on_copy(
    context: &Context,
    copy: &Target,
    folder: &Folder,
    options: &RunOptions,
) -> Result<Rehearsal, Error> {
    let mut session = Session::open(context, copy, options, Mode::Copy).await?;
    let rehearsed = on_copy(&mut session, folder).await;
    session.close().await;
    rehearsed
}

async fn on_copy(session: &mut Session<'_>, folder: &Folder) -> Result<Rehearsal, Error> {
    let before = crate::way_back::Picture::take(session).await?;
    let todo: Vec<&Migration> = pending(session, folder).await?;
    run_in(session, folder).await?;
    let statements = session.recorder.take().map(|recorder| recorder.measured).unwrap_or_default();
    let way_back = crate::way_back::try_it(session, &before, &todo).await?;
    Ok(Rehearsal {
        database: session.target.describe(),
        in_place: false,
        statements,
        left_out: Vec::new(),
        way_back,
        unknown: always_unknown(),
    })
}

fn always_unknown() -> Vec<String> {
    [
        "how long locks are waited for under real traffic, and who waits behind the waiting statement",
        "how long statements take on the real machine, with its memory, disks and neighbours",
        "whether standbys and subscribers keep up with what is written",
        "whether the running release works with the new schema",
        "rows that arrive between the copy and the run: a constraint they break fails only then",
    ]
    .map(str::to_owned)
    .to_vec()
}
