//! Proven copies kept for a later restore of the same capture.

use backstay_part::{Recorded, Token, WarmCopy};
use backstay_run::Context;

use super::{drop_half_built, live, switch_of};
use crate::swap::{self, Switch, connect_alone, connect_outside};
use crate::{Error, ServerFacts, ServerPart, prove};

/// Takes up the warm copies of what was recorded, and makes sure that they are what was proven: what was
/// found open, or written to, is compared again, and dropped where it is no longer equal.
pub(crate) async fn take(part: &ServerPart, context: &Context, recorded: &Recorded) -> Result<Option<Token>, Error> {
    if part.options().scratch.is_some() {
        return Ok(None);
    }
    let facts: ServerFacts = recorded.facts().map_err(|source| Error::Facts { source })?;
    let switch = switch_of(part, context, &facts)?;
    let mut outside = connect_alone(part, &switch.names(), "stage", &switch.run).await?;
    let taken = swap::take_warm(&mut outside, &switch, &recorded.facts_digest()).await?;
    outside.close().await;
    if !taken {
        return Ok(None);
    }
    let token = switch.token()?;
    let proof = prove::prove(part, context, recorded, &token).await?;
    if proof.holds() {
        return Ok(Some(token));
    }
    context.warn(format!(
        "the warm copy was changed since it was proven ({}): it is built anew",
        proof.findings.join("; ")
    ));
    drop_half_built(part, context, &switch).await?;
    Ok(None)
}

/// Whether a restore would find warm copies.
pub(super) async fn is_there(
    part: &ServerPart,
    context: &Context,
    recorded: &Recorded,
    facts: &ServerFacts,
    outside: &mut crate::Session,
) -> Result<bool, Error> {
    match switch_of(part, context, facts) {
        Ok(switch) => swap::has_warm(outside, &switch, &recorded.facts_digest()).await,
        Err(_) => Ok(false),
    }
}

/// Keeps what was staged and proven; what was kept of earlier captures goes.
pub(crate) async fn keep(
    part: &ServerPart,
    context: &Context,
    recorded: &Recorded,
    staged: &Token,
) -> Result<(), Error> {
    if part.options().scratch.is_some() {
        let reason = "what is staged on a scratch server cannot be made live".to_owned();
        return Err(Error::Refused { action: "keep the proven copy", reasons: vec![reason] });
    }
    let switch = Switch::read(staged)?;
    let facts = recorded.facts_digest();
    let mut session = connect_alone(part, &switch.names(), "keep", &switch.run).await?;
    swap::keep_warm(&mut session, &switch, &facts).await?;
    let of: Vec<_> = switch.databases.iter().map(|trio| trio.live.clone()).collect();
    if let Err(error) = swap::cool(&mut session, &of, &[facts]).await {
        context.warn(format!("an earlier warm copy stays: {error}"));
    }
    session.close().await;
    Ok(())
}

pub(crate) async fn list(part: &ServerPart) -> Result<Vec<WarmCopy>, Error> {
    let of = live(part);
    let mut session = connect_outside(part, &of, "look").await?;
    let mut copies = Vec::new();
    for entry in swap::warm(&mut session).await?.into_values() {
        let Some((mark, warm)) = entry.mark.as_ref().and_then(|mark| Some((mark, mark.warm.as_ref()?))) else {
            continue;
        };
        if of.contains(&mark.of) {
            let bytes = swap::bytes(&mut session, &entry.name).await;
            let (of, facts) = (mark.of.clone(), warm.facts.clone());
            copies.push(WarmCopy { name: entry.name, of, bytes, facts, open: entry.open });
        }
    }
    session.close().await;
    Ok(copies)
}

pub(crate) async fn cool(part: &ServerPart, kept: &[String]) -> Result<Vec<String>, Error> {
    let of = live(part);
    let mut session = connect_outside(part, &of, "cool").await?;
    let dropped = swap::cool(&mut session, &of, kept).await?;
    session.close().await;
    Ok(dropped)
}

#[cfg(test)]
#[path = "../warm_tests.rs"]
mod tests;
