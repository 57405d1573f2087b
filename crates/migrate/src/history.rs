use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use crate::folder::{Fault, FaultKind, Folder, Migration};

/// The name sqlx gives its table.
const TABLE: &str = "_sqlx_migrations";

/// What the database says was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct History {
    /// The table, qualified and quoted; nothing where there is none yet.
    pub table: Option<String>,
    pub applied: Vec<Applied>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    pub version: i64,
    pub description: String,
    pub installed_on: DateTime<Utc>,
    pub success: bool,
    #[serde(skip)]
    pub checksum: Vec<u8>,
}

impl History {
    /// Finds the table as an application would, by the search path.
    pub(crate) async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let Some(table) = find(connection, TABLE).await? else { return Ok(Self { table: None, applied: Vec::new() }) };
        Self::of(connection, table).await
    }

    /// Reads a table whose name is known: a file may have changed the search path since it was found.
    pub(crate) async fn of(connection: &mut PgConnection, table: String) -> Result<Self, sqlx::Error> {
        let applied = Self::rows(connection, &table).await?;
        Ok(Self { table: Some(table), applied })
    }

    async fn rows(connection: &mut PgConnection, table: &str) -> Result<Vec<Applied>, sqlx::Error> {
        let sql = format!("select version, description, installed_on, success, checksum from {table} order by version");
        let rows = crate::target::query(AssertSqlSafe(sql)).fetch_all(connection).await?;
        rows.into_iter()
            .map(|row| {
                Ok(Applied {
                    version: row.try_get(0)?,
                    description: row.try_get(1)?,
                    installed_on: row.try_get(2)?,
                    success: row.try_get(3)?,
                    checksum: row.try_get(4)?,
                })
            })
            .collect()
    }

    pub fn head(&self) -> Option<&Applied> {
        self.applied.last()
    }

    /// Whether a version was applied and succeeded.
    pub fn has(&self, version: i64) -> bool {
        self.find(version).is_some_and(|applied| applied.success)
    }

    /// Whether a version was begun and did not succeed, or not yet.
    pub fn is_half(&self, version: i64) -> bool {
        self.find(version).is_some_and(|applied| !applied.success)
    }

    fn find(&self, version: i64) -> Option<&Applied> {
        self.applied.binary_search_by_key(&version, |applied| applied.version).ok().and_then(|at| self.applied.get(at))
    }

    /// The migrations that have not been applied, in order.
    pub fn pending<'f>(&self, folder: &'f Folder) -> Vec<&'f Migration> {
        folder.migrations.iter().filter(|migration| !self.has(migration.version)).collect()
    }

    /// Where history and folder contradict each other. `resumable` are the versions whose half-done
    /// state the journal explains.
    pub fn faults(&self, folder: &Folder, resumable: &[i64]) -> Vec<Fault> {
        let mut faults = Vec::new();
        for applied in &self.applied {
            faults.extend(fault_of(applied, folder, resumable));
        }
        let newest = self.applied.iter().rev().find(|applied| applied.success);
        for migration in &folder.migrations {
            if let Some(newest) = newest
                && migration.version < newest.version
                && self.find(migration.version).is_none()
            {
                let text = format!("was added below version {}, which has been applied", newest.version);
                faults.push(Fault::new(&migration.up.file, None, FaultKind::OutOfOrder, text));
            }
        }
        faults
    }
}

/// The qualified name of the table that `name` means.
async fn find(connection: &mut PgConnection, name: &str) -> Result<Option<String>, sqlx::Error> {
    crate::target::query_scalar(
        "select format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_class c
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass($1)",
    )
    .bind(name.to_owned())
    .fetch_optional(connection)
    .await
}

fn fault_of(applied: &Applied, folder: &Folder, resumable: &[i64]) -> Option<Fault> {
    let Some(migration) = folder.find(applied.version) else {
        let name = format!("{}_{}.sql", applied.version, applied.description.replace(' ', "_"));
        return Some(Fault::new(
            &name,
            None,
            FaultKind::Missing,
            "has been applied, and its file is not in the folder",
        ));
    };
    let file = &migration.up.file;
    if !applied.success && !resumable.contains(&applied.version) {
        let text = "was begun and did not succeed; what it left must be looked at";
        return Some(Fault::new(file, None, FaultKind::Dirty, text));
    }
    (applied.checksum != migration.up.checksum && applied.success).then(|| {
        let text = if migration.up.was_with_other_line_ends(&applied.checksum) {
            "has other line ends, or another byte order mark, than when it was applied, and the checksum counts them; \
             put them back (in Git: `*.sql -text` in .gitattributes)"
        } else {
            "was edited after it had been applied; put back its text and write a new migration"
        };
        Fault::new(file, None, FaultKind::Edited, text)
    })
}

/// Makes the table where there is none, exactly as sqlx does, and returns its qualified name, which is
/// `known` once it was found: a file may change the search path.
pub(crate) async fn ensure(connection: &mut PgConnection, known: Option<&str>) -> Result<String, sqlx::Error> {
    let name = known.unwrap_or(TABLE);
    let sql = format!(
        "create table if not exists {name} (
            version bigint primary key,
            description text not null,
            installed_on timestamptz not null default now(),
            success boolean not null,
            checksum bytea not null,
            execution_time bigint not null
        )"
    );
    if let Some(table) = find(connection, name).await? {
        return Ok(table);
    }
    crate::target::execute(connection, &sql).await?;
    find(connection, name).await?.ok_or(sqlx::Error::RowNotFound)
}

/// Records a migration; `nanoseconds` is how long it took, -1 while that is not known.
pub(crate) async fn record(
    connection: &mut PgConnection,
    table: &str,
    migration: &Migration,
    success: bool,
    nanoseconds: i64,
) -> Result<(), sqlx::Error> {
    let sql = format!(
        "insert into {table} as h (version, description, installed_on, success, checksum, execution_time)
         values ($1, $2, clock_timestamp(), $3, $4, $5)
         on conflict (version) do update
         set success = excluded.success, checksum = excluded.checksum, execution_time = excluded.execution_time"
    );
    crate::target::query(AssertSqlSafe(sql))
        .bind(migration.version)
        .bind(&migration.description)
        .bind(success)
        .bind(&migration.up.checksum)
        .bind(nanoseconds)
        .execute(connection)
        .await
        .map(|_| ())
}

/// Removes a migration's row after its down file ran.
pub(crate) async fn forget(connection: &mut PgConnection, table: &str, version: i64) -> Result<(), sqlx::Error> {
    let sql = format!("delete from {table} where version = $1");
    crate::target::query(AssertSqlSafe(sql)).bind(version).execute(connection).await.map(|_| ())
}
