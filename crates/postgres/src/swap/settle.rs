use backstay_model::RunId;

use super::Switch;
use super::activate::comment;
use super::catalog::{Entry, look_up};
use super::mark::{Mark, State};
use super::names::{Place, run_of};
use super::script::Script;
use super::writes::counted;
use crate::statement::change;
use crate::{Error, Session, identifier};

/// Drops what `switch` kept. First all of it is marked, so that what was let go is told from what
/// somebody dropped, then each is dropped.
pub(crate) async fn settle(session: &mut Session, switch: &Switch) -> Result<(), Error> {
    let entries = look_up(session, &switch.names()).await?;
    let mut script = Script::default();
    let mut condemned = Vec::new();
    for trio in &switch.databases {
        let live = entries.get(&trio.live).and_then(|live| Some((live, live.mark.as_ref()?)));
        match live {
            Some((live, mark)) if mark.is(&switch.run, State::Live) => {
                let mark = Mark { state: State::Settled, ..mark.clone() };
                script.step(comment(&trio.live, live.words.as_deref(), Some(&mark)));
            }
            _ => {}
        }
        let kept = entries.get(&trio.kept).and_then(|kept| Some((kept, kept.mark.as_ref()?)));
        let Some((kept, mark)) = kept else { continue };
        if mark.is(&switch.run, State::Kept) {
            let mark = Mark { state: State::Condemned, ..mark.clone() };
            script.step(comment(&trio.kept, kept.words.as_deref(), Some(&mark)));
        } else if !mark.is(&switch.run, State::Condemned) {
            let reason = format!("{} is not what the run left there", trio.kept);
            return Err(Error::Refused { action: "let go of the kept databases", reasons: vec![reason] });
        }
        condemned.push(trio.kept.clone());
    }
    if script.has_steps() {
        script.run(session, "mark what is let go").await?;
    }
    for database in condemned {
        drop_database(session, &database).await?;
    }
    Ok(())
}

/// What becomes of a copy that was live for a while and may hold rows that were written then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    Stays,
    Goes,
}

/// Drops what `run` staged and did not make live, but for warm copies, which are for others to take up. What it made live and took back is left, unless nothing
/// was written to it or it is to go in any case.
pub(crate) async fn abandon(session: &mut Session, run: &RunId, written: Written) -> Result<(), Error> {
    let staged = staged_by(session, run).await?;
    for entry in look_up(session, &staged).await?.into_values() {
        if super::warm::put_back(session, &entry).await? {
            continue;
        }
        if written == Written::Goes || !may_hold_writes(session, &entry).await? {
            drop_database(session, &entry.name).await?;
        }
    }
    Ok(())
}

async fn may_hold_writes(session: &mut Session, entry: &Entry) -> Result<bool, Error> {
    let Some(mark) = entry.mark.as_ref().filter(|mark| mark.was_live) else { return Ok(false) };
    Ok(entry.open || mark.writes.is_none() || counted(session, &entry.name).await? != mark.writes)
}

/// The copies of `run` that `abandon` left for what was written to them.
pub(crate) async fn left_by(session: &mut Session, run: &RunId) -> Result<Vec<String>, Error> {
    let warm = super::warm::warm(session).await?;
    let mut left = staged_by(session, run).await?;
    left.retain(|name| !warm.contains_key(name));
    Ok(left)
}

/// The databases that are there under the names by which `run` stages.
async fn staged_by(session: &mut Session, run: &RunId) -> Result<Vec<String>, Error> {
    let names: Vec<String> = sqlx::query_scalar("select datname::text from pg_catalog.pg_database order by 1")
        .fetch_all(&mut session.connection)
        .await
        .map_err(Error::query("read the list of databases", &session.database))?;
    Ok(names.into_iter().filter(|name| run_of(name) == Some((Place::Staged, run.clone()))).collect())
}

/// Drops a database, whoever is connected to it.
pub(crate) async fn drop_database(session: &mut Session, database: &str) -> Result<(), Error> {
    let what = format!("drop {database}");
    change(session, &what, &format!("drop database if exists {} with (force)", identifier(database))).await
}
