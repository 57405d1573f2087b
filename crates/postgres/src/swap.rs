use backstay_part::{Standing, Token};
use backstay_run::Context;

use crate::{Error, ServerPart};

pub(crate) async fn activate(_part: &ServerPart, _context: &Context, _staged: &Token) -> Result<Token, Error> {
    todo!()
}

pub(crate) async fn revert(_part: &ServerPart, _context: &Context, _staged: &Token) -> Result<(), Error> {
    todo!()
}

pub(crate) async fn standing(_part: &ServerPart, _context: &Context, _staged: &Token) -> Result<Standing, Error> {
    todo!()
}
