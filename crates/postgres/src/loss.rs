use backstay_model::Loss;
use backstay_part::Token;
use backstay_run::Context;

use crate::{Error, ServerPart};

/// Says that it does not know: rows of the two sides are not compared yet.
pub(crate) async fn loss(_part: &ServerPart, context: &Context, _activated: &Token) -> Result<Option<Loss>, Error> {
    context.warn("what only the kept databases hold was not counted; they are kept until they are settled");
    Ok(None)
}
