use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use backstay_compose::{Exec, Execution, Project as Compose};
use backstay_postgres::{Error, Host, LocalTools, Tool, ToolCall, ToolOutcome, Tools};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A piece of an archive on its way into the container.
const PIECE_BYTES: usize = 64 << 10;
/// Where the server listens within its own container.
const INSIDE: (&str, u16) = ("127.0.0.1", 5432);
/// Keeps what it is fed in a file of its own for as long as the program runs: pg_restore seeks in its
/// archive. The file's name is the first argument; it must be new.
const WITH_ARCHIVE: &str = r#"umask 077; set -C; a=$1; shift; trap 'rm -f "$a"' EXIT; cat >"$a" && "$@" "$a""#;
/// The same, where the entries to be restored come first, a line for each, up to an empty line. The shell
/// takes no more of its input than that.
const WITH_LIST: &str = r#"umask 077; set -C; a=$1; shift; trap 'rm -f "$a" "$a.list"' EXIT
    while IFS= read -r l && [ -n "$l" ]; do printf '%s\n' "$l"; done >"$a.list"
    cat >"$a" && "$@" --use-list="$a.list" "$a""#;

/// Client programs for a server in a service: those of this host where they are of the server's own major,
/// else the server's, in its container, else newer ones of this host.
pub struct ServiceTools {
    local: LocalTools,
    compose: Compose,
    service: String,
    /// The address by which this host reaches the server.
    server: String,
    /// What the container's programs said of their versions, by name: they are asked once.
    known: Mutex<BTreeMap<&'static str, Option<String>>>,
}

#[async_trait]
impl Tools for ServiceTools {
    async fn version(&self, tool: Tool, major: u32) -> Result<String, Error> {
        match self.inside(tool, major).await? {
            Some(version) => Ok(version),
            None => self.local.version(tool, major).await,
        }
    }

    async fn run(&self, call: ToolCall<'_>) -> Result<ToolOutcome, Error> {
        // Another server, for scratch copies say, is not to be reached from in there.
        let reached = call.settings.is_none_or(|settings| settings.server() == self.server);
        let inside = if reached { self.inside(call.tool, call.major).await? } else { None };
        match inside {
            Some(version) => self.run_inside(call, version).await,
            None => self.local.run(call).await,
        }
    }
}

impl ServiceTools {
    pub fn new(local: LocalTools, compose: Compose, service: String, server: String) -> Self {
        Self { local, compose, service, server, known: Mutex::default() }
    }

