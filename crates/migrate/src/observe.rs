use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use sqlx::Row;
use sqlx::postgres::PgConnection;

use crate::error::Place;
use crate::measured::{LockTaken, Measured, Rewrite, RowsChanged, Scan};
use crate::session::{Executed, Session};
use crate::sql::Phrase;
use crate::target::execute;

/// Watches a rehearsal from within its own transaction: what each statement locks, rewrites, reads
/// and writes. It reads catalogs and counters alone, and so takes no lock on any table itself.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) measured: Vec<Measured>,
    /// Where the open batch begins in `measured`, with the moment each statement began.
    batch: Vec<(usize, Instant)>,
    /// What stood before the batch: only locks on that can disturb anybody.
    stood: Relations,
    state: State,
    held: BTreeSet<(i64, String)>,
    tells_reasons: bool,
    committed_to: usize,
}

type Relations = BTreeMap<i64, Relation>;

#[derive(Debug, Clone, Default)]
struct Relation {
    name: String,
    kind: String,
    filenode: i64,
    scans: i64,
    read: i64,
    inserted: i64,
    updated: i64,
    deleted: i64,
}

#[derive(Debug, Clone, Default)]
struct State {
    relations: Relations,
    sequences: BTreeMap<String, i64>,
    wal: i64,
    rewrites: BTreeMap<i64, i64>,
}

/// Only a superuser may make it; it goes with the transaction.
const REASONS: &str = "
    create function pg_temp.backstay_rewrite() returns event_trigger language plpgsql as $$
    begin
        perform pg_catalog.set_config('backstay.rewrites',
            coalesce(pg_catalog.current_setting('backstay.rewrites', true), '') || ' ' ||
            pg_catalog.pg_event_trigger_table_rewrite_oid()::bigint || ':' || pg_catalog.pg_event_trigger_table_rewrite_reason(), true);
    end $$;
    create event trigger backstay_rewrite on table_rewrite execute function pg_temp.backstay_rewrite()";

impl Recorder {
    pub(crate) async fn begin_batch(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        self.committed_to = self.measured.len();
        self.batch.clear();
        let superuser: bool =
            crate::target::query_scalar("select rolsuper from pg_catalog.pg_roles where rolname = current_user")
                .fetch_one(&mut *connection)
                .await?;
        self.tells_reasons = superuser;
        if superuser {
            execute(connection, REASONS).await?;
        }
        self.state = State::read(connection).await?;
        self.stood = self.state.relations.clone();
        self.held = locks(connection).await?;
        Ok(())
    }

    /// Runs a statement and adds what it did.
    pub(crate) async fn measure(
        &mut self,
        session: &mut Session<'_>,
        at: &Place,
        sql: &str,
    ) -> Result<Executed, sqlx::Error> {
        let began = Instant::now();
        if self.stood.is_empty() && self.state.relations.is_empty() {
            self.state = State::read(&mut session.connection).await?;
        }
        let executed = session.execute(sql).await;
        if executed.result.is_err() {
            return Ok(executed);
        }
        let connection = &mut session.connection;
        let after = State::read(connection).await?;
        let held = locks(connection).await?;
        let mut measured = Measured::new(at.clone(), executed.took);
        measured.locks = self.new_locks(&held, &after);
        self.compare(&after, &mut measured, &Phrase::of(sql));
        self.state = after;
        self.held = held;
        self.batch.push((self.measured.len(), began));
        self.measured.push(measured);
        Ok(executed)
    }

    /// A statement that no transaction takes: only its time is seen, and its locks are known by rule.
    pub(crate) fn outside(&mut self, place: Place, took: std::time::Duration, phrase: &Phrase) {
        let mut measured = Measured::new(place, took);
        let note = if phrase.has("CONCURRENTLY") {
            "outside of a transaction: by rule SHARE UPDATE EXCLUSIVE, and it waits for every older transaction"
        } else {
            "outside of a transaction: its locks come and go while it runs and were not seen"
        };
        measured.note = Some(note.to_owned());
        self.measured.push(measured);
        self.committed_to = self.measured.len();
    }

    /// Locks last until COMMIT: now it is known how long that was.
    pub(crate) async fn end_batch(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        for (index, began) in self.batch.drain(..) {
            if let Some(measured) = self.measured.get_mut(index) {
                measured.held = Some(began.elapsed());
            }
        }
        if self.tells_reasons {
            execute(connection, "drop event trigger backstay_rewrite; drop function pg_temp.backstay_rewrite()")
                .await?;
        }
        self.committed_to = self.measured.len();
        Ok(())
    }

    /// The batch was rolled back, and is tried again or not.
    pub(crate) fn forget_batch(&mut self) {
        self.batch.clear();
        self.measured.truncate(self.committed_to);
    }

    fn new_locks(&self, held: &BTreeSet<(i64, String)>, after: &State) -> Vec<LockTaken> {
        let mut taken: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (relation, mode) in held.difference(&self.held) {
            // By the names of before: what was dropped has none any more.
            let Some(found) = self.stood.get(relation) else { continue };
            if found.kind != "t" && after.relations.get(relation).is_none_or(|now| now.kind != "t") {
                taken.entry(&found.name).or_default().push(mode);
            }
        }
        taken.into_iter().filter_map(|(on, modes)| LockTaken::strongest(on, &modes)).collect()
    }

