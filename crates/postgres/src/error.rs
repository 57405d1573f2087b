use std::fmt;
use std::path::PathBuf;

use backstay_part::ErrorKind;
use sqlx::postgres::PgDatabaseError;
use thiserror::Error;

/// Serialization failure, deadlock, the database is dropped.
const RECOVERY_CONFLICTS: [&str; 3] = ["40001", "40P01", "57P04"];

const FUNCTIONS_SAID: usize = 3;

/// Why something about a server or its databases did not work.
#[derive(Debug, Error)]
pub enum Error {
    #[error("the connection's {subject} {why}")]
    Settings { subject: &'static str, why: String },
    #[error("cannot read {}", path.display())]
    ReadFile {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write {}", path.display())]
    WriteFile {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot connect to {database} on {server}")]
    Connect {
        database: String,
        server: String,
        #[source]
        source: Cause,
    },
    #[error("{server} does not answer within {seconds} s")]
    ConnectTimeout { server: String, seconds: u64 },
    #[error(
        "{server} is a connection pooler that hands out its server sessions by transaction; \
         locks and snapshots need a session of their own, so give the address of the server behind it"
    )]
    Pooler { server: String },
    #[error("cannot {action} in {database}")]
    Query {
        action: String,
        database: String,
        #[source]
        source: Cause,
    },
    #[error("no {program} of version {major} or newer is here; it comes with the package {package}")]
    NoTool { program: &'static str, major: u32, package: String },
    #[error("cannot run {program}")]
    RunTool {
        program: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("{program} failed for {database}: {said}")]
    ToolFailed { program: &'static str, database: String, said: String },
    #[error("cannot read the rows of {} in {database}", tables.join(", "))]
    Unreadable { database: String, tables: Vec<String> },
    #[error("cannot lock the tables of {database} for reading within {seconds} s: {blocker}")]
    Locked { database: String, seconds: u64, blocker: String },
    #[error(
        "the standby ended the reading of {database}, for it stood in the way of what the primary sent; \
         a longer max_standby_streaming_delay, or hot_standby_feedback, lets it finish"
    )]
    RecoveryConflict {
        database: String,
        #[source]
        source: Box<Error>,
    },
    #[error("the tables of {database} do not stand still: {what}")]
    Moving { database: String, what: String },
    #[error("the server has not locks enough to hold the {tables} tables of {database} still")]
    TooFewLocks { database: String, tables: usize },
    #[error("a name in {database} is not UTF-8, which its encoding SQL_ASCII lets happen")]
    NotUtf8 {
        database: String,
        #[source]
        source: Box<Error>,
    },
    #[error("cannot copy the rows of {table} in {database}")]
    CopyRows {
        table: String,
        database: String,
        #[source]
        source: Cause,
    },
    #[error("cannot write {subject} to the repository")]
    Store {
        subject: String,
        #[source]
        source: backstay_repository::Error,
    },
    #[error("cannot read {subject} from the repository")]
    Fetch {
        subject: String,
        #[source]
        source: backstay_repository::Error,
    },
    #[error("cannot make a temporary file")]
    Spool {
        #[source]
        source: std::io::Error,
    },
    #[error("{subject} cannot be read as what it should be: {why}")]
    Malformed { subject: String, why: String },
    #[error("the facts of the databases cannot be written or read as JSON")]
    Facts {
        #[source]
        source: serde_json::Error,
    },
    #[error("will not {action}: {}", reasons.join("; "))]
    Refused { action: &'static str, reasons: Vec<String> },
    #[error("cannot {action}: afterwards it stands as {found}")]
    NotAsLeft { action: &'static str, found: String },
    #[error("stopped on request")]
    Interrupted,
}

impl Error {
    /// What this means for the run.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Settings { .. }
            | Self::ReadFile { .. }
            | Self::Connect { .. }
            | Self::ConnectTimeout { .. }
            | Self::Pooler { .. }
            | Self::NoTool { .. } => ErrorKind::Environment,
            Self::Fetch { .. } => ErrorKind::Damaged,
            Self::Refused { .. } => ErrorKind::Refused,
            Self::Interrupted => ErrorKind::Interrupted,
            _ => ErrorKind::Failed,
        }
    }

    pub(crate) fn query(action: impl Into<String>, database: &str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Query { action: action.into(), database: database.to_owned(), source: source.into() }
    }

    pub(crate) fn copying<C: Into<Cause>>(table: &str, database: &str) -> impl Fn(C) -> Self + Send + Sync + use<C> {
        let (table, database) = (table.to_owned(), database.to_owned());
        move |source| Self::CopyRows { table: table.clone(), database: database.clone(), source: source.into() }
    }

    /// What this means where it came from a standby. A session that only reads can fail there so for one
    /// reason alone.
    pub(crate) fn on_standby(self, database: &str) -> Self {
        let ended = match &self {
            Self::ToolFailed { said, .. } => said.contains("conflict with recovery"),
            _ => self.sqlstate().is_some_and(|state| RECOVERY_CONFLICTS.contains(&state.as_str())),
        };
        match ended {
            true => Self::RecoveryConflict { database: database.to_owned(), source: Box::new(self) },
            false => self,
        }
    }

    /// The SQLSTATE where the server refused.
    pub(crate) fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Query { source, .. } | Self::CopyRows { source, .. } | Self::Connect { source, .. } => {
                source.sqlstate()
            }
            _ => None,
        }
    }
}

/// Why a statement failed: the server's own words where it was the server, and which functions it was in.
/// Its details stay out, for they may repeat rows.
#[derive(Debug)]
pub enum Cause {
    Said { message: String, code: String, context: String },
    Other(Box<sqlx::Error>),
}

impl From<sqlx::Error> for Cause {
    fn from(error: sqlx::Error) -> Self {
        let said = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
        match said {
            Some(said) => Self::Said {
                message: said.message().to_owned(),
                code: said.code().to_owned(),
                context: said.r#where().unwrap_or_default().to_owned(),
            },
            None => Self::Other(Box::new(error)),
        }
    }
}

impl From<std::io::Error> for Cause {
    fn from(error: std::io::Error) -> Self {
        sqlx::Error::Io(error).into()
    }
}

impl Cause {
    pub(crate) fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Said { code, .. } => Some(code.clone()),
            Self::Other(_) => None,
        }
    }
}

impl std::error::Error for Cause {}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (message, code, context) = match self {
            Self::Said { message, code, context } => (message, code, context),
            Self::Other(error) => return fmt::Display::fmt(error, f),
        };
        write!(f, "{message} ({code})")?;
        let functions = context.lines().filter(|line| is_a_function(line));
        functions.take(FUNCTIONS_SAID).try_for_each(|line| write!(f, ", in {line}"))
    }
}

/// Whether a line of an error's context is of the form `PL/pgSQL function checked(integer) line 1 at RETURN`.
fn is_a_function(line: &str) -> bool {
    let mut words = line.split(' ').skip(1);
    (line.starts_with("SQL ") || line.starts_with("PL/")) && words.next() == Some("function")
}

pub(crate) fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}
