//! SQL as text: cutting a file into statements and telling what kind of statement each is. Nothing
//! here talks to a server, which stays the judge of what is valid.

mod alter;
mod effects;
mod forecast;
mod kind;
mod lexer;
mod split;

pub(crate) use effects::{Effects, dollar_quoted, effects};
pub use forecast::Expected;
pub(crate) use forecast::{Forecast, forecast};
pub(crate) use kind::{BlockRule, Phrase, RelationName, block_rule, control, external_effect, index_built};
pub(crate) use split::{Statement, split};
