//! What the planner is to know of a copy.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use futures_util::future::try_join_all;

use super::archive::Target;
use super::connect_to_fill;
use crate::statement::change;
use crate::{Error, Session, literal};

/// Tables named by one statement, and the bytes they may have together.
const ANALYZED_AT_ONCE: usize = 200;
const ANALYZED_BYTES_MAX: u64 = 64 << 20;
/// Every table, and whether a foreign one is below it.
pub(crate) const ANALYZED: &str = "
    with recursive above(relid) as (
        select i.inhparent from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
            where c.relkind = 'f'
        union select i.inhparent from pg_catalog.pg_inherits i join above a on a.relid = i.inhrelid)
    select c.oid::pg_catalog.regclass::pg_catalog.text, c.oid in (select relid from above)
      from pg_catalog.pg_class c where c.relkind in ('r', 'm', 'p') and c.relpersistence <> 't' order by c.oid";
/// Of the server's own tables those that have grown since it last looked at them: in a database of many objects.
const WORTH_IT: &str =
    "(c.oid >= 16384 or pg_catalog.pg_relation_size(c.oid) > 2 * 8192 * c.relpages::pg_catalog.int8)";

/// What they are gathered of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statistics {
    OfAll,
    /// Only of the server's own tables.
    OfCatalogs,
}

/// Gathers them of one table that has just been filled, where it is worth a statement of its own. With tables below it
/// they are of rows that may not be there yet: then it waits.
pub(super) async fn gather_early(session: &mut Session, table: &str, bytes: u64) -> Result<bool, Error> {
    if bytes < ANALYZED_BYTES_MAX {
        return Ok(false);
    }
    let name = literal(table);
    let sql =
        format!("select exists (select from pg_catalog.pg_inherits where inhparent = {name}::pg_catalog.regclass)");
    let (parent,): (bool,) = session.row("look for tables below one", &sql).await?;
    if !parent {
        change(session, "gather statistics", &format!("analyze {table}")).await?;
    }
    Ok(!parent)
}

/// Gathers the others, side by side, of the largest table first; not of tables above foreign ones: those would be asked
/// for samples. What is gathered of expressions and of columns together needs the objects that ask for it, which come
/// after the rows: those tables are not done `early`.
pub(super) async fn gather(
    session: &mut Session,
    target: Target<'_>,
    of: Statistics,
    early: &[String],
) -> Result<(), Error> {
    let whose = match of {
        Statistics::OfAll => "true",
        Statistics::OfCatalogs => "c.oid < 16384",
    };
    let early = early.iter().map(|table| literal(table)).collect::<Vec<_>>().join(", ");
    let listed = format!(
        "select name, pg_catalog.pg_table_size(c.oid)
           from ({ANALYZED}) as tables (name, remote)
           join pg_catalog.pg_class c on c.oid = name::pg_catalog.regclass
          where {whose} and not remote and {WORTH_IT} and (
                c.oid <> all (array[{early}]::pg_catalog.regclass[])
                or exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indexprs is not null)
                or exists (select from pg_catalog.pg_statistic_ext s where s.stxrelid = c.oid))
          order by 2 desc"
    );
    let tables: Vec<(String, i64)> = session.rows("list what statistics are gathered of", &listed).await?;
    let batches = batches(tables);
    let workers = target.part.options().workers.min(batches.len());
    let batches = Mutex::new(batches);
    let next = || batches.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work_off = async |session: &mut Session| {
        while let Some(batch) = next() {
            change(session, "gather statistics", &format!("analyze {}", batch.join(", "))).await?;
        }
        Ok(())
    };
    let another = async || {
        let mut session = connect_to_fill(target.settings, "stage").await?;
        work_off(&mut session).await?;
        session.close().await;
        Ok(())
    };
    let others = try_join_all((1..workers).map(|_| another()));
    tokio::try_join!(work_off(session), others).map(drop)
}

/// What one statement each names; a large table comes alone.
fn batches(tables: Vec<(String, i64)>) -> VecDeque<Vec<String>> {
    let mut batches: VecDeque<(Vec<String>, u64)> = VecDeque::new();
    for (name, bytes) in tables {
        let bytes = u64::try_from(bytes).unwrap_or_default();
        match batches.back_mut() {
            Some((names, sum)) if names.len() < ANALYZED_AT_ONCE && *sum + bytes <= ANALYZED_BYTES_MAX => {
                names.push(name);
                *sum += bytes;
            }
            _ => batches.push_back((vec![name], bytes)),
        }
    }
    batches.into_iter().map(|(names, _)| names).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_table_is_analyzed_alone_and_small_ones_together() {
        let max = i64::try_from(ANALYZED_BYTES_MAX).unwrap();
        let mut tables = vec![("large".to_owned(), max + 1), ("whole".to_owned(), max)];
        tables.extend((0..=ANALYZED_AT_ONCE).map(|at| (format!("t{at}"), 8192)));
        let lengths: Vec<_> = batches(tables).iter().map(Vec::len).collect();
        assert_eq!(lengths, [1, 1, ANALYZED_AT_ONCE, 1]);
        assert!(batches(Vec::new()).is_empty());
    }
}
