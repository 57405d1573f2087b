use serde::Serialize;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use crate::blocker::{self, Blocker};
use crate::bookkeeping::{self, Direction};
use crate::cuts::{Batch, Cut, batches};
use crate::folder::{Fault, Folder, Migration, Script};
use crate::foreseen::{Foreseen, foresee};
use crate::hazard::hazards;
use crate::history::History;
use crate::lint::{Advice, lint};
use crate::run::judge;
use crate::schema::{Change, Schema};
use crate::sql::effects;
use crate::{Error, RunOptions, Target, aftermath, catalog};

/// What a run would do, read in one read-only transaction; nothing is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub database: String,
    /// The newest version of the history.
    pub head: Option<i64>,
    /// Pending files, in the order they would run, grouped by transaction.
    pub transactions: Vec<Transaction>,
    pub cuts: Vec<Cut>,
    /// Why a run would be refused.
    pub faults: Vec<Fault>,
    pub advice: Vec<Advice>,
    pub tables: Vec<TableSize>,
    /// What statements would lock, write anew and read whole of what is there now.
    pub foreseen: Vec<Foreseen>,
    /// Sessions that a run would wait for right now.
    pub blockers: Vec<Blocker>,
    /// Objects changed outside of migrations since the newest run.
    pub drift: Vec<Change>,
    /// Whether this role may keep a journal in the schema `backstay`.
    pub bookkeeping: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transaction {
    pub files: Vec<PlannedFile>,
    /// Whether these run statement by statement, outside of a transaction.
    pub outside: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedFile {
    pub version: i64,
    pub file: String,
    /// SHA-384 in hexadecimal digits.
    pub checksum: String,
    pub statements: usize,
    pub has_down: bool,
}

/// A table that pending files touch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableSize {
    pub table: String,
    pub bytes: i64,
    pub rows_estimated: i64,
}

impl Plan {
    pub fn pending(&self) -> usize {
        self.transactions.iter().map(|transaction| transaction.files.len()).sum()
    }
}

/// Plans a run. A role that may only read is enough.
pub async fn plan(target: &Target, folder: &Folder, options: &RunOptions) -> Result<Plan, Error> {
    let mut connection = target.connect_to_read().await?;
    let planned = plan_in(&mut connection, target, folder, options).await;
    // Without a result: the transaction could only read.
    let _ = connection.close().await;
    planned
}

async fn plan_in(
    connection: &mut PgConnection,
    target: &Target,
    folder: &Folder,
    options: &RunOptions,
) -> Result<Plan, Error> {
    let failed = target.failed("plan the migration");
    let history = History::read(connection).await.map_err(&failed)?;
    let resumable = resumable(connection).await.map_err(&failed)?;
    let (pending, mut faults) = judge(&history, folder, &resumable, options);
    let deferrable = catalog::has_deferrable(connection).await.map_err(&failed)?;
    let (batches, cuts) = match batches(&pending, options.per_file, deferrable) {
        Ok(found) => found,
        Err(fault) => {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
            (Vec::new(), Vec::new())
        }
    };
    let touched = touched(&pending);
    let forecasts = foresee(connection, &pending).await.map_err(&failed)?;
    let schema = Schema::read(connection).await.map_err(&failed)?;
    let major = catalog::major(connection).await.map_err(&failed)?;
    let standing = bookkeeping::standing(connection).await.map_err(&failed)?;
    Ok(Plan {
        database: target.describe(),
        head: history.head().map(|applied| applied.version),
        transactions: batches.iter().map(transaction).collect(),
        cuts,
        faults,
        advice: pending.iter().flat_map(|migration| advice(&migration.up, major)).collect(),
        tables: sizes(connection, &touched).await.map_err(&failed)?,
        blockers: blocker::of_wanted(connection, &forecasts.wanted).await.map_err(&failed)?,
        foreseen: forecasts.statements,
        drift: aftermath::drift(connection, &schema).await.map_err(&failed)?,
        bookkeeping: standing != bookkeeping::Standing::Forbidden,
    })
}

/// A role that only reads may be kept from the journal: then nothing is known of it.
pub(crate) async fn resumable(connection: &mut PgConnection) -> Result<Vec<i64>, sqlx::Error> {
    let readable: Option<bool> = crate::target::query_scalar(
        "select has_table_privilege(to_regclass('backstay.migrations'), 'select')
            and has_schema_privilege(to_regnamespace('backstay'), 'usage')",
    )
    .fetch_one(&mut *connection)
    .await?;
    if readable == Some(true) { bookkeeping::resumable(connection, Direction::Up).await } else { Ok(Vec::new()) }
}

fn advice(script: &Script, major: i32) -> Vec<Advice> {
    let mut advice = hazards(script);
    advice.extend(lint(script, major));
    advice
}

fn transaction(batch: &Batch<'_>) -> Transaction {
    let files = batch.migrations.iter().map(|migration| PlannedFile {
        version: migration.version,
        file: migration.up.file.clone(),
        checksum: hex::encode(&migration.up.checksum),
        statements: migration.up.statements().map_or(0, |statements| statements.len()),
        has_down: migration.down.is_some(),
    });
    Transaction { files: files.collect(), outside: batch.outside }
}

/// The last names of the tables that files write or alter.
pub(crate) fn touched(pending: &[&Migration]) -> Vec<String> {
    let mut names = Vec::new();
    for migration in pending {
        if let Ok(statements) = migration.up.statements() {
            let found = effects(&statements);
            names.extend(found.written);
            names.extend(found.altered);
        }
    }
    names.sort();
    names.dedup();
    names
}

pub(crate) async fn sizes(connection: &mut PgConnection, names: &[String]) -> Result<Vec<TableSize>, sqlx::Error> {
    let rows: Vec<(String, i64, i64)> = crate::target::query_as(
        "select format('%I.%I', n.nspname, c.relname), pg_catalog.pg_table_size(c.oid), greatest(c.reltuples, 0)::bigint
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'p', 'm') and c.relname::text = any($1)
           and n.nspname not in ('pg_catalog', 'information_schema') order by 2 desc, 1",
    )
    .bind(names)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(table, bytes, rows_estimated)| TableSize { table, bytes, rows_estimated }).collect())
}
