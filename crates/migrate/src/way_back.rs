use std::collections::BTreeMap;

use backstay_model::with_causes;
use sqlx::AssertSqlSafe;

use crate::bookkeeping::Direction;
use crate::cuts::Batch;
use crate::folder::Migration;
use crate::rehearsal::WayBack;
use crate::schema::Schema;
use crate::session::Session;
use crate::{Error, stepwise, transaction};

/// Schema and rows of a copy at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Picture {
    schema: Schema,
    /// A number of rows and a sum over their text, for each table.
    rows: BTreeMap<String, String>,
}

impl Picture {
    pub(crate) async fn take(session: &mut Session<'_>) -> Result<Self, Error> {
        let failed = session.target.failed("picture the copy");
        let schema = Schema::read(&mut session.connection).await.map_err(&failed)?;
        let tables: Vec<String> = crate::target::query_scalar(
            "select format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_class c
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             where c.relkind in ('r', 'm') and n.nspname not in ('pg_catalog', 'information_schema', 'backstay')
               and c.relispopulated and n.nspname !~ '^pg_(toast|temp)' and c.relname <> '_sqlx_migrations'",
        )
        .fetch_all(&mut session.connection)
        .await
        .map_err(&failed)?;
        let mut rows = BTreeMap::new();
        for table in tables {
            let sql = format!(
                "select count(*)::text || ' ' || coalesce(sum(pg_catalog.hashtextextended(t::text, 0)::numeric), 0)::text from only {table} t"
            );
            let sum: String = crate::target::query_scalar(AssertSqlSafe(sql))
                .fetch_one(&mut session.connection)
                .await
                .map_err(&failed)?;
            rows.insert(table, sum);
        }
        Ok(Self { schema, rows })
    }

    fn tables_that_differ(&self, other: &Self) -> Vec<String> {
        self.rows
            .iter()
            .filter(|(table, sum)| other.rows.get(*table) != Some(sum))
            .map(|(table, _)| table.clone())
            .collect()
    }
}

/// After up: down, compare, up again, compare. On a copy only.
pub(crate) async fn try_it(
    session: &mut Session<'_>,
    before: &Picture,
    done: &[&Migration],
) -> Result<Option<WayBack>, Error> {
    if done.is_empty() {
        return Ok(None);
    }
    if let Some(one_way) = done.iter().find(|migration| migration.down.is_none()) {
        return Ok(Some(WayBack::Not { why: format!("{} has no down file", one_way.up.file) }));
    }
    let up = Picture::take(session).await?;
    for migration in done.iter().rev() {
        if let Err(error) = one(session, migration, Direction::Down).await {
            return Ok(Some(WayBack::Not { why: with_causes(&error) }));
        }
    }
    let back = Picture::take(session).await?;
    if let Some(change) = before.schema.changes_to(&back.schema).first() {
        return Ok(Some(WayBack::Not { why: format!("after the way down the schema differs: {change}") }));
    }
    for migration in done {
        if let Err(error) = one(session, migration, Direction::Up).await {
            return Ok(Some(WayBack::Not { why: format!("the second way up failed: {}", with_causes(&error)) }));
        }
    }
    let again = Picture::take(session).await?;
    if let Some(change) = up.schema.changes_to(&again.schema).first() {
        return Ok(Some(WayBack::Not { why: format!("after the second way up the schema differs: {change}") }));
    }
    let mut lost = before.tables_that_differ(&back);
    lost.extend(up.tables_that_differ(&again));
    lost.sort();
    lost.dedup();
    Ok(Some(if lost.is_empty() { WayBack::Reversible } else { WayBack::Lossy { tables: lost } }))
}

async fn one(session: &mut Session<'_>, migration: &Migration, direction: Direction) -> Result<(), Error> {
    let script = transaction::chosen(migration, direction);
    let faults = script.map(crate::folder::Script::faults).unwrap_or_default();
    if !faults.is_empty() {
        return Err(Error::Faults { faults });
    }
    if script.is_some_and(|script| script.no_transaction) {
        return stepwise::apply(session, migration, direction).await;
    }
    let batch = Batch { migrations: vec![migration], outside: false };
    transaction::apply(session, &batch, direction).await.map(|_| ())
}
