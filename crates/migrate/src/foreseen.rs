//! What each pending statement would lock, write anew and read whole in this very database.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::postgres::PgConnection;

use crate::error::Place;
use crate::folder::Migration;
use crate::lock_mode::LockMode;
use crate::measured::LockTaken;
use crate::session::place;
use crate::sql::{Expected, Forecast, forecast};

/// One statement that holds something others may want.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Foreseen {
    #[serde(flatten)]
    pub place: Place,
    /// The strongest lock on each relation that is there now.
    pub locks: Vec<LockTaken>,
    pub rewrites: Expected,
    pub scans: Expected,
    /// Whether only running it shows what it locks.
    pub opaque: bool,
}

/// Statements with what they do, and the locks that a run would ask for by the oid of the relation.
#[derive(Debug, Default)]
pub(crate) struct Forecasts {
    pub(crate) statements: Vec<Foreseen>,
    pub(crate) wanted: BTreeMap<i64, LockMode>,
}

struct Found {
    oid: i64,
    name: String,
    lock: usize,
}

pub(crate) async fn foresee(connection: &mut PgConnection, pending: &[&Migration]) -> Result<Forecasts, sqlx::Error> {
    let mut places = Vec::new();
    for migration in pending {
        for statement in migration.up.statements().unwrap_or_default() {
            places.push((place(&migration.up.file, &statement), forecast(statement.text)));
        }
    }
    let found = resolve(connection, &places).await?;
    let mut forecasts = Forecasts::default();
    let mut at = 0;
    for (place, forecast) in places {
        let mut strongest: BTreeMap<(i64, &str), LockMode> = BTreeMap::new();
        for (_, mode) in forecast.all_locks() {
            for one in found.iter().filter(|one| one.lock == at) {
                let known = strongest.entry((one.oid, &one.name)).or_insert(mode);
                *known = mode.max(*known);
            }
            at += 1;
        }
        let mut locks = Vec::new();
        for ((oid, name), mode) in strongest {
            let known = forecasts.wanted.entry(oid).or_insert(mode);
            *known = mode.max(*known);
            locks.push(LockTaken { on: name.to_owned(), mode, blocks: mode.blocks() });
        }
        let Forecast { rewrites, scans, opaque, .. } = forecast;
        if opaque || locks.iter().any(|lock| lock.mode >= LockMode::RowExclusive) {
            // Of what is not there yet nothing is written anew.
            let there = |expected| if locks.is_empty() { Expected::No } else { expected };
            forecasts.statements.push(Foreseen {
                place,
                rewrites: there(rewrites),
                scans: there(scans),
                opaque,
                locks,
            });
        }
    }
    Ok(forecasts)
}

/// Finds the relations behind the names: partitions and children with them, the table of an index, and
/// the other side of foreign keys that go.
async fn resolve(connection: &mut PgConnection, places: &[(Place, Forecast)]) -> Result<Vec<Found>, sqlx::Error> {
    let (mut schemas, mut names, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    let (mut with_keys, mut with_columns) = (Vec::new(), Vec::new());
    for (_, forecast) in places {
        for (name, _) in forecast.all_locks() {
            schemas.push(name.schema.clone());
            names.push(name.name.clone());
            with_keys.push(serde_json::json!(forecast.drops_keys));
            with_columns.push(serde_json::json!(forecast.drops_columns));
            alone.push(forecast.alone);
        }
    }
    let rows: Vec<(i64, String, i64)> = crate::target::query_as(
        "with recursive wanted as (
            select * from unnest($1::text[], $2::text[], $3::jsonb[], $4::jsonb[], $5::bool[])
            with ordinality as w (schema, name, keys, columns, alone, at)
         ), named as (
            select w.at, w.keys, w.columns, w.alone, coalesce(i.indrelid, c.oid) as oid
            from wanted w join pg_catalog.pg_class c on c.relname::text = w.name
            join pg_catalog.pg_namespace n on n.oid = c.relnamespace
            left join pg_catalog.pg_index i on i.indexrelid = c.oid
            where n.nspname::text = w.schema or (w.schema is null and (pg_catalog.pg_table_is_visible(c.oid)
                or (to_regclass(quote_ident(w.name)) is null and n.nspname not in ('pg_catalog', 'information_schema'))))
         ), family as (
            select at, keys, columns, alone, oid from named
            union
            select f.at, f.keys, f.columns, f.alone, h.inhrelid from family f
            join pg_catalog.pg_inherits h on h.inhparent = f.oid where not f.alone
         ), foreign_keys as (
            select conrelid as side, confrelid as other, conname::text as key, conkey as columns, false as from_there
            from pg_catalog.pg_constraint where contype = 'f'
            union all
            select confrelid, conrelid, conname::text, confkey, true from pg_catalog.pg_constraint where contype = 'f'
         ), everything as (
            select at, oid from family
            union
            select f.at, k.other from family f join foreign_keys k on k.side = f.oid
            where f.keys ? '*' or (f.keys ? k.key and not k.from_there) or exists (
                select from pg_catalog.pg_attribute a
                where a.attrelid = f.oid and a.attnum = any(k.columns) and f.columns ? a.attname::text)
         )
         select c.oid::bigint, format('%I.%I', n.nspname, c.relname), e.at - 1
         from everything e join pg_catalog.pg_class c on c.oid = e.oid
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace order by 2",
    )
    .bind(schemas)
    .bind(names)
    .bind(with_keys)
    .bind(with_columns)
    .bind(alone)
    .fetch_all(connection)
    .await?;
    let found =
        rows.into_iter().map(|(oid, name, at)| Found { oid, name, lock: usize::try_from(at).unwrap_or_default() });
    Ok(found.collect())
}
