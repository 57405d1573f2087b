use std::collections::BTreeMap;
use std::time::Duration;

use backstay_model::{Loss, TableLoss};

use super::tables::is_bookkeeping;
use crate::{DatabaseFacts, Error, Session, TableCounters, WriteCounters, history, literal};

/// How long sessions may take to hand in what they counted; an idle one does so within ten seconds.
const SETTLING_MAX: Duration = Duration::from_secs(15);
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

const RESETS: &str = "
    select d.oid::pg_catalog.int8,
           pg_catalog.concat_ws(' ', coalesce(s.stats_reset::pg_catalog.text, '-'),
               coalesce(b.stats_reset::pg_catalog.text, '-'), coalesce(a.stats_reset::pg_catalog.text, '-')),
           pg_catalog.current_setting('track_counts')::pg_catalog.bool
      from pg_catalog.pg_database d
      left join pg_catalog.pg_stat_database s on s.datid = d.oid
     cross join pg_catalog.pg_stat_bgwriter b cross join pg_catalog.pg_stat_archiver a
     where d.datname = pg_catalog.current_database()";

const COUNTERS: &str = "
    select n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.oid::pg_catalog.int8,
           c.relfilenode::pg_catalog.int8, pg_catalog.pg_stat_get_tuples_inserted(c.oid),
           pg_catalog.pg_stat_get_tuples_updated(c.oid), pg_catalog.pg_stat_get_tuples_deleted(c.oid)
      from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'r' and c.relpersistence <> 't'
       and (n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
            or c.oid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass)
     order by 1, 2";

/// What the server has counted so far. To be read before the snapshot is taken: then what is missing
/// in it, because a session has not handed it in yet, is later taken for a write too many, never for
/// one too few. Nothing where the server does not count.
pub(crate) async fn read(session: &mut Session) -> Result<Option<WriteCounters>, Error> {
    if session.standby {
        return Ok(None);
    }
    let (database, resets, counts): (i64, String, bool) = session.row("read the write counters", RESETS).await?;
    if !counts {
        return Ok(None);
    }
    type Row = (String, String, i64, i64, i64, i64, i64);
    let rows: Vec<Row> = session.rows("read the write counters", COUNTERS).await?;
    let tables = rows.into_iter().map(|(schema, name, oid, filenode, inserted, updated, deleted)| TableCounters {
        schema,
        name,
        oid,
        filenode,
        inserted,
        updated,
        deleted,
    });
    Ok(Some(WriteCounters { database, resets, tables: tables.collect() }))
}

/// What was written since `facts` were captured, or why that cannot be known. Zero is only said where
/// nothing was written.
pub(crate) async fn estimate(
    session: &mut Session,
    facts: &DatabaseFacts,
    excluded: &[String],
) -> Result<Result<Loss, String>, Error> {
    let Some(then) = &facts.moment.counters else { return Ok(Err("the snapshot holds no write counters".to_owned())) };
    let history: Vec<_> = history::heads(session)
        .await?
        .into_iter()
        .chain(facts.migrations.iter().cloned())
        .map(|head| format!("{}.{}", head.schema, head.table))
        .collect();
    let name = session.database.clone();
    let since = Since { then, facts, excluded, history, name };
    let Some(now) = read(session).await? else { return Ok(Err("the server does not count writes".to_owned())) };
    let loss = match since.counted(&now) {
        Ok(loss) if loss.rows() == 0 => loss,
        known => return Ok(known),
    };
    // Nothing at all was written on the whole server.
    let (visible,): (String,) =
        session.row("look at the moment", "select pg_catalog.pg_current_snapshot()::pg_catalog.text").await?;
    if visible == facts.moment.snapshot && visible.ends_with(':') {
        return Ok(Ok(loss));
    }
    if !settled(session).await? {
        let why = "sessions are at work, and what they wrote is not counted yet".to_owned();
        return Ok(Err(why));
    }
    let now = read(session).await?;
    Ok(now.map_or_else(|| Err("the server does not count writes".to_owned()), |now| since.counted(&now)))
}

struct Since<'a> {
    then: &'a WriteCounters,
    facts: &'a DatabaseFacts,
    excluded: &'a [String],
    history: Vec<String>,
    name: String,
}

