//! What statements outside of a transaction leave behind when they fail, and how to see whether one
//! whose end nobody saw took effect.

use std::collections::BTreeSet;

use sqlx::Row;

use crate::Error;
use crate::session::Session;
use crate::sql::{Phrase, RelationName, index_built};

/// What became of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Took,
    None,
    /// To run it once more does no harm.
    Repeatable,
    Unknown,
}

/// Every index that is there and not usable, qualified and quoted.
pub(crate) async fn invalid_indexes(session: &mut Session<'_>) -> Result<BTreeSet<String>, Error> {
    let found: Vec<String> = crate::target::query_scalar(
        "select format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_index i
         join pg_catalog.pg_class c on c.oid = i.indexrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where not (i.indisvalid and i.indisready) and c.relkind = 'i'
           and not exists (select from pg_catalog.pg_stat_progress_create_index p where p.index_relid = i.indexrelid)",
    )
    .fetch_all(&mut session.connection)
    .await
    .map_err(session.target.failed("look for invalid indexes"))?;
    Ok(found.into_iter().collect())
}

/// Drops an unusable index of the very name that the statement is about to build: with IF NOT EXISTS
/// it would pass for the real one.
pub(crate) async fn clear(session: &mut Session<'_>, phrase: &Phrase) -> Result<(), Error> {
    let Some(name) = index_built(phrase) else { return Ok(()) };
    if let Some((full, valid)) = find(session, &name).await?
        && !valid
    {
        session.context.warn(format!("dropping {full}, an unusable index that an earlier attempt left"));
        drop_index(session, &full).await?;
    }
    Ok(())
}

/// Drops the unusable indexes that were not there before.
pub(crate) async fn drop_new(session: &mut Session<'_>, before: &BTreeSet<String>) -> Result<(), Error> {
    let now = invalid_indexes(session).await?;
    for index in now.difference(before) {
        drop_index(session, index).await?;
    }
    Ok(())
}

async fn drop_index(session: &mut Session<'_>, full: &str) -> Result<(), Error> {
    let sql = format!("drop index concurrently if exists {full}");
    session.execute(&sql).await.result.map_err(session.target.failed("drop an unusable index"))
}

async fn find(session: &mut Session<'_>, name: &RelationName) -> Result<Option<(String, bool)>, Error> {
    let row = crate::target::query(
        "select format('%I.%I', n.nspname, c.relname), i.indisvalid and i.indisready from pg_catalog.pg_index i
         join pg_catalog.pg_class c on c.oid = i.indexrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where c.relname::text = $1 and (n.nspname::text = $2 or ($2 is null and pg_catalog.pg_table_is_visible(c.oid)))",
    )
    .bind(&name.name)
    .bind(name.schema.as_deref())
    .fetch_optional(&mut session.connection)
    .await
    .map_err(session.target.failed("look for an index"))?;
    let read = |row: &sqlx::postgres::PgRow| Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?));
    row.as_ref().map(read).transpose().map_err(session.target.failed("look for an index"))
}

/// Looks whether a statement took effect.
pub(crate) async fn effect_of(session: &mut Session<'_>, phrase: &Phrase) -> Result<Effect, Error> {
    if let Some(name) = index_built(phrase) {
        return Ok(match find(session, &name).await? {
            Some((_, true)) => Effect::Took,
            Some((_, false)) | None => Effect::None,
        });
    }
    if phrase.begins(&["DROP", "INDEX", "CONCURRENTLY"]) {
        let at = if phrase.at(3) == "IF" { 5 } else { 3 };
        let Some((name, end)) = phrase.name(at) else { return Ok(Effect::Unknown) };
        if !phrase.at(end).is_empty() && !matches!(phrase.at(end), "CASCADE" | "RESTRICT") {
            return Ok(Effect::Unknown);
        }
        return Ok(if find(session, &name).await?.is_none() { Effect::Took } else { Effect::None });
    }
    let repeatable =
        matches!(phrase.at(0), "VACUUM" | "REINDEX" | "CLUSTER" | "DISCARD") || phrase.begins(&["ALTER", "SYSTEM"]);
    Ok(if repeatable { Effect::Repeatable } else { Effect::Unknown })
}