    /// The version of the container's program, where it is the one to be used.
    async fn inside(&self, tool: Tool, major: u32) -> Result<Option<String>, Error> {
        let local = self.local.version(tool, major).await;
        if local.is_ok_and(|local| major_of(&local) == Some(major)) {
            return Ok(None);
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(tool.program()).cloned();
        let version = match known {
            Some(version) => version,
            None => {
                let version = self.version_inside(tool).await?;
                self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(tool.program(), version.clone());
                version
            }
        };
        Ok(version.filter(|version| major_of(version).is_some_and(|found| found >= major)))
    }

    /// Nothing where the container has no such program.
    async fn version_inside(&self, tool: Tool) -> Result<Option<String>, Error> {
        let command = vec![tool.program().to_owned(), "--version".to_owned()];
        let failed = |error| failed(tool, error);
        let exec = Exec { command, ..Exec::default() };
        let mut execution = match self.compose.exec(&self.service, &exec).await {
            Ok(execution) => execution,
            // There is no such program in there, or nothing runs.
            Err(_) => return Ok(None),
        };
        let mut text = Vec::new();
        while let Some(piece) = execution.next().await.map_err(failed)? {
            text.extend_from_slice(&piece);
        }
        if execution.exit_code().await.map_err(failed)? != 0 {
            return Ok(None);
        }
        // `pg_dump (PostgreSQL) 15.18 (Debian 15.18-1)`
        Ok(String::from_utf8_lossy(&text).split_whitespace().nth(2).map(str::to_owned))
    }

    async fn run_inside(&self, call: ToolCall<'_>, version: String) -> Result<ToolOutcome, Error> {
        let tool = call.tool;
        let mut environment =
            vec![("LC_ALL".to_owned(), "C".to_owned()), ("PGOPTIONS".to_owned(), call.options.clone())];
        environment.push(("PGAPPNAME".to_owned(), format!("backstay {}", tool.program())));
        let settings = call.settings.map(|settings| settings.with_host(Host::Name(INSIDE.0.to_owned()), INSIDE.1));
        for (name, value) in settings.iter().flat_map(backstay_postgres::Settings::child_environment) {
            environment.push((name.to_owned(), value.to_string()));
        }
        let exec = Exec { command: command(&call), environment, user: None, with_input: call.input.is_some() };
        let failed = |error| failed(tool, error);
        let mut execution = self.compose.exec(&self.service, &exec).await.map_err(failed)?;
        if let Some(path) = call.input {
            if let Some(list) = call.list {
                execution.write(format!("{}\n\n", list.trim_end()).as_bytes()).await.map_err(failed)?;
            }
            feed(&mut execution, path, tool).await?;
        }
        keep(&mut execution, call.output, tool).await?;
        let code = execution.exit_code().await.map_err(failed)?;
        let said: Vec<_> = execution.said().lines().map(str::to_owned).collect();
        if code == 0 {
            return Ok(ToolOutcome { version, said });
        }
        let database = settings.map_or_else(|| "an archive".to_owned(), |settings| settings.database().to_owned());
        let said = if said.is_empty() { format!("exit code {code}") } else { said.join("; ") };
        Err(Error::ToolFailed { program: tool.program(), database, said })
    }
}

fn major_of(version: &str) -> Option<u32> {
    version.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

fn command(call: &ToolCall<'_>) -> Vec<String> {
    let mut program = vec![call.tool.program().to_owned()];
    program.extend(call.arguments.iter().cloned());
    if call.tool == Tool::PgRestore && call.jobs > 1 {
        program.push(format!("--jobs={}", call.jobs));
    }
    let file = format!("/tmp/backstay-{:032x}", rand::random::<u128>());
    let shell = |script: &str| ["sh", "-c", script, "sh", &file].map(str::to_owned).to_vec();
    match (call.input, call.list) {
        (None, _) => program,
        (Some(_), None) => [shell(WITH_ARCHIVE), program].concat(),
        (Some(_), Some(_)) => [shell(WITH_LIST), program].concat(),
    }
}

async fn feed(execution: &mut Execution, path: &Path, tool: Tool) -> Result<(), Error> {
    let unread = |source| Error::ReadFile { path: path.to_owned(), source };
    let mut file = tokio::fs::File::open(path).await.map_err(unread)?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = file.read(&mut piece).await.map_err(unread)?;
        if read == 0 {
            break;
        }
        execution.write(piece.get(..read).unwrap_or_default()).await.map_err(|error| failed(tool, error))?;
    }
    execution.close_input().await.map_err(|error| failed(tool, error))
}

async fn keep(execution: &mut Execution, path: Option<&Path>, tool: Tool) -> Result<(), Error> {
    let mut file = match path {
        Some(path) => {
            let unwritten = |source| Error::WriteFile { path: path.to_owned(), source };
            Some((tokio::fs::File::options().write(true).truncate(true).open(path).await.map_err(unwritten)?, path))
        }
        None => None,
    };
    while let Some(piece) = execution.next().await.map_err(|error| failed(tool, error))? {
        if let Some((file, path)) = &mut file {
            let unwritten = |source| Error::WriteFile { path: path.to_path_buf(), source };
            file.write_all(&piece).await.map_err(unwritten)?;
        }
    }
    if let Some((file, path)) = &mut file {
        file.flush().await.map_err(|source| Error::WriteFile { path: path.to_path_buf(), source })?;
    }
    Ok(())
}

fn failed(tool: Tool, error: backstay_compose::Error) -> Error {
    Error::RunTool { program: tool.program(), source: std::io::Error::other(error) }
}
