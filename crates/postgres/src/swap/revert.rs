use std::collections::BTreeMap;

use backstay_part::Standing;

use super::activate::{comment, granted, release, rename, restrict};
use super::catalog::{Entry, look_up, role_names};
use super::mark::{Mark, State};
use super::rights::session_refusals;
use super::script::Script;
use super::standing::standing;
use super::{Switch, Trio};
use crate::{Error, Session, identifier};

/// Puts back what was live before `switch`, from wherever its activation ended or died.
pub(crate) async fn revert(session: &mut Session, switch: &Switch) -> Result<(), Error> {
    let entries = look_up(session, &switch.names()).await?;
    let oids: Vec<_> = entries.values().flat_map(granted).collect();
    let roles = role_names(session, &oids).await?;
    let mut script = Script::default();
    match standing(session, switch).await? {
        Standing::Settled => return Err(refused(["what it replaced was let go".to_owned()])),
        Standing::Unclear(why) => return Err(refused([why])),
        Standing::NotSwitched => return Ok(()),
        Standing::Switched | Standing::Half(_) => {}
    }
    let reasons = session_refusals(session, &switch.names()).await?;
    if !reasons.is_empty() {
        return Err(refused(reasons));
    }
    for trio in &switch.databases {
        match entries.get(&trio.live).and_then(|live| Some((live, live.mark.as_ref()?))) {
            Some((live, mark)) if mark.is(&switch.run, State::Live) => {
                write_back(&mut script, trio, live, mark, &entries, &roles);
            }
            // It was closed and not renamed.
            _ => reopen(&mut script, trio, &entries),
        }
    }
    script.run(session, "switch the databases back").await?;
    match standing(session, switch).await? {
        Standing::NotSwitched => Ok(()),
        other => Err(Error::NotAsLeft { action: "switch the databases back", found: format!("{other:?}") }),
    }
}

fn write_back(
    script: &mut Script,
    trio: &Trio,
    live: &Entry,
    mark: &Mark,
    entries: &BTreeMap<String, Entry>,
    roles: &BTreeMap<i64, String>,
) {
    let kept = entries.get(&trio.kept);
    script.close(&trio.live, live.oid, true);
    script.step(rename(&trio.live, &trio.staged));
    let mut earlier = mark.earlier.as_deref().cloned().unwrap_or_else(|| Mark::new(&mark.run, State::Staged, &mark.of));
    earlier.was_live = true;
    earlier.opening.limit = live.limit;
    let open = earlier.state == State::Kept;
    if open {
        earlier.opening.connect.clone_from(&live.connect);
        earlier.opening.read_only.clone_from(&live.read_only);
        restrict(script, &trio.staged, &live.connect, roles);
    }
    script.step(comment(&trio.staged, live.words.as_deref(), Some(&earlier)));
    script.step(format!("alter database {} allow_connections {open}", identifier(&trio.staged)));
    let Some(kept) = kept else { return };
    script.close(&trio.kept, kept.oid, true);
    script.step(rename(&trio.kept, &trio.live));
    let kept_mark = kept.mark.as_ref();
    if let Some(kept_mark) = kept_mark {
        release(script, &trio.live, &kept_mark.opening, roles);
    }
    let before = kept_mark.and_then(|mark| mark.earlier.as_deref());
    script.step(comment(&trio.live, kept.words.as_deref(), before));
    script.step(format!("alter database {} allow_connections true", identifier(&trio.live)));
}

fn reopen(script: &mut Script, trio: &Trio, entries: &BTreeMap<String, Entry>) {
    if entries.get(&trio.live).is_some_and(|live| !live.open) {
        script.step(format!("alter database {} allow_connections true", identifier(&trio.live)));
    }
    let kept = |entry: &&Entry| entry.mark.as_ref().is_some_and(|mark| mark.state == State::Kept);
    if entries.get(&trio.staged).filter(kept).is_some_and(|staged| !staged.open) {
        script.step(format!("alter database {} allow_connections true", identifier(&trio.staged)));
    }
}

fn refused(reasons: impl Into<Vec<String>>) -> Error {
    Error::Refused { action: "switch the databases back", reasons: reasons.into() }
}
