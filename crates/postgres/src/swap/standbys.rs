//! A standby replays a rename and lets its sessions be: they go on reading what was live before, until they are ended.

use std::collections::BTreeMap;
use std::time::Duration;

use backstay_run::Context;
use tokio::time::Instant;

use super::Switch;
use super::catalog::look_up;
use super::outside::connect_to_look;
use crate::{Error, ServerPart, Session, Settings};

/// How long a standby may lag behind before it is left as it is.
const LAG_MAX: Duration = Duration::from_secs(5);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// How many servers stream from this one.
const STREAMING: &str = "
select count(*) from pg_catalog.pg_stat_replication r
 where coalesce(r.state, 'streaming') = 'streaming' and coalesce(r.application_name, '') <> 'pg_receivewal'
   and not exists (select from pg_catalog.pg_replication_slots s where s.active_pid = r.pid and s.slot_type = 'logical')";

const END: &str = "
select count(*) filter (where pg_catalog.pg_terminate_backend(a.pid))
  from pg_catalog.pg_stat_activity a
 where a.datid::pg_catalog.int8 = any($1) and a.pid <> pg_catalog.pg_backend_pid()";

pub(crate) async fn standbys(session: &mut Session) -> Result<i64, Error> {
    sqlx::query_scalar(STREAMING)
        .fetch_one(&mut session.connection)
        .await
        .map_err(Error::query("read the list of standbys", &session.database))
}

/// Ends the sessions that standbys still have in databases of `switch` that are not live, once they have replayed it.
/// The switch stands whatever comes of this: what cannot be done is said.
pub(super) async fn recycle(part: &ServerPart, context: &Context, session: &mut Session, switch: &Switch) {
    let standbys: Vec<_> = part.databases().iter().flat_map(|database| &database.standbys).collect();
    if standbys.is_empty() {
        return;
    }
    let placed = match places(session, switch).await {
        Ok(placed) => placed,
        Err(error) => return context.warn(format!("sessions on standbys were not ended: {error}")),
    };
    for standby in standbys {
        if let Err(error) = recycle_one(standby, switch, &placed).await {
            let server = standby.server();
            context.warn(format!("sessions on the standby {server} may go on reading what was live before: {error}"));
        }
    }
}

/// Where each database is now, by its name.
async fn places(session: &mut Session, switch: &Switch) -> Result<BTreeMap<String, i64>, Error> {
    let entries = look_up(session, &switch.names()).await?;
    Ok(entries.into_iter().map(|(name, entry)| (name, entry.oid)).collect())
}

async fn recycle_one(standby: &Settings, switch: &Switch, placed: &BTreeMap<String, i64>) -> Result<(), Error> {
    let mut session = connect_to_look(standby, &switch.names(), "recycle").await?;
    let began = Instant::now();
    while places(&mut session, switch).await? != *placed {
        if began.elapsed() > LAG_MAX {
            let found = format!("it has not replayed the switch after {} s", LAG_MAX.as_secs());
            return Err(Error::NotAsLeft { action: "end its sessions", found });
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    let is_live = |name: &str| switch.databases.iter().any(|trio| trio.live == name);
    let replaced: Vec<i64> = placed.iter().filter(|(name, _)| !is_live(name)).map(|(_, oid)| *oid).collect();
    let _: i64 = sqlx::query_scalar(END)
        .bind(replaced)
        .persistent(false)
        .fetch_one(&mut session.connection)
        .await
        .map_err(Error::query("end the sessions", &session.database))?;
    session.close().await;
    Ok(())
}