    fn compare(&self, after: &State, measured: &mut Measured, phrase: &Phrase) {
        for (oid, now) in &after.relations {
            let Some(before) = self.state.relations.get(oid) else { continue };
            if before.filenode != now.filenode && self.stood.contains_key(oid) && before.filenode != 0 {
                measured.rewrites.push(Rewrite {
                    relation: now.name.clone(),
                    kind: kind_word(&now.kind).to_owned(),
                    why: reason(after.rewrites.get(oid).copied(), phrase).to_owned(),
                });
            }
            let read = now.read - before.read;
            // An index that is built over an empty table looks like reading it.
            if now.scans > before.scans
                && read > 0
                && matches!(now.kind.as_str(), "r" | "m")
                && self.stood.contains_key(oid)
            {
                measured.scans.push(Scan { table: now.name.clone(), rows: read });
            }
            let changed = RowsChanged {
                table: now.name.clone(),
                inserted: now.inserted - before.inserted,
                updated: now.updated - before.updated,
                deleted: now.deleted - before.deleted,
            };
            if changed.rows() > 0 {
                measured.rows.push(changed);
            }
        }
        measured.rows.extend(
            after.relations.iter().filter(|(oid, _)| !self.state.relations.contains_key(oid)).filter_map(|(_, new)| {
                let changed = RowsChanged {
                    table: new.name.clone(),
                    inserted: new.inserted,
                    updated: new.updated,
                    deleted: new.deleted,
                };
                (changed.rows() > 0).then_some(changed)
            }),
        );
        measured.wal_bytes = u64::try_from(after.wal - self.state.wal).unwrap_or_default();
        for (name, value) in &after.sequences {
            if self.state.sequences.get(name).is_some_and(|before| before != value) {
                measured.sequences.push(name.clone());
            }
        }
    }
}

fn reason(told: Option<i64>, phrase: &Phrase) -> &'static str {
    match told {
        Some(1) => "its persistence changes",
        Some(2) => "a column's default must be computed for each row",
        Some(4) => "a column's type changes in form",
        Some(8) => "its access method changes",
        _ => match phrase.at(0) {
            "TRUNCATE" => "it is emptied",
            "REFRESH" => "it is computed anew",
            "CLUSTER" | "VACUUM" => "it is written anew in order",
            "REINDEX" => "it is built anew",
            _ if phrase.has("TABLESPACE") => "it moves to another tablespace",
            _ if phrase.has("TYPE") => "a column's type changes in form",
            _ if phrase.has("ADD") => "a column's value must be computed for each row",
            _ => "its rows are written anew",
        },
    }
}

fn kind_word(kind: &str) -> &'static str {
    match kind {
        "i" => "index",
        "t" => "toast table",
        "m" => "materialized view",
        "S" => "sequence",
        _ => "table",
    }
}

impl State {
    async fn read(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        let rows = crate::target::query(
            "select c.oid::bigint, format('%I.%I', n.nspname, c.relname), c.relkind::text,
                    coalesce(pg_catalog.pg_relation_filenode(c.oid), 0)::bigint,
                    coalesce(pg_catalog.pg_stat_get_xact_numscans(c.oid), 0),
                    coalesce(pg_catalog.pg_stat_get_xact_tuples_returned(c.oid), 0),
                    coalesce(pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid), 0),
                    coalesce(pg_catalog.pg_stat_get_xact_tuples_updated(c.oid), 0),
                    coalesce(pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid), 0)
             from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             where c.relkind in ('r', 'm', 'i', 't', 'p', 'I', 'v', 'S', 'f')
               and n.nspname not in ('pg_catalog', 'information_schema', 'backstay') and n.nspname !~ '^pg_temp'
               and not (n.nspname = 'pg_toast' and c.oid < 16384) and c.relname <> '_sqlx_migrations'",
        )
        .fetch_all(&mut *connection)
        .await?;
        let mut relations = Relations::new();
        for row in rows {
            let relation = Relation {
                name: row.try_get(1)?,
                kind: row.try_get(2)?,
                filenode: row.try_get(3)?,
                scans: row.try_get(4)?,
                read: row.try_get(5)?,
                inserted: row.try_get(6)?,
                updated: row.try_get(7)?,
                deleted: row.try_get(8)?,
            };
            relations.insert(row.try_get(0)?, relation);
        }
        let sequences: Vec<(String, i64)> = crate::target::query_as(
            "select format('%I.%I', schemaname, sequencename), coalesce(last_value, -1) from pg_catalog.pg_sequences
             where schemaname <> 'backstay'",
        )
        .fetch_all(&mut *connection)
        .await?;
        let (wal, told): (i64, String) = crate::target::query_as(
            "select pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')::bigint,
                    coalesce(pg_catalog.current_setting('backstay.rewrites', true), '')",
        )
        .fetch_one(connection)
        .await?;
        let rewrites = told.split_whitespace().filter_map(|pair| {
            let (oid, reason) = pair.split_once(':')?;
            Some((oid.parse().ok()?, reason.parse().ok()?))
        });
        Ok(Self { relations, sequences: sequences.into_iter().collect(), wal, rewrites: rewrites.collect() })
    }
}

async fn locks(connection: &mut PgConnection) -> Result<BTreeSet<(i64, String)>, sqlx::Error> {
    let rows: Vec<(i64, String)> = crate::target::query_as(
        "select relation::bigint, mode from pg_catalog.pg_locks
         where pid = pg_catalog.pg_backend_pid() and locktype = 'relation' and granted",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}
