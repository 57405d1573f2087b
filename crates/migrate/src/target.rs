use std::fmt;

use backstay_postgres::Settings;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::{Query, QueryAs, QueryScalar};
use sqlx::{AssertSqlSafe, FromRow, Postgres, SqlSafeStr};

use crate::Error;

/// The database that migrations go to, or are rehearsed in. A session is as the application's own
/// would be: the role's and the database's settings hold, because what a migration does depends on
/// them.
#[derive(Clone)]
pub struct Target {
    settings: Settings,
}

impl Target {
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// `database shop on db.example:5432`: for messages.
    pub fn describe(&self) -> String {
        format!("database {} on {}", self.settings.database(), self.settings.server())
    }

    pub(crate) async fn connect(&self, purpose: &str) -> Result<PgConnection, Error> {
        backstay_postgres::connect_plainly(&self.settings, purpose)
            .await
            .map_err(|source| Error::Connect { target: self.describe(), source: Box::new(source) })
    }

    /// A connection within one read-only transaction, by the server's own rule.
    pub(crate) async fn connect_to_read(&self) -> Result<PgConnection, Error> {
        let mut connection = self.connect("migrate plan").await?;
        // The search path stays: names are to be found as the application finds them.
        self.say(&mut connection, "set default_transaction_read_only = on").await?;
        self.say(&mut connection, "begin isolation level repeatable read read only").await?;
        Ok(connection)
    }

    /// Runs SQL of our own.
    pub(crate) async fn say(&self, connection: &mut PgConnection, sql: &str) -> Result<(), Error> {
        execute(connection, sql).await.map_err(self.failed("prepare the session"))
    }

    pub(crate) fn failed(&self, action: &'static str) -> impl Fn(sqlx::Error) -> Error + use<> {
        let target = self.describe();
        move |source| Error::Query { action, target: target.clone(), source: source.into() }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.describe())
    }
}

/// Sends SQL as it stands, by the simple protocol, and lets go of whatever rows come back.
pub(crate) async fn execute(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.map(|_| ())
}

// Queries of our own leave no prepared statement behind: a file may say DISCARD or DEALLOCATE.

pub(crate) fn query(sql: impl SqlSafeStr) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

pub(crate) fn query_as<T>(sql: impl SqlSafeStr) -> QueryAs<'static, Postgres, T, PgArguments>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_as(sql).persistent(false)
}

pub(crate) fn query_scalar<T>(sql: impl SqlSafeStr) -> QueryScalar<'static, Postgres, T, PgArguments>
where
    (T,): for<'r> FromRow<'r, PgRow>,
{
    sqlx::query_scalar(sql).persistent(false)
}
