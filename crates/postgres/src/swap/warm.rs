//! Copies that are proven and kept, so that a restore of the same capture has nothing to load.

use std::collections::BTreeMap;

use super::activate::{comment, rename};
use super::catalog::{Entry, look_up};
use super::mark::{Mark, State, Warm};
use super::names::{Place, run_of};
use super::script::Script;
use super::settle::drop_database;
use super::writes::counted;
use super::{Switch, Trio};
use crate::{Error, Session, identifier};

/// Keeps what `switch` staged, and was proven, for whoever restores the capture with these facts.
pub(crate) async fn keep_warm(session: &mut Session, switch: &Switch, facts: &str) -> Result<(), Error> {
    let entries = look_up(session, &switch.names()).await?;
    let mut script = Script::default();
    for trio in &switch.databases {
        let proven = entries.get(&trio.staged).and_then(|entry| Some((entry, entry.mark.as_ref()?)));
        let Some((entry, mark)) = proven.filter(|(entry, mark)| mark.is(&switch.run, State::Proven) && !entry.open)
        else {
            let reason = format!("{} is not there, proven and closed", trio.staged);
            return Err(Error::Refused { action: "keep the proven copy", reasons: vec![reason] });
        };
        let mark = Mark { warm: Some(Warm { facts: facts.to_owned(), taken: false }), ..mark.clone() };
        script.step(comment(&trio.staged, entry.words.as_deref(), Some(&mark)));
    }
    script.run(session, "keep the proven copies").await
}

/// Gives the warm copies of the capture with these facts the names and marks of what `switch` stages. Says
/// whether there were such, of every database. One that was found open counts as not proven.
pub(crate) async fn take_warm(session: &mut Session, switch: &Switch, facts: &str) -> Result<bool, Error> {
    let warm = warm(session).await?;
    let mut script = Script::default();
    for trio in &switch.databases {
        let found = of_database(&warm, trio, facts).and_then(|entry| Some((entry, entry.mark.clone()?)));
        let Some((entry, mark)) = found else { return Ok(false) };
        let state = if entry.open { State::Staged } else { mark.state };
        let warm = Some(Warm { facts: facts.to_owned(), taken: true });
        let taken = Mark { run: switch.run.clone(), state, warm, ..mark };
        if entry.open {
            script.close(&entry.name, entry.oid, false);
        }
        if entry.name != trio.staged {
            script.step(rename(&entry.name, &trio.staged));
        }
        script.step(comment(&trio.staged, entry.words.as_deref(), Some(&taken)));
    }
    script.run(session, "take up the warm copies").await?;
    Ok(true)
}

/// Whether there is a warm copy of every database of `switch`.
pub(crate) async fn has_warm(session: &mut Session, switch: &Switch, facts: &str) -> Result<bool, Error> {
    let warm = warm(session).await?;
    Ok(switch.databases.iter().all(|trio| of_database(&warm, trio, facts).is_some_and(|entry| !entry.open)))
}

fn of_database<'a>(warm: &'a BTreeMap<String, Entry>, trio: &Trio, facts: &str) -> Option<&'a Entry> {
    let is_of = |mark: &Mark| mark.of == trio.live && mark.warm.as_ref().is_some_and(|warm| warm.facts == facts);
    warm.values().find(|entry| entry.mark.as_ref().is_some_and(is_of))
}

/// Whether this copy of a run is still what was proven: closed ever since, never live, nothing written.
pub(crate) async fn still_proven(session: &mut Session, entry: &Entry) -> Result<bool, Error> {
    let Some(mark) = entry.mark.as_ref().filter(|mark| mark.state == State::Proven && !mark.was_live) else {
        return Ok(false);
    };
    Ok(!entry.open && mark.writes.is_some() && counted(session, &entry.name).await? == mark.writes)
}

/// Puts a warm copy that a run took up and did not make live back among those that are kept.
pub(super) async fn put_back(session: &mut Session, entry: &Entry) -> Result<bool, Error> {
    let Some((mark, warm)) = entry.mark.as_ref().and_then(|mark| Some((mark, mark.warm.as_ref()?))) else {
        return Ok(false);
    };
    if !still_proven(session, entry).await? {
        return Ok(false);
    }
    if warm.taken {
        let mark = Mark { warm: Some(Warm { taken: false, ..warm.clone() }), ..mark.clone() };
        let mut script = Script::default();
        script.step(comment(&entry.name, entry.words.as_deref(), Some(&mark)));
        script.run(session, "put the warm copy back").await?;
    }
    Ok(true)
}

/// Drops the warm copies of these databases whose capture is none of `kept`, but for those that a run has
/// taken up. Returns their names.
pub(crate) async fn cool(session: &mut Session, live: &[String], kept: &[String]) -> Result<Vec<String>, Error> {
    let mut dropped = Vec::new();
    for entry in warm(session).await?.into_values() {
        let Some((mark, warm)) = entry.mark.as_ref().and_then(|mark| Some((mark, mark.warm.as_ref()?))) else {
            continue;
        };
        if live.contains(&mark.of) && !warm.taken && !kept.contains(&warm.facts) {
            drop_database(session, &entry.name).await?;
            dropped.push(entry.name);
        }
    }
    Ok(dropped)
}

/// The databases that are marked as warm copies, by name.
pub(crate) async fn warm(session: &mut Session) -> Result<BTreeMap<String, Entry>, Error> {
    let names: Vec<String> = sqlx::query_scalar("select datname::text from pg_catalog.pg_database order by 1")
        .persistent(false)
        .fetch_all(&mut session.connection)
        .await
        .map_err(Error::query("read the list of databases", &session.database))?;
    let staged: Vec<_> = names.into_iter().filter(|name| matches!(run_of(name), Some((Place::Staged, _)))).collect();
    let mut entries = look_up(session, &staged).await?;
    entries.retain(|_, entry| {
        let is_warm = |mark: &Mark| mark.warm.is_some() && mark.state == State::Proven && !mark.was_live;
        entry.mark.as_ref().is_some_and(is_warm)
    });
    Ok(entries)
}

/// What these databases take on disk, where this role may know it.
pub(crate) async fn bytes(session: &mut Session, database: &str) -> Option<u64> {
    let sql = format!("select pg_catalog.pg_database_size({})", crate::literal(database));
    let (bytes,): (i64,) = session.row("read the size of a database", &sql).await.ok()?;
    u64::try_from(bytes).ok()
}

/// The statement that removes a copy by hand.
pub(super) fn removal(database: &str) -> String {
    format!("DROP DATABASE {};", identifier(database))
}
