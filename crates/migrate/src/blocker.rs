use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use crate::lock_mode::LockMode;

const QUERY_CHARACTERS_MAX: usize = 80;

/// A session that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocker {
    pub pid: i32,
    pub application: String,
    pub role: String,
    pub state: String,
    /// How long its transaction has been open.
    pub transaction_seconds: i64,
    /// What it runs or ran last, shortened.
    pub query: String,
    /// The lock it holds and on what, where that is known.
    pub holds: Option<String>,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {} of {}", self.pid, self.role)?;
        if !self.application.is_empty() {
            write!(f, " ({})", self.application)?;
        }
        write!(f, ", {}", self.state)?;
        if self.transaction_seconds > 0 {
            write!(f, ", in a transaction for {} s", self.transaction_seconds)?;
        }
        if let Some(holds) = &self.holds {
            write!(f, ", holds {holds}")?;
        }
        if !self.query.is_empty() {
            write!(f, ": {}", self.query)?;
        }
        Ok(())
    }
}

const SESSION: &str = "a.pid, coalesce(a.application_name, ''), coalesce(a.usename::text, ''),
    case when a.backend_type = 'autovacuum worker' and a.query like '%to prevent wraparound%'
         then 'autovacuum against wraparound, which does not give way'
         when a.backend_type <> 'client backend' then a.backend_type else coalesce(a.state, 'unknown') end,
    coalesce(extract(epoch from clock_timestamp() - a.xact_start), 0)::bigint, coalesce(a.query, '')";

/// Who keeps the session `pid` waiting right now.
pub(crate) async fn of(connection: &mut PgConnection, pid: i32) -> Result<Vec<Blocker>, sqlx::Error> {
    let sql = format!(
        "select {SESSION}, null::text from pg_catalog.pg_stat_activity a where a.pid = any(pg_blocking_pids($1)) order by a.pid"
    );
    let rows = crate::target::query(sqlx::AssertSqlSafe(sql)).bind(pid).fetch_all(connection).await?;
    rows.iter().map(read).collect()
}

/// Who holds a lock that one of the `wanted`, by the oid of the relation, would wait for.
pub(crate) async fn of_wanted(
    connection: &mut PgConnection,
    wanted: &BTreeMap<i64, LockMode>,
) -> Result<Vec<Blocker>, sqlx::Error> {
    let (mut relations, mut modes) = (Vec::new(), Vec::new());
    for (relation, mode) in wanted {
        for held in mode.waits_for() {
            relations.push(*relation);
            modes.push(held);
        }
    }
    let sql = format!(
        "select {SESSION}, string_agg(distinct l.mode || ' on ' || l.relation::regclass::text, ', ')
         from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
         join unnest($1::bigint[], $2::text[]) as w (relation, mode) on w.relation = l.relation::bigint and w.mode = l.mode
         where l.locktype = 'relation' and l.granted and a.pid <> pg_backend_pid()
           and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
         group by a.pid, a.application_name, a.usename, a.backend_type, a.query, a.state, a.xact_start order by a.pid"
    );
    let rows = crate::target::query(sqlx::AssertSqlSafe(sql)).bind(relations).bind(modes).fetch_all(connection).await?;
    rows.iter().map(read).collect()
}

fn read(row: &PgRow) -> Result<Blocker, sqlx::Error> {
    let query: String = row.try_get(5)?;
    let query = query.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(Blocker {
        pid: row.try_get(0)?,
        application: row.try_get(1)?,
        role: row.try_get(2)?,
        state: row.try_get(3)?,
        transaction_seconds: row.try_get(4)?,
        query: query.chars().take(QUERY_CHARACTERS_MAX).collect(),
        holds: row.try_get(6)?,
    })
}
