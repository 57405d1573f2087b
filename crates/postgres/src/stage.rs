use backstay_model::{PartPlan, RunId};
use backstay_part::{Recorded, Token};
use backstay_run::Context;

use crate::{Error, ServerPart};

pub(crate) async fn plan(_part: &ServerPart, _context: &Context, _recorded: &Recorded) -> Result<PartPlan, Error> {
    todo!()
}

pub(crate) async fn stage(_part: &ServerPart, _context: &Context, _recorded: &Recorded) -> Result<Token, Error> {
    todo!()
}

pub(crate) async fn stage_kept(_part: &ServerPart, _context: &Context, _activated: &Token) -> Result<Token, Error> {
    todo!()
}

pub(crate) async fn abandon(
    _part: &ServerPart,
    _context: &Context,
    _run: &RunId,
    _staged: Option<&Token>,
) -> Result<(), Error> {
    todo!()
}
