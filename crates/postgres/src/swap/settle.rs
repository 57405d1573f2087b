use backstay_model::RunId;

use super::Switch;
use super::activate::comment;
use super::catalog::look_up;
use super::mark::{Mark, State};
use super::names::{Place, run_of};
use super::script::Script;
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

/// Drops what `run` staged and did not make live. What it made live and took back is left where rows
/// may have been written to it; their names are returned.
pub(crate) async fn abandon(session: &mut Session, run: &RunId) -> Result<Vec<String>, Error> {
    let names: Vec<String> = sqlx::query_scalar("select datname::text from pg_catalog.pg_database order by 1")
        .fetch_all(&mut session.connection)
        .await
        .map_err(Error::query("read the list of databases", &session.database))?;
    let staged: Vec<_> = names.into_iter().filter(|name| run_of(name) == Some((Place::Staged, run.clone()))).collect();
    let entries = look_up(session, &staged).await?;
    let mut left = Vec::new();
    for entry in entries.values() {
        if entry.mark.as_ref().is_some_and(|mark| mark.was_live) {
            left.push(entry.name.clone());
        } else {
            drop_database(session, &entry.name).await?;
        }
    }
    Ok(left)
}

/// Drops a database, whoever is connected to it.
pub(crate) async fn drop_database(session: &mut Session, database: &str) -> Result<(), Error> {
    let what = format!("drop {database}");
    change(session, &what, &format!("drop database if exists {} with (force)", identifier(database))).await
}
