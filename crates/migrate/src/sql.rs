//! SQL as text: cutting a file into statements and telling what kind of statement each is. Nothing
//! here talks to a server, which stays the judge of what is valid.

mod effects;
mod kind;
mod lexer;
mod split;

pub(crate) use effects::{Effects, effects};
pub(crate) use kind::{BlockRule, IndexName, Phrase, block_rule, control, external_effect, index_built};
pub(crate) use split::{Statement, split};
