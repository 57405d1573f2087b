use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sqlx::postgres::PgConnection;

use crate::schema::{Change, Schema};
use crate::session::Session;
use crate::{Error, bookkeeping};

/// How the database stands after a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Aftermath {
    /// Constraints that the run left unchecked (`NOT VALID`).
    pub unvalidated: Vec<String>,
    /// Indexes that no query uses because they were not built to the end.
    pub invalid_indexes: Vec<String>,
    /// What was changed outside of migrations between the run before and this one.
    pub drift: Vec<Change>,
    /// Objects that this run added, changed or removed.
    pub changed: usize,
}

/// The database before a run.
pub(crate) struct Before {
    unvalidated: BTreeSet<String>,
    schema: Schema,
    drift: Vec<Change>,
}

pub(crate) async fn look(session: &mut Session<'_>) -> Result<Before, Error> {
    let failed = session.target.failed("look at the schema");
    let unvalidated = unvalidated(&mut session.connection).await.map_err(&failed)?;
    let schema = Schema::read(&mut session.connection).await.map_err(&failed)?;
    let drift = drift(&mut session.connection, &schema).await.map_err(&failed)?;
    Ok(Before { unvalidated, schema, drift })
}

/// Objects that differ from how the newest run left them; nothing where no run of ours is recorded.
pub(crate) async fn drift(connection: &mut PgConnection, now: &Schema) -> Result<Vec<Change>, sqlx::Error> {
    if bookkeeping::standing(connection).await? != bookkeeping::Standing::Ready {
        return Ok(Vec::new());
    }
    let readable: bool = crate::target::query_scalar(
        "select has_schema_privilege('backstay', 'usage') and has_table_privilege('backstay.schema_objects', 'select')",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !readable {
        return Ok(Vec::new());
    }
    let rows: Vec<(String, String)> =
        crate::target::query_as("select identity, definition from backstay.schema_objects")
            .fetch_all(connection)
            .await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    Ok(Schema { objects: rows.into_iter().collect::<BTreeMap<_, _>>() }.changes_to(now))
}

pub(crate) async fn after(session: &mut Session<'_>, before: &Before, ran: bool) -> Result<Aftermath, Error> {
    let invalid = crate::leftover::invalid_indexes(session).await?;
    let failed = session.target.failed("look at the schema");
    let now = Schema::read(&mut session.connection).await.map_err(&failed)?;
    let unchecked = unvalidated(&mut session.connection).await.map_err(&failed)?;
    if ran && session.bookkeeping && session.mode.records() {
        remember(&mut session.connection, &now).await.map_err(&failed)?;
    }
    Ok(Aftermath {
        unvalidated: unchecked.difference(&before.unvalidated).cloned().collect(),
        invalid_indexes: invalid.into_iter().collect(),
        drift: before.drift.clone(),
        changed: before.schema.changes_to(&now).len(),
    })
}

async fn remember(connection: &mut PgConnection, schema: &Schema) -> Result<(), sqlx::Error> {
    let (identities, definitions): (Vec<&String>, Vec<&String>) = schema.objects.iter().unzip();
    crate::target::query(
        "with gone as (delete from backstay.schema_objects where identity <> all ($1))
         insert into backstay.schema_objects (identity, definition) select * from unnest($1, $2)
         on conflict (identity) do update set definition = excluded.definition",
    )
    .bind(identities)
    .bind(definitions)
    .execute(connection)
    .await
    .map(|_| ())
}

async fn unvalidated(connection: &mut PgConnection) -> Result<BTreeSet<String>, sqlx::Error> {
    let found: Vec<String> = crate::target::query_scalar(
        "select format('%I.%I %I', n.nspname, coalesce(c.relname, t.typname), k.conname) from pg_catalog.pg_constraint k
         join pg_catalog.pg_namespace n on n.oid = k.connamespace
         left join pg_catalog.pg_class c on c.oid = k.conrelid left join pg_catalog.pg_type t on t.oid = k.contypid
         where not k.convalidated",
    )
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().collect())
}
