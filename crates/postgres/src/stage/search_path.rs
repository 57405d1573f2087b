//! Functions that name things without a schema. Everything is restored with an empty search path, so that
//! nothing is found by accident; a check, a generated column or a view may call a function that finds what
//! it needs only by the path that sessions of this database have.

use super::finish::value;
use crate::{DatabaseFacts, Error, literal};

/// Undefined table, function or operator, type, schema.
const NOT_FOUND: [&str; 4] = ["42P01", "42883", "42704", "3F000"];

/// Whether a search path could help.
pub(super) fn finds_nothing(error: &Error) -> bool {
    error.sqlstate().is_some_and(|state| NOT_FOUND.contains(&state.as_str()))
}

/// The path that the database gives to everybody, and the schema of what is to be filled.
pub(super) fn of(facts: &DatabaseFacts, schema: &str) -> String {
    let set = facts.settings.iter().find(|setting| setting.role.is_none() && setting.name == "search_path");
    let path = set.map_or_else(|| "'$user', 'public'".to_owned(), value);
    format!("{path}, {}", literal(schema))
}

pub(super) fn warning(title: &str, error: &Error) -> String {
    let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("{title} is filled with a search path, because one of its functions needs it: {why}")
}
