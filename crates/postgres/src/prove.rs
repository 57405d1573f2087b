use backstay_part::{Proof, Recorded, Token};
use backstay_run::Context;

use crate::{Error, ServerPart};

pub(crate) async fn prove(
    _part: &ServerPart,
    _context: &Context,
    _recorded: &Recorded,
    _staged: &Token,
) -> Result<Proof, Error> {
    todo!()
}
