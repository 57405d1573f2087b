use std::collections::BTreeMap;

use backstay_part::Standing;

use super::catalog::{Entry, look_up, role_names};
use super::mark::{Mark, Opening, State, with_mark};
use super::rights::refusals;
use super::script::Script;
use super::standing::standing;
use super::{Switch, Trio};
use crate::{Error, Session, identifier, literal};

/// Makes every staged database of `switch` live and keeps what was live, all in one transaction.
pub(crate) async fn activate(session: &mut Session, switch: &Switch) -> Result<(), Error> {
    match standing(session, switch).await? {
        Standing::Switched => return Ok(()),
        Standing::NotSwitched | Standing::Half(_) => {}
        Standing::Settled => return Err(refused(["this run was settled".to_owned()])),
        Standing::Unclear(why) => return Err(refused([why])),
    }
    let entries = look_up(session, &switch.names()).await?;
    if switch.databases.iter().all(|trio| is_live(switch, trio, &entries)) {
        return open_again(session, switch, &entries).await;
    }
    let reasons = refusals(session, switch).await?;
    if !reasons.is_empty() {
        return Err(refused(reasons));
    }
    let oids: Vec<_> = entries.values().flat_map(granted).collect();
    let roles = role_names(session, &oids).await?;
    let mut script = Script::default();
    for trio in &switch.databases {
        write(&mut script, switch, trio, &entries, &roles)?;
    }
    script.run(session, "switch the databases").await?;
    confirm(session, switch).await
}

/// A switch back died after it had closed the databases, and this takes that back.
async fn open_again(session: &mut Session, switch: &Switch, entries: &BTreeMap<String, Entry>) -> Result<(), Error> {
    let mut script = Script::default();
    for entry in switch.databases.iter().flat_map(|trio| [entries.get(&trio.live), entries.get(&trio.kept)]).flatten() {
        script.step(format!("alter database {} allow_connections true", identifier(&entry.name)));
    }
    script.run(session, "open the databases").await?;
    confirm(session, switch).await
}

async fn confirm(session: &mut Session, switch: &Switch) -> Result<(), Error> {
    match standing(session, switch).await? {
        Standing::Switched => Ok(()),
        other => Err(Error::NotAsLeft { action: "switch the databases", found: format!("{other:?}") }),
    }
}

fn write(
    script: &mut Script,
    switch: &Switch,
    trio: &Trio,
    entries: &BTreeMap<String, Entry>,
    roles: &BTreeMap<i64, String>,
) -> Result<(), Error> {
    let Some((staged, mark)) = entries.get(&trio.staged).and_then(|entry| Some((entry, entry.mark.as_ref()?))) else {
        return Err(refused([format!("{} is not there", trio.staged)]));
    };
    let live = entries.get(&trio.live);
    script.close(&trio.staged, staged.oid, mark.state == State::Kept);
    if let Some(live) = live {
        script.close(&trio.live, live.oid, true);
        script.step(rename(&trio.live, &trio.kept));
    }
    script.step(rename(&trio.staged, &trio.live));
    if let Some(live) = live {
        let opening = Opening { limit: live.limit, connect: live.connect.clone(), read_only: live.read_only.clone() };
        let mut kept = Mark::new(&switch.run, State::Kept, &trio.live);
        kept.opening = opening;
        kept.earlier = live.mark.clone().map(Box::new);
        restrict(script, &trio.kept, &live.connect, roles);
        script.step(comment(&trio.kept, live.words.as_deref(), Some(&kept)));
        script.step(format!("alter database {} allow_connections true", identifier(&trio.kept)));
    }
    if mark.state == State::Kept {
        release(script, &trio.live, &mark.opening, roles);
    }
    let mut now = Mark::new(&switch.run, State::Live, &trio.live);
    now.came_from = Some(trio.staged.clone());
    now.replaced = live.map(|_| trio.kept.clone());
    now.earlier = Some(Box::new(mark.clone()));
    script.step(comment(&trio.live, staged.words.as_deref(), Some(&now)));
    let limit = mark.opening.limit;
    script.step(format!(
        "alter database {} with allow_connections true connection limit {limit}",
        identifier(&trio.live)
    ));
    Ok(())
}

pub(super) fn is_live(switch: &Switch, trio: &Trio, entries: &BTreeMap<String, Entry>) -> bool {
    let mark = entries.get(&trio.live).and_then(|live| live.mark.as_ref());
    mark.is_some_and(|mark| mark.is(&switch.run, State::Live))
}

/// Lets nobody but the owner and the connected role in, and by default to read only.
pub(super) fn restrict(script: &mut Script, database: &str, connect: &[i64], roles: &BTreeMap<i64, String>) {
    let database = identifier(database);
    for role in connect.iter().filter_map(|oid| roles.get(oid)) {
        script.step(format!("revoke connect on database {database} from {role}"));
    }
    script.step(format!("alter database {database} set default_transaction_read_only = on"));
}

/// Gives back what `restrict` took. A role that was dropped since is passed over.
pub(super) fn release(script: &mut Script, database: &str, opening: &Opening, roles: &BTreeMap<i64, String>) {
    let database = identifier(database);
    for role in opening.connect.iter().filter_map(|oid| roles.get(oid)) {
        script.step(format!("grant connect on database {database} to {role}"));
    }
    script.step(match &opening.read_only {
        Some(value) => {
            format!("alter database {database} set default_transaction_read_only = {}", literal(value))
        }
        None => format!("alter database {database} reset default_transaction_read_only"),
    });
}

pub(super) fn rename(from: &str, to: &str) -> String {
    format!("alter database {} rename to {}", identifier(from), identifier(to))
}

pub(super) fn comment(database: &str, words: Option<&str>, mark: Option<&Mark>) -> String {
    let text = with_mark(words, mark).map_or_else(|| "null".to_owned(), |text| literal(&text));
    format!("comment on database {} is {text}", identifier(database))
}

/// The roles a switch of this database may name.
pub(super) fn granted(entry: &Entry) -> Vec<i64> {
    let marks = std::iter::successors(entry.mark.as_ref(), |mark| mark.earlier.as_deref());
    entry.connect.iter().copied().chain(marks.flat_map(|mark| mark.opening.connect.iter().copied())).collect()
}

fn refused(reasons: impl Into<Vec<String>>) -> Error {
    Error::Refused { action: "switch the databases", reasons: reasons.into() }
}
