//! What a failed statement means: PostgreSQL says it in five characters.

use std::fmt;

use sqlx::postgres::PgDatabaseError;

/// Why a statement failed, in the server's own words where it was the server.
#[derive(Debug)]
pub struct Cause(Box<sqlx::Error>);

impl From<sqlx::Error> for Cause {
    fn from(error: sqlx::Error) -> Self {
        Self(Box::new(error))
    }
}

impl Cause {
    /// The server's five characters.
    pub fn code(&self) -> Option<String> {
        code(&self.0)
    }
}

impl std::error::Error for Cause {}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = self.0.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
        let Some(said) = said else { return fmt::Display::fmt(&self.0, f) };
        write!(f, "{} ({})", said.message(), said.code())?;
        if let Some(detail) = said.detail() {
            write!(f, ". {detail}")?;
        }
        if let Some(hint) = said.hint() {
            write!(f, ". {hint}")?;
        }
        Ok(())
    }
}

/// Whether trying again later may help.
pub(crate) fn is_contention(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("55P03" | "40P01" | "40001"))
}

pub(crate) fn is_cancelled(error: &sqlx::Error) -> bool {
    code(error).as_deref() == Some("57014")
}

/// Whether a COMMIT before the file would have let it pass: a new enumerated value used, trigger
/// events pending, SET TRANSACTION too late, more locks than one transaction may hold.
pub(crate) fn needs_earlier_commit(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("55P04" | "55006" | "25001" | "53200"))
}

/// Whether the statement can only run outside of a block: it says so, or it commits by itself.
pub(crate) fn wants_no_block(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("25001" | "2D000"))
}

/// Whether the session is gone, whoever ended it.
pub(crate) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => true,
        _ => code(error).is_some_and(|code| {
            code.starts_with("08") || matches!(code.as_str(), "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25P04")
        }),
    }
}

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned))
}
