use backstay_model::{PartPlan, RunId};
use backstay_part::{Recorded, Token};
use backstay_run::Context;

use crate::swap::{State, Switch, Trio, connect_outside, kept_name, look_up};
use crate::{Error, ServerPart, swap};

pub(crate) async fn plan(_part: &ServerPart, _context: &Context, _recorded: &Recorded) -> Result<PartPlan, Error> {
    todo!()
}

pub(crate) async fn stage(_part: &ServerPart, _context: &Context, _recorded: &Recorded) -> Result<Token, Error> {
    todo!()
}

/// What `activated` kept is to become live again: nothing is copied, only the names are new.
pub(crate) async fn stage_kept(part: &ServerPart, context: &Context, activated: &Token) -> Result<Token, Error> {
    let earlier = Switch::read(activated)?;
    let mut session = connect_outside(part, &earlier.names(), "stage").await?;
    let entries = look_up(&mut session, &earlier.names()).await?;
    session.close().await;
    let mut databases = Vec::new();
    let mut reasons = Vec::new();
    for trio in earlier.databases {
        let mark = entries.get(&trio.kept).and_then(|kept| kept.mark.as_ref());
        if !mark.is_some_and(|mark| mark.is(&earlier.run, State::Kept)) {
            reasons.push(format!("{} is not there any more as run {} left it", trio.kept, earlier.run));
        }
        let kept = kept_name(&trio.live, &context.run);
        databases.push(Trio { staged: trio.kept, kept, ..trio });
    }
    if !reasons.is_empty() {
        return Err(Error::Refused { action: "bring back what was kept", reasons });
    }
    Switch { run: context.run.clone(), databases }.token()
}

pub(crate) async fn abandon(
    part: &ServerPart,
    context: &Context,
    run: &RunId,
    _staged: Option<&Token>,
) -> Result<(), Error> {
    let live: Vec<_> = part.databases().iter().map(|database| database.settings.database().to_owned()).collect();
    let mut session = connect_outside(part, &live, "abandon").await?;
    for database in swap::abandon(&mut session, run).await? {
        context.warn(format!("{database} was live for a while and may hold rows written then; it is left there"));
    }
    session.close().await;
    Ok(())
}
