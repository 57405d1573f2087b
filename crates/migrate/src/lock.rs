use std::time::Duration;

use backstay_model::Event;
use backstay_run::Context;
use flate2::Crc;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use crate::{Error, Target};

const POLL: Duration = Duration::from_millis(100);
/// `backstay` in bytes: every runner of ours in one database asks for this.
const OWN_KEY: i64 = i64::from_be_bytes(*b"backstay");
const SQLX_FACTOR: i64 = 0x3d32_ad9e;

/// The right to migrate one database. It lives on a connection of its own and ends with it, so no
/// path out of a run can leave it behind; it is polled for, because a session that waits inside
/// `pg_advisory_lock` would hold up vacuum and every index built concurrently.
pub(crate) struct Lock {
    connection: PgConnection,
    target: Target,
    pid: i32,
}

impl Lock {
    /// Takes our own lock and the one an application with sqlx inside would wait for.
    pub(crate) async fn take(context: &Context, target: &Target, wait: Duration) -> Result<Self, Error> {
        let mut lock = Self::take_own(context, target, wait).await?;
        let database: String = lock.ask("select current_database()::text").await?;
        let deadline = context.clock.elapsed() + wait;
        lock.poll(context, sqlx_key(&database), deadline).await?;
        Ok(lock)
    }

    /// Takes our own lock alone: another tool takes its own.
    pub(crate) async fn take_own(context: &Context, target: &Target, wait: Duration) -> Result<Self, Error> {
        let connection = target.connect("migrate").await?;
        let mut lock = Self { connection, target: target.clone(), pid: 0 };
        lock.target.say(&mut lock.connection, "set statement_timeout = 0; set idle_session_timeout = 0").await?;
        lock.pid = lock.backend().await?;
        let deadline = context.clock.elapsed() + wait;
        lock.poll(context, OWN_KEY, deadline).await?;
        Ok(lock)
    }

    async fn poll(&mut self, context: &Context, key: i64, deadline: Duration) -> Result<(), Error> {
        let mut told = false;
        loop {
            if self.backend().await? != self.pid {
                return Err(Error::Pooled { target: self.target.describe() });
            }
            let taken: bool = crate::target::query_scalar("select pg_try_advisory_lock($1)")
                .bind(key)
                .fetch_one(&mut self.connection)
                .await
                .map_err(self.target.failed("take the lock"))?;
            if taken {
                return Ok(());
            }
            let holder = self.holder(key).await?;
            if context.interrupt.is_requested() {
                return Err(Error::Interrupted { committed: Vec::new(), half: None });
            }
            if context.clock.elapsed() >= deadline {
                return Err(Error::Busy { target: self.target.describe(), holder });
            }
            if !told {
                context
                    .hear(Event::Waiting { on: format!("another migration in {}: {holder}", self.target.describe()) });
                told = true;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until nothing of an earlier run is at work: a statement goes on in the server for a while
    /// after its client is gone. A transaction whose client is gone can only be rolled back.
    pub(crate) async fn outwait_orphans(&mut self, context: &Context, wait: Duration) -> Result<(), Error> {
        let deadline = context.clock.elapsed() + wait;
        loop {
            let orphan: Option<(i32, String)> = crate::target::query_as(
                "select pid, state from pg_catalog.pg_stat_activity where datname = current_database()
                    and usename = session_user and application_name = $1 and state <> 'idle' limit 1",
            )
            .bind(format!("backstay {}", crate::session::PURPOSE))
            .fetch_optional(&mut self.connection)
            .await
            .map_err(self.target.failed("look for earlier runs"))?;
            let Some((pid, state)) = orphan else { return Ok(()) };
            if state.starts_with("idle in transaction") {
                let ended =
                    crate::target::query("select pg_terminate_backend($1)").bind(pid).execute(&mut self.connection);
                ended.await.map_err(self.target.failed("end an earlier run"))?;
            }
            if context.clock.elapsed() >= deadline {
                let holder = format!("session {pid} still works for a run that is gone");
                return Err(Error::Busy { target: self.target.describe(), holder });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn holder(&mut self, key: i64) -> Result<String, Error> {
        let found: Option<String> = crate::target::query_scalar(
            "select format('%s (session %s of %s, since %s)', coalesce(nullif(a.application_name, ''), 'a session'),
                    a.pid, a.usename, to_char(a.backend_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS'))
             from pg_catalog.pg_locks l left join pg_catalog.pg_stat_activity a on a.pid = l.pid
             where l.locktype = 'advisory' and l.granted and l.objsubid = 1
               and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
               and (l.classid::bigint << 32 | l.objid::bigint) = $1",
        )
        .bind(key)
        .fetch_optional(&mut self.connection)
        .await
        .map_err(self.target.failed("see who holds the lock"))?
        .flatten();
        Ok(found.unwrap_or_else(|| "a session that is gone".to_owned()))
    }

    async fn backend(&mut self) -> Result<i32, Error> {
        crate::target::query_scalar("select pg_backend_pid()")
            .fetch_one(&mut self.connection)
            .await
            .map_err(self.target.failed("take the lock"))
    }

    async fn ask(&mut self, sql: &'static str) -> Result<String, Error> {
        crate::target::query_scalar(sql)
            .fetch_one(&mut self.connection)
            .await
            .map_err(self.target.failed("take the lock"))
    }

    /// Looks whether the lock is still held: its connection may have been ended by somebody.
    pub(crate) async fn hold(&mut self) -> Result<(), Error> {
        if self.backend().await? == self.pid { Ok(()) } else { Err(Error::Pooled { target: self.target.describe() }) }
    }

    /// Asks the server to give up what another session of ours does.
    pub(crate) async fn cancel(&mut self, pid: i32) -> Result<(), Error> {
        crate::target::query("select pg_cancel_backend($1)")
            .bind(pid)
            .execute(&mut self.connection)
            .await
            .map(|_| ())
            .map_err(self.target.failed("cancel a statement"))
    }

    /// The connection it lives on, which is free to look at what other sessions wait for.
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    pub(crate) async fn release(self) {
        // The server lets go when the connection ends, however it ends.
        let _ = self.connection.close().await;
    }
}

fn sqlx_key(database: &str) -> i64 {
    let mut crc = Crc::new();
    crc.update(database.as_bytes());
    SQLX_FACTOR.wrapping_mul(i64::from(crc.sum()))
}
