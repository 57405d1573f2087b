use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use backstay_model::Event;
use backstay_postgres::MigrationHead;
use backstay_run::Context;
use serde::Serialize;
use sqlx::postgres::PgConnection;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use crate::lock::Lock;
use crate::measured::{LockTaken, milliseconds};
use crate::schema::{Change, Schema};
use crate::{Error, Target};

const POLL: Duration = Duration::from_millis(50);
const LINES_MAX: usize = 200;
const LINE_CHARACTERS_MAX: usize = 500;

/// Another tool's way to migrate.
#[derive(Clone)]
pub struct ForeignCommand {
    /// The program and its arguments; no shell.
    pub command: Vec<String>,
    /// The variable in which it looks for the connection URL, and that URL: of the live database, or
    /// of a copy for a rehearsal.
    pub url_variable: String,
    pub url: String,
    pub folder: PathBuf,
}

impl fmt::Debug for ForeignCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignCommand")
            .field("command", &self.command)
            .field("url_variable", &self.url_variable)
            .finish_non_exhaustive()
    }
}

/// What a foreign command did, as far as it is seen from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommandReport {
    pub milliseconds: u64,
    pub heads_before: Vec<MigrationHead>,
    pub heads_after: Vec<MigrationHead>,
    /// Objects it added, changed and removed.
    pub changes: Vec<Change>,
    /// The strongest locks that were seen: on a busy database others' are among them.
    pub locks: Vec<LockTaken>,
    /// The last lines it printed, without the URL.
    pub said: Vec<String>,
}

/// Runs another tool, on a copy or on the live database, and reads from its own table what it did.
/// Our lock is held meanwhile, the tool's own is left to it.
pub async fn run_command(
    context: &Context,
    target: &Target,
    command: &ForeignCommand,
    lock_wait: Duration,
) -> Result<CommandReport, Error> {
    let mut lock = Lock::take_own(context, target, lock_wait).await?;
    let ran = run_locked(context, target, command, lock.connection()).await;
    lock.release().await;
    ran
}

async fn run_locked(
    context: &Context,
    target: &Target,
    command: &ForeignCommand,
    watcher: &mut PgConnection,
) -> Result<CommandReport, Error> {
    let began = context.clock.elapsed();
    let failed = target.failed("look at the schema");
    let before = Schema::read(watcher).await.map_err(&failed)?;
    let heads_before = heads(target).await?;
    let stood = relations(watcher).await.map_err(&failed)?;
    let program = command.command.first().cloned().unwrap_or_default();
    let mut child = start(command).map_err(|source| Error::Start { program: program.clone(), source })?;
    context.hear(Event::StepBegan { step: format!("run {program}") });
    let mut seen = BTreeSet::new();
    let (status, said) = watch(context, &mut child, command, watcher, &mut seen)
        .await
        .map_err(|source| Error::Start { program: program.clone(), source })?;
    let after = Schema::read(watcher).await.map_err(&failed)?;
    let heads_after = heads(target).await?;
    let changes = before.changes_to(&after);
    let changed = !changes.is_empty() || heads_before != heads_after;
    if context.interrupt.is_requested() && !changed {
        return Err(Error::Interrupted { committed: Vec::new(), half: None });
    }
    if !status.success() {
        return Err(Error::Command { program, status: status.to_string(), changed, said });
    }
    context.hear(Event::StepEnded { step: format!("run {program}"), remark: None });
    let took = context.clock.elapsed().saturating_sub(began);
    let locks = strongest(&stood, &seen);
    Ok(CommandReport { milliseconds: milliseconds(took), heads_before, heads_after, changes, locks, said })
}

fn start(command: &ForeignCommand) -> std::io::Result<Child> {
    let Some((program, arguments)) = command.command.split_first() else {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "no program is named"));
    };
    // The URL goes by the environment: an argv is for everybody to read.
    Command::new(program)
        .args(arguments)
        .env(&command.url_variable, &command.url)
        .current_dir(&command.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// Until it ends: collects what it says, and the locks that sessions of this database hold.
async fn watch(
    context: &Context,
    child: &mut Child,
    command: &ForeignCommand,
    watcher: &mut PgConnection,
    seen: &mut BTreeSet<(i64, String)>,
) -> std::io::Result<(ExitStatus, Vec<String>)> {
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let reading = async { tokio::join!(read_lines(output, &command.url), read_lines(errors, &command.url)) };
    let waiting = async {
        loop {
            tokio::select! {
                biased;
                status = child.wait() => return status,
                () = context.interrupt.requested() => {
                    child.start_kill()?;
                    return child.wait().await;
                }
                () = tokio::time::sleep(POLL) => {
                    // Without a result: what is not seen now may be seen next time.
                    if let Ok(found) = locks(watcher).await {
                        seen.extend(found);
                    }
                }
            }
        }
    };
    let ((said, complained), status) = tokio::join!(reading, waiting);
    Ok((status?, said.into_iter().chain(complained).collect()))
}

async fn read_lines(stream: Option<impl AsyncRead + Unpin>, url: &str) -> VecDeque<String> {
    let mut said = VecDeque::new();
    let Some(stream) = stream else { return said };
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let line = redact(&line, url);
        if said.len() == LINES_MAX {
            said.pop_front();
        }
        said.push_back(line.chars().take(LINE_CHARACTERS_MAX).collect());
    }
    said
}

/// Without the URL, and without its password by itself.
fn redact(line: &str, url: &str) -> String {
    let whole = line.replace(url, "…");
    let authority = url.split_once("://").map_or("", |(_, rest)| rest);
    let password =
        authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).map_or("", |(_, password)| password);
    if password.is_empty() { whole } else { whole.replace(password, "…") }
}

async fn heads(target: &Target) -> Result<Vec<MigrationHead>, Error> {
    let broken = |source| Error::Connect { target: target.describe(), source: Box::new(source) };
    let mut session = backstay_postgres::connect(target.settings(), "migrate status").await.map_err(broken)?;
    session.execute("look only", "set default_transaction_read_only = on").await.map_err(broken)?;
    let found = backstay_postgres::migration_heads(&mut session).await.map_err(broken);
    session.close().await;
    found
}

/// How far the migrations of whatever tool have come.
pub async fn tools(target: &Target) -> Result<Vec<MigrationHead>, Error> {
    heads(target).await
}

async fn relations(connection: &mut PgConnection) -> Result<BTreeMap<i64, String>, sqlx::Error> {
    let rows: Vec<(i64, String)> = crate::target::query_as(
        "select c.oid::bigint, format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_class c
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'p', 'm', 'v', 'S') and n.nspname not in ('pg_catalog', 'information_schema', 'backstay')",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}

async fn locks(connection: &mut PgConnection) -> Result<Vec<(i64, String)>, sqlx::Error> {
    crate::target::query_as(
        "select relation::bigint, mode from pg_catalog.pg_locks
         where locktype = 'relation' and granted and pid <> pg_catalog.pg_backend_pid()
           and database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())",
    )
    .fetch_all(connection)
    .await
}

fn strongest(stood: &BTreeMap<i64, String>, seen: &BTreeSet<(i64, String)>) -> Vec<LockTaken> {
    let mut modes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (relation, mode) in seen {
        if let Some(name) = stood.get(relation) {
            modes.entry(name).or_default().push(mode);
        }
    }
    modes.into_iter().filter_map(|(on, modes)| LockTaken::strongest(on, &modes)).collect()
}
