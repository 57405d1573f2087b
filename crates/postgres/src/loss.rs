use backstay_model::Loss;
use backstay_part::Token;
use backstay_run::Context;

use crate::{Error, ServerPart};

pub(crate) async fn loss(_part: &ServerPart, _context: &Context, _activated: &Token) -> Result<Option<Loss>, Error> {
    todo!()
}
