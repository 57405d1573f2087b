use backstay_part::{Captured, Token};
use backstay_repository::SnapshotWriter;
use backstay_run::Context;

use crate::{Error, ServerPart};

pub(crate) async fn capture_kept(
    _part: &ServerPart,
    _context: &Context,
    _activated: &Token,
    _writer: &SnapshotWriter,
) -> Result<Option<Captured>, Error> {
    todo!()
}

pub(crate) async fn settle(_part: &ServerPart, _context: &Context, _activated: &Token) -> Result<(), Error> {
    todo!()
}
