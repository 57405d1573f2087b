use backstay_model::RunId;

use super::catalog::look_up;
use super::mark::State;
use super::names::{Place, run_of};
use super::warm::removal;
use crate::{Error, Session};

/// A database that a run made or renamed and that is not live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    pub database: String,
    /// Nothing where this role may not know it.
    pub bytes: Option<i64>,
    pub run: RunId,
    /// What it is, in words: `kept: what was live as shop before the run`.
    pub what: String,
    /// The command that removes it.
    pub remove: String,
}

const SIZES: &str = "
select d.datname::text,
       case when pg_catalog.has_database_privilege(d.oid, 'CONNECT')
              or pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
            then pg_catalog.pg_database_size(d.oid) end
  from pg_catalog.pg_database d order by 1";

/// Every database of the server that is named by a run, with what it takes to be rid of it.
pub(crate) async fn leftovers(session: &mut Session) -> Result<Vec<Leftover>, Error> {
    let sizes: Vec<(String, Option<i64>)> = sqlx::query_as(SIZES)
        .fetch_all(&mut session.connection)
        .await
        .map_err(Error::query("read the sizes of the databases", &session.database))?;
    let named: Vec<_> = sizes
        .into_iter()
        .filter_map(|(name, bytes)| run_of(&name).map(|(place, run)| (name, bytes, place, run)))
        .collect();
    let names: Vec<_> = named.iter().map(|(name, ..)| name.clone()).collect();
    let entries = look_up(session, &names).await?;
    let leftover = |(database, bytes, place, run): (String, Option<i64>, Place, RunId)| {
        let mark = entries.get(&database).and_then(|entry| entry.mark.as_ref());
        let of = mark.map_or("a database", |mark| mark.of.as_str());
        let was_live = mark.is_some_and(|mark| mark.was_live);
        let what = match (place, mark.map(|mark| mark.state)) {
            (_, Some(State::Condemned)) => format!("let go, not yet dropped: what was live as {of} before the run"),
            (Place::Kept, _) => format!("kept: what was live as {of} before the run"),
            (Place::Staged, _) if was_live => {
                format!("taken back: was live as {of} for a while and may hold rows written then")
            }
            (Place::Staged, Some(State::Proven)) if mark.is_some_and(|mark| mark.warm.is_some()) => {
                format!("warm: a proven copy of {of}, for a restore without a load")
            }
            (Place::Staged, Some(State::Proven)) => format!("staged: a proven copy of {of}"),
            (Place::Staged, Some(State::Staged)) => format!("staged: a copy of {of} that was not proven"),
            (Place::Staged, _) => format!("half-built: a copy of {of}"),
        };
        let remove = match place {
            Place::Kept => "backstay settle".to_owned(),
            Place::Staged => removal(&database),
        };
        Leftover { database, bytes, run, what, remove }
    };
    Ok(named.into_iter().map(leftover).collect())
}
