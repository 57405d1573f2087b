use std::time::Duration;

use backstay_model::SnapshotId;
use backstay_run::Context;
use sha2::{Digest, Sha256};
use sqlx::postgres::PgConnection;

use crate::folder::{Migration, Script};
use crate::guise;
use crate::target::execute;

/// Backstay's own migrations, applied by Backstay itself, in order.
const OWN: &[(i32, &str)] = &[(1, include_str!("../../../migrations/1_bookkeeping.sql"))];

/// Whether the schema `backstay` can be written, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Ready,
    /// The role may make it.
    Absent,
    /// Neither there nor allowed.
    Forbidden,
}

/// What was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

impl Direction {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A statement of the journal, as it is found again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) run: String,
    pub(crate) ordinal: i32,
    pub(crate) digest: Vec<u8>,
    pub(crate) done: bool,
}

/// A statement that ran in a transaction, to be written with it.
pub(crate) struct Ran {
    pub(crate) line: u32,
    pub(crate) digest: Vec<u8>,
    pub(crate) took: Duration,
}

pub(crate) fn digest(sql: &str) -> Vec<u8> {
    Sha256::digest(sql.as_bytes()).to_vec()
}

pub(crate) async fn standing(connection: &mut PgConnection) -> Result<Standing, sqlx::Error> {
    let (there, allowed): (bool, bool) = crate::target::query_as(
        "select to_regclass('backstay.bookkeeping') is not null,
                has_database_privilege(current_database(), 'CREATE') and to_regnamespace('backstay') is null",
    )
    .fetch_one(connection)
    .await?;
    Ok(match (there, allowed) {
        (true, _) => Standing::Ready,
        (false, true) => Standing::Absent,
        (false, false) => Standing::Forbidden,
    })
}

/// Makes or brings up to date the schema, within whatever transaction is open.
pub(crate) async fn ensure(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut version = 0;
    if standing(connection).await? == Standing::Ready {
        version = crate::target::query_scalar("select coalesce(max(version), 0) from backstay.bookkeeping")
            .fetch_one(&mut *connection)
            .await?;
    }
    for (number, sql) in OWN {
        if *number > version {
            execute(connection, sql).await?;
        }
    }
    Ok(())
}

pub(crate) async fn begin_run(
    connection: &mut PgConnection,
    context: &Context,
    direction: Direction,
    snapshot: Option<&SnapshotId>,
) -> Result<(), sqlx::Error> {
    let command = if direction == Direction::Up { "run" } else { "down" };
    crate::target::query(
        "insert into backstay.runs (run, command, host, snapshot) values ($1, $2, $3, $4) on conflict (run) do nothing",
    )
    .bind(context.run.as_str())
    .bind(command)
    .bind(&context.host)
    .bind(snapshot.map(SnapshotId::as_str))
    .execute(connection)
    .await
    .map(|_| ())
}

/// Keeps the texts of a migration and who ran it.
pub(crate) async fn keep(connection: &mut PgConnection, run: &str, migration: &Migration) -> Result<(), sqlx::Error> {
    for script in [Some(&migration.up), migration.down.as_ref()].into_iter().flatten() {
        keep_script(connection, script).await?;
    }
    crate::target::query(
        "insert into backstay.migrations (version, run, up_checksum, down_checksum) values ($1, $2, $3, $4)
         on conflict (version) do update set run = excluded.run, up_checksum = excluded.up_checksum,
            down_checksum = excluded.down_checksum",
    )
    .bind(migration.version)
    .bind(run)
    .bind(&migration.up.checksum)
    .bind(migration.down.as_ref().map(|down| &down.checksum))
    .execute(connection)
    .await
    .map(|_| ())
}

async fn keep_script(connection: &mut PgConnection, script: &Script) -> Result<(), sqlx::Error> {
    crate::target::query(
        "insert into backstay.scripts (checksum, file, sql) values ($1, $2, $3) on conflict (checksum) do nothing",
    )
    .bind(&script.checksum)
    .bind(&script.file)
    .bind(&script.sql)
    .execute(connection)
    .await
    .map(|_| ())
}

/// The kept down file of a version: name and text.
pub(crate) async fn kept_down(
    connection: &mut PgConnection,
    version: i64,
) -> Result<Option<(String, String)>, sqlx::Error> {
    crate::target::query_as(
        "select s.file, s.sql from backstay.migrations m join backstay.scripts s on s.checksum = m.down_checksum
         where m.version = $1",
    )
    .bind(version)
    .fetch_optional(connection)
    .await
}

