use std::collections::BTreeMap;

use backstay_part::Standing;

use super::catalog::{Entry, look_up};
use super::mark::State;
use super::{Switch, Trio};
use crate::{Error, Session};

/// Where `switch` stands, by the databases' names and marks alone.
pub(crate) async fn standing(session: &mut Session, switch: &Switch) -> Result<Standing, Error> {
    let entries = look_up(session, &switch.names()).await?;
    let all: Vec<_> = switch.databases.iter().map(|trio| of_one(switch, trio, &entries)).collect();
    Ok(together(&all))
}

fn of_one(switch: &Switch, trio: &Trio, entries: &BTreeMap<String, Entry>) -> Standing {
    let get = |name: &str| entries.get(name);
    let (live, staged, kept) = (get(&trio.live), get(&trio.staged), get(&trio.kept));
    let mark = live.and_then(|live| live.mark.as_ref());
    let closed = |entry: Option<&Entry>| entry.is_some_and(|entry| !entry.open);
    if mark.is_some_and(|mark| mark.is(&switch.run, State::Settled)) {
        return Standing::Settled;
    }
    let kept_state = kept.and_then(|kept| kept.mark.as_ref()).filter(|mark| mark.run == switch.run);
    if let Some(mark) = mark.filter(|mark| mark.is(&switch.run, State::Live)) {
        return match (&mark.replaced, kept_state.map(|mark| mark.state)) {
            (None, _) | (Some(_), Some(State::Kept)) if closed(live) || closed(kept) => {
                Standing::Half(format!("{} is switched, and closed to connections", trio.live))
            }
            (None, _) | (Some(_), Some(State::Kept)) => Standing::Switched,
            (Some(_), None) if kept.is_none() => Standing::Settled,
            (Some(_), _) => Standing::Unclear(format!("{} is not what the run left there", trio.kept)),
        };
    }
    if kept.is_some() {
        return Standing::Unclear(match mark {
            Some(mark) => format!("{} was made live by run {}", trio.live, mark.run),
            None => format!("{} is not what the run made live, though {} is kept", trio.live, trio.kept),
        });
    }
    let staged_half = staged.is_some_and(|staged| {
        let state = staged.mark.as_ref().map(|mark| mark.state);
        state == Some(State::Kept) && !staged.open
    });
    match (live, staged) {
        (Some(live), _) if !live.open || staged_half => {
            Standing::Half(format!("{} is not switched, and closed to connections", trio.live))
        }
        (Some(_), _) | (None, Some(_)) => Standing::NotSwitched,
        (None, None) => Standing::Unclear(format!("there is no database {}", trio.live)),
    }
}

/// One transaction switches them all, so they stand alike; what does not is not of its making.
fn together(all: &[Standing]) -> Standing {
    let unclear = all.iter().find(|standing| matches!(standing, Standing::Unclear(_)));
    if let Some(unclear) = unclear {
        return unclear.clone();
    }
    let switched = |standing: &&Standing| matches!(standing, Standing::Switched | Standing::Settled);
    let half = all.iter().find(|standing| matches!(standing, Standing::Half(_)));
    let unlike =
        all.iter().any(|standing| matches!(standing, Standing::NotSwitched)) && all.iter().any(|s| switched(&s));
    if unlike {
        return Standing::Unclear("some of the databases are switched and some are not".to_owned());
    }
    if let Some(half) = half {
        return half.clone();
    }
    let settled = all.iter().filter(|standing| **standing == Standing::Settled).count();
    match all.first() {
        Some(_) if settled > 0 && settled < all.len() => {
            Standing::Unclear("some of the kept databases are gone and some are not".to_owned())
        }
        Some(first) => first.clone(),
        None => Standing::NotSwitched,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_that_stand_unlike_are_nobodys_guess() {
        use Standing::{Half, NotSwitched, Settled, Switched};
        let half = || Half("x".to_owned());
        assert_eq!(together(&[Switched, Switched]), Switched);
        assert_eq!(together(&[NotSwitched, half()]), half());
        assert_eq!(together(&[Switched, half()]), half());
        assert!(matches!(together(&[Switched, NotSwitched]), Standing::Unclear(_)));
        assert!(matches!(together(&[Switched, Settled]), Standing::Unclear(_)));
        assert_eq!(together(&[]), NotSwitched);
    }
}
