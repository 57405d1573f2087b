use std::collections::BTreeSet;
use std::time::Duration;

use backstay_model::Event;
use backstay_run::Context;

use crate::catalog::relations::{self, Relation};
use crate::{Error, Moment, Options, Session};

/// Tables locked by one statement.
const BATCH: usize = 200;
/// How often tables may come and go between listing and locking before that is an answer.
const MOVES_MAX: u32 = 10;
const LOCK_NOT_AVAILABLE: &str = "55P03";
const DEADLOCK: &str = "40P01";
/// Of the table of locks, while tables are locked.
const OUT_OF_MEMORY: &str = "53200";
/// Undefined table, undefined schema, not a table any more.
const GONE: [&str; 3] = ["42P01", "3F000", "42809"];

/// A database at one moment: no table in it can be truncated, altered or dropped until the session ends.
pub(super) struct Frozen {
    pub session: Session,
    pub relations: Vec<Relation>,
    pub moment: Moment,
    /// The exported snapshot, for pg_dump and the workers.
    pub snapshot: String,
}

/// Locks every table *before* the snapshot is taken. The other way round, a TRUNCATE or a rewriting
/// ALTER between the two would leave tables empty under the snapshot, and no error would say so.
pub(super) async fn freeze(mut session: Session, options: &Options, context: &Context) -> Result<Frozen, Error> {
    let start = context.clock.elapsed();
    let (mut moves, mut waits) = (0, 0);
    loop {
        let listed = relations::list(&mut session).await?;
        refuse_unreadable(&session, &listed)?;
        session.execute("begin reading", "begin isolation level repeatable read, read only, not deferrable").await?;
        session.set_lock_timeout(options.lock_timeout).await?;
        let what = match lock(&mut session, &listed).await {
            Ok(()) => {
                let (moment, snapshot) = export(&mut session).await?;
                let mut relations = relations::list(&mut session).await?;
                let Some(moved) = difference(&listed, &relations) else {
                    refuse_unreadable(&session, &relations)?;
                    relations::measure(&mut session, &mut relations).await?;
                    return Ok(Frozen { session, relations, moment, snapshot });
                };
                moved
            }
            Err(error) => match error.sqlstate().as_deref() {
                Some(LOCK_NOT_AVAILABLE | DEADLOCK) => {
                    session.execute("give up reading", "rollback").await?;
                    let blocker = blockers(&mut session, &listed).await?;
                    let waited = context.clock.elapsed().saturating_sub(start);
                    if waited >= options.lock_wait {
                        let database = session.database.clone();
                        return Err(Error::Locked { database, seconds: waited.as_secs(), blocker });
                    }
                    waits += 1;
                    context.hear(Event::Waiting { on: format!("a lock in {}: {blocker}", session.database) });
                    tokio::time::sleep(pause(waits)).await;
                    continue;
                }
                Some(OUT_OF_MEMORY) => {
                    let tables = listed.iter().filter(|relation| relation.is_table()).count();
                    return Err(Error::TooFewLocks { database: session.database, tables });
                }
                Some(state) if GONE.contains(&state) => error.to_string(),
                _ => return Err(error),
            },
        };
        session.execute("give up reading", "rollback").await?;
        moves += 1;
        if moves > MOVES_MAX {
            return Err(Error::Moving { database: session.database.clone(), what });
        }
    }
}

/// Between attempts nothing is held, so that whoever waits for us can go on.
pub(super) fn pause(attempt: u32) -> Duration {
    Duration::from_millis(u64::from(200 * attempt.min(10)))
}

fn refuse_unreadable(session: &Session, relations: &[Relation]) -> Result<(), Error> {
    let tables: Vec<_> = relations
        .iter()
        .filter(|relation| relation.is_table() && !relation.readable)
        .map(|relation| format!("{} (no right to select)", relation.title()))
        .collect();
    if tables.is_empty() { Ok(()) } else { Err(Error::Unreadable { database: session.database.clone(), tables }) }
}

async fn lock(session: &mut Session, listed: &[Relation]) -> Result<(), Error> {
    let tables: Vec<_> = listed.iter().filter(|relation| relation.is_table()).map(Relation::qualified).collect();
    for batch in tables.chunks(BATCH) {
        let sql = format!("lock table only {} in access share mode", batch.join(", only "));
        session.execute("lock the tables for reading", &sql).await?;
    }
    Ok(())
}

async fn export(session: &mut Session) -> Result<(Moment, String), Error> {
    let sql = "
        select pg_catalog.clock_timestamp(), pg_catalog.pg_current_snapshot()::pg_catalog.text,
               case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
                    else pg_catalog.pg_current_wal_insert_lsn() end::pg_catalog.text,
               pg_catalog.pg_export_snapshot()";
    let (at, visible, lsn, snapshot) = session.row("export the snapshot", sql).await?;
    Ok((Moment { at, snapshot: visible, lsn, counters: None }, snapshot))
}

/// What came, went or changed its name or columns since it was listed.
fn difference(before: &[Relation], after: &[Relation]) -> Option<String> {
    type Shape<'a> = (i64, String, &'a [String], &'a [String]);
    fn shapes(relations: &[Relation]) -> BTreeSet<Shape<'_>> {
        let tables = relations.iter().filter(|relation| relation.is_table());
        tables.map(|table| (table.oid, table.title(), &table.columns[..], &table.generated[..])).collect()
    }
    let (before, after) = (shapes(before), shapes(after));
    let changed: BTreeSet<_> = before.symmetric_difference(&after).map(|(_, title, ..)| title.clone()).collect();
    (!changed.is_empty()).then(|| format!("{} changed", changed.into_iter().take(5).collect::<Vec<_>>().join(", ")))
}

/// Who holds, or waits for, a lock that keeps readers out.
pub(super) async fn blockers(session: &mut Session, listed: &[Relation]) -> Result<String, Error> {
    let oids: Vec<_> =
        listed.iter().filter(|relation| relation.is_table()).map(|relation| relation.oid.to_string()).collect();
    let sql = format!(
        "select l.relation::pg_catalog.int8, l.pid, l.granted, a.usename::pg_catalog.text, a.application_name,
                a.state, pg_catalog.left(a.query, 120),
                extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::pg_catalog.int8
         from pg_catalog.pg_locks l left join pg_catalog.pg_stat_activity a on a.pid = l.pid
         where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock'
             and l.database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
             and l.relation::pg_catalog.int8 = any ('{{{}}}'::pg_catalog.int8[])
         order by l.granted desc, a.xact_start limit 3",
        oids.join(",")
    );
    type Row = (i64, Option<i32>, bool, Option<String>, Option<String>, Option<String>, Option<String>, Option<i64>);
    let rows: Vec<Row> = session.rows("look who holds the lock", &sql).await?;
    let describe = |(oid, pid, granted, user, application, state, query, age): &Row| {
        let table = listed.iter().find(|relation| relation.oid == *oid).map_or_else(String::new, Relation::title);
        let who = pid.map_or_else(|| "a prepared transaction".to_owned(), |pid| format!("process {pid}"));
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "?".to_owned());
        format!(
            "{who} ({}, {}, {}, for {} s) {} {table}: {}",
            text(user),
            application.as_deref().filter(|name| !name.is_empty()).unwrap_or("unnamed"),
            text(state),
            age.unwrap_or_default(),
            if *granted { "has locked" } else { "waits to lock" },
            text(query),
        )
    };
    let named = rows.iter().map(describe).collect::<Vec<_>>().join("; ");
    Ok(if named.is_empty() { "whoever held it has let go by now".to_owned() } else { named })
}
