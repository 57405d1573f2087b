use std::time::Duration;

use crate::{Error, Session};

/// How long the last sessions of a closed database may take to hand in what they counted.
const ENDING_MAX: Duration = Duration::from_secs(20);
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

const CONNECTED: &str = "
select pg_catalog.count(*) from pg_catalog.pg_stat_activity a
  join pg_catalog.pg_database d on d.oid = a.datid where d.datname = $1";

const COUNTED: &str = "
select pg_catalog.pg_stat_get_db_tuples_inserted(d.oid) + pg_catalog.pg_stat_get_db_tuples_updated(d.oid)
       + pg_catalog.pg_stat_get_db_tuples_deleted(d.oid)
  from pg_catalog.pg_database d where d.datname = $1";

/// The server's count of all rows that were ever changed in a database that takes no connections, catalogs and
/// large objects among them. Nothing where the server does not count, or somebody is still connected.
pub(crate) async fn counted(session: &mut Session, database: &str) -> Result<Option<i64>, Error> {
    let began = tokio::time::Instant::now();
    while ask(session, CONNECTED, database).await? != Some(0) {
        if began.elapsed() > ENDING_MAX {
            return Ok(None);
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    // A server that crashed begins anew at zero, and no copy was built without a change.
    Ok(ask(session, COUNTED, database).await?.filter(|changes| *changes > 0))
}

async fn ask(session: &mut Session, sql: &'static str, database: &str) -> Result<Option<i64>, Error> {
    let asked = sqlx::query_scalar::<_, Option<i64>>(sql).bind(database).persistent(false);
    let asked = asked.fetch_optional(&mut session.connection).await;
    asked.map(Option::flatten).map_err(Error::query("count what was written", &session.database))
}