impl Since<'_> {
    fn counted(&self, now: &WriteCounters) -> Result<Loss, String> {
        if now.database != self.then.database {
            return Err("it is another database than the one captured".to_owned());
        }
        if now.resets != self.then.resets {
            return Err("the server's write counters were reset since".to_owned());
        }
        let key = |table: &TableCounters| (table.schema.clone(), table.name.clone());
        let mut gone: BTreeMap<_, _> = self.then.tables.iter().map(|table| (key(table), table)).collect();
        let mut loss = Loss::default();
        for table in &now.tables {
            let then = gone.remove(&key(table));
            let title = table.title();
            if self.is_left_out(table) {
                continue;
            }
            let mut found = match then {
                Some(then) if then.oid != table.oid => return Err(format!("{title} was made anew")),
                Some(then) if then.filenode != table.filenode => {
                    return Err(format!("{title} was truncated or rewritten, which no counter tells"));
                }
                Some(then) => difference(then, table).ok_or_else(|| format!("the counters of {title} were reset"))?,
                None => difference(&TableCounters::default(), table).unwrap_or_default(),
            };
            (found.table, found.database) = (title, self.name.clone());
            loss.tables.extend((found.rows() > 0).then_some(found));
        }
        for table in gone.into_values().filter(|table| !self.is_left_out(table)) {
            let recorded = self.facts.tables.iter().find(|one| one.schema == table.schema && one.name == table.name);
            let deleted = recorded.map_or(0, |recorded| recorded.rows);
            let found =
                TableLoss { deleted, table: table.title(), database: self.name.clone(), ..TableLoss::default() };
            loss.tables.extend((deleted > 0).then_some(found));
        }
        loss.caveats = self.caveats(loss.rows());
        Ok(loss)
    }

    fn is_left_out(&self, table: &TableCounters) -> bool {
        let title = table.title();
        let quoted = crate::qualified(&table.schema, &table.name);
        is_bookkeeping(&table.schema, &title, &self.history)
            || self.excluded.iter().any(|name| *name == title || *name == quoted)
    }

    fn caveats(&self, rows: u64) -> Vec<String> {
        let left_out = |name: &String| format!("the rows of {name} are left out by the configuration");
        let mut caveats: Vec<_> = self.excluded.iter().map(left_out).collect();
        if rows > 0 {
            caveats.push(format!("{}: by the server's counters, which count what was rolled back too", self.name));
        }
        caveats
    }
}

impl TableCounters {
    fn title(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// Nothing where a counter went back.
fn difference(then: &TableCounters, now: &TableCounters) -> Option<TableLoss> {
    let since = |then: i64, now: i64| u64::try_from(now - then).ok();
    Some(TableLoss {
        inserted: since(then.inserted, now.inserted)?,
        updated: since(then.updated, now.updated)?,
        deleted: since(then.deleted, now.deleted)?,
        ..TableLoss::default()
    })
}

/// Waits until every other session here has handed in what it had counted when this began, and holds
/// no change. Sessions hand in when they become idle, but not twice within a second, and else after ten
/// seconds of idleness; those of other users may be hidden, and then it is not known.
async fn settled(session: &mut Session) -> Result<bool, Error> {
    let (began,): (String,) =
        session.row("look at the clock", "select pg_catalog.clock_timestamp()::pg_catalog.text").await?;
    let sql = format!(
        "select pg_catalog.count(*), pg_catalog.count(*) filter (where a.backend_xid is not null
                    and a.xact_start < pg_catalog.clock_timestamp() - '2 seconds'::pg_catalog.interval)
           from pg_catalog.pg_stat_activity a
          where a.datid = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
            and a.pid <> pg_catalog.pg_backend_pid()
            and coalesce(a.backend_type, '') not in ('autovacuum worker', 'parallel worker', 'walsender')
            and not coalesce(a.state = 'idle'
                    and (a.state_change < pg_catalog.clock_timestamp() - '11 seconds'::pg_catalog.interval
                         or a.state_change > {}::pg_catalog.timestamptz + '1.5 seconds'::pg_catalog.interval), false)",
        literal(&began)
    );
    let waited = tokio::time::Instant::now();
    loop {
        let (unsettled, long): (i64, i64) = session.row("look at the sessions", &sql).await?;
        if unsettled == 0 {
            return Ok(true);
        }
        // A transaction that takes its time is not waited for.
        if long > 0 || waited.elapsed() > SETTLING_MAX {
            return Ok(false);
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}
