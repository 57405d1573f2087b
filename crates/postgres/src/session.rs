use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use crate::error::sqlstate;
use crate::wire::Wire;
use crate::{Error, Settings, literal};

/// What pg_dump pins so that text means the same everywhere, and more: no limit of a role or database
/// may end a long read, and nothing of the search path may be found by accident.
const PINS: &str = "
    set row_security = off;
    set extra_float_digits = 1;
    set datestyle = 'ISO, YMD';
    set intervalstyle = 'postgres';
    set timezone = 'UTC';
    set bytea_output = 'hex';
    set lc_monetary = 'C';
    set lc_numeric = 'C';
    set client_encoding = 'UTF8';
    set search_path = '';
    set synchronize_seqscans = off;
    set quote_all_identifiers = off;
    set standard_conforming_strings = on;
    set xmloption = content;
    set statement_timeout = 0;
    set lock_timeout = 0;
    set idle_in_transaction_session_timeout = 0;
    select set_config(name, '0', false) from pg_catalog.pg_settings
        where name in ('idle_session_timeout', 'transaction_timeout');
    set default_transaction_read_only = off;
    set default_transaction_isolation = 'read committed';
    set default_transaction_deferrable = off;
    set synchronous_commit = on;
    set jit = off";

/// Only superusers may set it, and only theirs could differ.
const ORIGIN: &str = "set session_replication_role = origin";

/// What of them the startup packet sets already: it comes before what a database or role sets, which could
/// end the session between two statements.
pub(crate) const UNLIMITED: [(&str, &str); 4] = [
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
];

/// Set by the startup packet; a pooler that shares sessions drops or refuses it.
const MARK: &str = "backstay.session";
const PROTOCOL_VIOLATION: &str = "08P01";

/// Bytes that are no text in the client's encoding.
const NOT_IN_ENCODING: &str = "22021";

static SESSIONS: AtomicU64 = AtomicU64::new(1);

/// A connection with pinned settings, and the name of its database for messages.
#[derive(Debug)]
pub struct Session {
    pub connection: PgConnection,
    pub database: String,
    /// The server's process.
    pub pid: i32,
    /// As `server_version_num`.
    pub version: u32,
    pub encoding: String,
    pub superuser: bool,
    pub standby: bool,
    /// What rows are read from without sqlx, once that was looked for and where there is one.
    pub(crate) wire: Option<Option<Wire>>,
}

/// Connects, makes sure that it is a session of its own, and pins its settings. `purpose` ends up in
/// `application_name`.
pub async fn connect(settings: &Settings, purpose: &str) -> Result<Session, Error> {
    let mark = format!("{}-{}", std::process::id(), SESSIONS.fetch_add(1, Ordering::Relaxed));
    let options = settings.options()?.options(UNLIMITED).options([(MARK, mark.as_str())]);
    let connection = establish(settings, options, purpose).await?;
    let database = settings.database().to_owned();
    let mut session = Session {
        connection,
        database,
        pid: 0,
        version: 0,
        encoding: String::new(),
        superuser: false,
        standby: false,
        wire: None,
    };
    session.pin().await?;
    let (pid, version, encoding, superuser, standby, seen): (i32, i32, String, bool, bool, Option<String>) =
        sqlx::query_as(
            "select pg_catalog.pg_backend_pid(), pg_catalog.current_setting('server_version_num')::int4,
                    pg_catalog.current_setting('server_encoding'), pg_catalog.current_setting('is_superuser') = 'on',
                    pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('backstay.session', true)",
        )
        .persistent(false)
        .fetch_one(&mut session.connection)
        .await
        .map_err(Error::query("look at the session", &session.database))?;
    session.pid = pid;
    session.version = u32::try_from(version).unwrap_or_default();
    session.encoding = encoding;
    session.superuser = superuser;
    session.standby = standby;
    if seen.as_deref() != Some(mark.as_str()) {
        refuse_shared_sessions(settings, &mut session).await?;
    }
    Ok(session)
}

/// Connects without pinning anything: the session an application would get, for probes and trial logins.
pub async fn connect_plainly(settings: &Settings, purpose: &str) -> Result<PgConnection, Error> {
    establish(settings, settings.options()?, purpose).await
}