/// Writes the statements of a file that ran in a transaction, all at once.
pub(crate) async fn write_done(
    connection: &mut PgConnection,
    run: &str,
    version: i64,
    direction: Direction,
    ran: &[Ran],
) -> Result<(), sqlx::Error> {
    let column = |value: fn(&Ran) -> i64| ran.iter().map(value).collect::<Vec<i64>>();
    let digests: Vec<&[u8]> = ran.iter().map(|one| one.digest.as_slice()).collect();
    crate::target::query(
        "insert into backstay.statements (run, version, direction, ordinal, line, digest, state, nanoseconds)
         select $1, $2, $3, row_number() over () - 1, s.line, s.digest, 'done', s.took
         from unnest($4::bigint[], $5::bytea[], $6::bigint[]) as s (line, digest, took)
         on conflict (run, version, direction, ordinal) do update set state = 'done', nanoseconds = excluded.nanoseconds",
    )
    .bind(run)
    .bind(version)
    .bind(direction.word())
    .bind(column(|one| i64::from(one.line)))
    .bind(digests)
    .bind(column(|one| nanoseconds(one.took)))
    .execute(connection)
    .await
    .map(|_| ())
}

/// Writes one line of the journal of a file that runs statement by statement.
pub(crate) async fn write_line(
    connection: &mut PgConnection,
    key: (&str, i64, Direction, i32),
    line: u32,
    digest: &[u8],
    done: Option<Duration>,
) -> Result<(), sqlx::Error> {
    let (run, version, direction, ordinal) = key;
    let guise = guise::lay_down(connection).await?;
    crate::target::query(
        "insert into backstay.statements (run, version, direction, ordinal, line, digest, state, nanoseconds)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (run, version, direction, ordinal) do update set state = excluded.state, nanoseconds = excluded.nanoseconds",
    )
    .bind(run)
    .bind(version)
    .bind(direction.word())
    .bind(ordinal)
    .bind(i32::try_from(line).unwrap_or(i32::MAX))
    .bind(digest)
    .bind(if done.is_some() { "done" } else { "intent" })
    .bind(done.map(nanoseconds))
    .execute(&mut *connection)
    .await?;
    guise.put_on(connection).await
}

/// Takes back an intent whose statement is known to have done nothing.
pub(crate) async fn erase_line(
    connection: &mut PgConnection,
    key: (&str, i64, Direction, i32),
) -> Result<(), sqlx::Error> {
    let guise = guise::lay_down(connection).await?;
    crate::target::query(
        "delete from backstay.statements where run = $1 and version = $2 and direction = $3 and ordinal = $4",
    )
    .bind(key.0)
    .bind(key.1)
    .bind(key.2.word())
    .bind(key.3)
    .execute(&mut *connection)
    .await?;
    guise.put_on(connection).await
}

/// What has been journaled of a version since some run began with its first statement.
pub(crate) async fn lines(
    connection: &mut PgConnection,
    version: i64,
    direction: Direction,
) -> Result<Vec<Line>, sqlx::Error> {
    let rows: Vec<(String, i32, Vec<u8>, bool)> = crate::target::query_as(
        "select distinct on (s.ordinal) s.run, s.ordinal, s.digest, s.state = 'done' from backstay.statements s
         join backstay.runs r on r.run = s.run
         join backstay.migrations m on m.version = s.version join backstay.runs f on f.run = m.run
         where s.version = $1 and s.direction = $2 and f.command = case $2 when 'up' then 'run' else 'down' end
           and r.began_at >= f.began_at
         order by s.ordinal, r.began_at desc",
    )
    .bind(version)
    .bind(direction.word())
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(run, ordinal, digest, done)| Line { run, ordinal, digest, done }).collect())
}

/// Versions that stand half done, and whose journal says how far they came.
pub(crate) async fn resumable(connection: &mut PgConnection, direction: Direction) -> Result<Vec<i64>, sqlx::Error> {
    if standing(connection).await? != Standing::Ready {
        return Ok(Vec::new());
    }
    let command = if direction == Direction::Up { "run" } else { "down" };
    crate::target::query_scalar(
        "select m.version from backstay.migrations m join backstay.runs r on r.run = m.run where r.command = $1",
    )
    .bind(command)
    .fetch_all(connection)
    .await
}

pub(crate) fn nanoseconds(took: Duration) -> i64 {
    i64::try_from(took.as_nanos()).unwrap_or(i64::MAX)
}
