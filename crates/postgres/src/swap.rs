//! Switching databases by renaming them, and back.
//!
//! What stands where is written on the databases themselves, as a mark in their comments, so that a
//! host that never saw the run can tell how far it came and end it.

mod activate;
mod catalog;
mod leftovers;
mod mark;
mod names;
mod outside;
mod revert;
mod rights;
mod script;
mod settle;
mod standbys;
mod standing;
mod warm;
mod writes;

use backstay_model::RunId;
use backstay_part::{Standing, Token};
use backstay_run::Context;
use serde::{Deserialize, Serialize};

pub(crate) use catalog::{Entry, look_up};
pub use leftovers::Leftover;
pub(crate) use leftovers::leftovers;
pub(crate) use mark::{Mark, State, with_mark, words_of};
pub(crate) use names::{kept_name, staged_name};
pub(crate) use outside::{connect_alone, connect_in_name_of, connect_outside};
pub(crate) use rights::renaming_refusals;
pub(crate) use settle::{Written, abandon, drop_database, left_by, settle};
pub(crate) use standbys::standbys;
pub(crate) use warm::{bytes, cool, has_warm, keep_warm, still_proven, take_warm, warm};
pub(crate) use writes::counted;

use crate::{Error, ServerPart};

/// Which databases a run switches: what goes into the journal. The names say all; the rest is read
/// from the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Switch {
    pub run: RunId,
    pub databases: Vec<Trio>,
}

/// The three names of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trio {
    /// Its name in the configuration.
    pub label: String,
    /// The name that applications use.
    pub live: String,
    /// Where the copy waits that is to become live.
    pub staged: String,
    /// Where what was live is kept.
    pub kept: String,
}

impl Switch {
    pub(crate) fn read(token: &Token) -> Result<Self, Error> {
        token.read().map_err(|source| Error::Facts { source })
    }

    pub(crate) fn token(&self) -> Result<Token, Error> {
        Token::new(self).map_err(|source| Error::Facts { source })
    }

    /// The names that every database of this switch has had or will have.
    pub(crate) fn names(&self) -> Vec<String> {
        let three = |trio: &Trio| [trio.live.clone(), trio.staged.clone(), trio.kept.clone()];
        self.databases.iter().flat_map(three).collect()
    }
}

pub(crate) async fn activate(part: &ServerPart, context: &Context, staged: &Token) -> Result<Token, Error> {
    if part.options().scratch.is_some() {
        let reason = "what is staged on a scratch server is there to be proven alone".to_owned();
        return Err(Error::Refused { action: "switch the databases", reasons: vec![reason] });
    }
    let switch = Switch::read(staged)?;
    let mut session = connect_alone(part, &switch.names(), "switch", &switch.run).await?;
    activate::activate(&mut session, &switch).await?;
    standbys::recycle(part, context, &mut session, &switch).await;
    session.close().await;
    switch.token()
}

pub(crate) async fn revert(part: &ServerPart, context: &Context, staged: &Token) -> Result<(), Error> {
    let switch = Switch::read(staged)?;
    let mut session = connect_alone(part, &switch.names(), "switch back", &switch.run).await?;
    revert::revert(&mut session, &switch).await?;
    standbys::recycle(part, context, &mut session, &switch).await;
    session.close().await;
    Ok(())
}

pub(crate) async fn standing(part: &ServerPart, _context: &Context, staged: &Token) -> Result<Standing, Error> {
    let switch = Switch::read(staged)?;
    let mut session = connect_alone(part, &switch.names(), "look", &switch.run).await?;
    let standing = standing::standing(&mut session, &switch).await?;
    session.close().await;
    Ok(standing)
}

#[cfg(test)]
#[path = "swap_tests.rs"]
mod tests;