async fn establish(settings: &Settings, options: PgConnectOptions, purpose: &str) -> Result<PgConnection, Error> {
    let name = format!("backstay {purpose}");
    let options = options.application_name(&name).extra_float_digits(None).disable_statement_logging();
    let limit = settings.connect_timeout();
    match tokio::time::timeout(limit, PgConnection::connect_with(&options)).await {
        Ok(Ok(connection)) => {
            crate::no_delay::for_all_connections();
            Ok(connection)
        }
        Ok(Err(source)) if is_refused_startup(&source) => Err(Error::Pooler { server: settings.server() }),
        Ok(Err(source)) => {
            let database = settings.database().to_owned();
            Err(Error::Connect { database, server: settings.server(), source: source.into() })
        }
        Err(_) => Err(Error::ConnectTimeout { server: settings.server(), seconds: limit.as_secs() }),
    }
}

/// PgBouncer knows few parameters of the startup packet and refuses the rest by this text.
fn is_refused_startup(error: &sqlx::Error) -> bool {
    sqlstate(error).as_deref() == Some(PROTOCOL_VIOLATION)
        && error.as_database_error().is_some_and(|error| error.message().contains("startup parameter"))
}

/// The startup packet did not arrive as sent, so something stands between. Whether it shares sessions
/// shows when a second connection, while the first is idle, is given the first one's server process.
async fn refuse_shared_sessions(settings: &Settings, first: &mut Session) -> Result<(), Error> {
    let pid = "select pg_catalog.pg_backend_pid()";
    let mut other = establish(settings, settings.options()?, "second look").await?;
    for _ in 0..3 {
        let mut seen = Vec::new();
        for connection in [&mut first.connection, &mut other] {
            let read = sqlx::query_scalar::<_, i32>(pid).persistent(false).fetch_one(connection).await;
            seen.push(read.map_err(Error::query("look at the session", &first.database))?);
        }
        if seen.first() != Some(&first.pid) || seen.first() == seen.get(1) {
            return Err(Error::Pooler { server: settings.server() });
        }
    }
    // Without a result: it was only looked at.
    let _ = other.close().await;
    Ok(())
}

impl Session {
    /// The major version of the server: 15.
    pub fn major(&self) -> u32 {
        self.version / 10_000
    }

    async fn pin(&mut self) -> Result<(), Error> {
        let what = "pin the session's settings";
        self.execute(what, PINS).await?;
        match self.execute(what, ORIGIN).await {
            Err(error) if error.sqlstate().as_deref() != Some("42501") => return Err(error),
            _ => {}
        }
        Ok(())
    }

    /// Runs statements without results. The text goes over as it is: everything in it must be quoted.
    pub async fn execute(&mut self, action: &str, sql: &str) -> Result<(), Error> {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut self.connection)
            .await
            .map(drop)
            .map_err(Error::query(action, &self.database))
    }

    /// Reads rows as tuples. The text goes over as it is: everything in it must be quoted.
    pub async fn rows<T>(&mut self, action: &str, sql: &str) -> Result<Vec<T>, Error>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        sqlx::query_as::<_, T>(AssertSqlSafe(sql.to_owned()))
            .persistent(false)
            .fetch_all(&mut self.connection)
            .await
            .map_err(|source| self.failed(action, source))
    }

    /// Reads the one row there is.
    pub async fn row<T>(&mut self, action: &str, sql: &str) -> Result<T, Error>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        sqlx::query_as::<_, T>(AssertSqlSafe(sql.to_owned()))
            .persistent(false)
            .fetch_one(&mut self.connection)
            .await
            .map_err(|source| self.failed(action, source))
    }

    fn failed(&self, action: &str, source: sqlx::Error) -> Error {
        let not_utf8 = self.encoding == "SQL_ASCII" && sqlstate(&source).as_deref() == Some(NOT_IN_ENCODING);
        let error = Error::query(action, &self.database)(source);
        match not_utf8 {
            true => Error::NotUtf8 { database: self.database.clone(), source: Box::new(error) },
            false => error,
        }
    }

    pub async fn set_lock_timeout(&mut self, limit: std::time::Duration) -> Result<(), Error> {
        let sql = format!("set local lock_timeout = {}", literal(&format!("{}ms", limit.as_millis())));
        self.execute("limit the wait for locks", &sql).await
    }

    /// Ends the session; a connection that is broken already counts as ended.
    pub async fn close(self) {
        let _ = self.connection.close().await;
    }
}
