use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::{Error, Settings};

/// Of what a program says when it fails, no more than this is kept.
const SAID_BYTES_MAX: usize = 16 << 10;

/// What libpq would read, other than what a call sets, is taken from the program's environment.
const CLEARED: [&str; 30] = [
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGUSER",
    "PGDATABASE",
    "PGPASSWORD",
    "PGPASSFILE",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGSYSCONFDIR",
    "PGOPTIONS",
    "PGAPPNAME",
    "PGSSLMODE",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLROOTCERT",
    "PGSSLCRL",
    "PGSSLNEGOTIATION",
    "PGREQUIRESSL",
    "PGREQUIREAUTH",
    "PGREQUIREPEER",
    "PGCHANNELBINDING",
    "PGGSSENCMODE",
    "PGTARGETSESSIONATTRS",
    "PGLOADBALANCEHOSTS",
    "PGCONNECT_TIMEOUT",
    "PGCLIENTENCODING",
    "PGDATESTYLE",
    "PGTZ",
    "PGGEQO",
];

/// A client program that comes with PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    PgDump,
    PgRestore,
}

impl Tool {
    pub fn program(self) -> &'static str {
        match self {
            Self::PgDump => "pg_dump",
            Self::PgRestore => "pg_restore",
        }
    }
}

/// One run of a client program.
#[derive(Debug)]
pub struct ToolCall<'a> {
    pub tool: Tool,
    /// The program must be of this major or newer.
    pub major: u32,
    /// The database it connects to, if it does.
    pub settings: Option<&'a Settings>,
    pub arguments: Vec<String>,
    /// Connections that pg_restore may use. More than one needs an input it can seek in: where it is fed a
    /// stream, as in a container, this is 1 whatever is asked for.
    pub jobs: usize,
    /// What stands in `PGOPTIONS`: `-c name=value …`.
    pub options: String,
    /// The entries of the archive that pg_restore is to restore, a line for each.
    pub list: Option<&'a str>,
    pub input: Option<&'a Path>,
    /// Where its output goes.
    pub output: Option<&'a Path>,
}

/// A program that ended well.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolOutcome {
    /// As it says of itself: `15.18`.
    pub version: String,
    /// Lines it wrote beside its output: warnings.
    pub said: Vec<String>,
}

/// Where client programs are run: on this host, or in the database's container.
#[async_trait]
pub trait Tools: Send + Sync {
    /// The version of the program that a call for `major` would run: `15.18`.
    async fn version(&self, tool: Tool, major: u32) -> Result<String, Error>;

    /// Runs a program to its end. The future may be dropped; then the program is ended.
    async fn run(&self, call: ToolCall<'_>) -> Result<ToolOutcome, Error>;
}

/// The programs installed on this host.
#[derive(Debug, Clone)]
pub struct LocalTools {
    folders: Vec<PathBuf>,
    /// What programs said of their versions: they are asked once.
    known: Arc<Mutex<HashMap<PathBuf, Option<Version>>>>,
}

/// The major, and all of it.
type Version = (u32, String);

impl LocalTools {
    /// Looks in `folders` (the folders of the search path, say) and where packages put such programs.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        let mut folders = folders;
        for (parent, suffix) in [
            ("/usr/lib/postgresql", "bin"),
            ("/usr/lib64/postgresql", "bin"),
            ("/usr/libexec/postgresql", ""),
            ("/usr", "pgsql"),
            ("/usr/local/opt", "postgresql"),
            ("/opt/homebrew/opt", "postgresql"),
            ("/Library/PostgreSQL", "bin"),
        ] {
            folders.extend(below(Path::new(parent), suffix));
        }
        folders.push("/usr/local/pgsql/bin".into());
        Self::only(folders)
    }

    /// Only these folders.
    pub fn only(folders: Vec<PathBuf>) -> Self {
        Self { folders, known: Arc::default() }
    }

    async fn version_of(&self, path: &Path) -> Option<Version> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let Some(version) = known {
            return version;
        }
        let version = version_of(path).await;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), version.clone());
        version
    }

    /// The program of the lowest major that is enough: what a newer pg_dump writes, an older server may not read.
    async fn find(&self, tool: Tool, major: u32) -> Result<(PathBuf, String), Error> {
        let mut best: Option<(u32, PathBuf, String)> = None;
        for folder in &self.folders {
            let path = folder.join(tool.program());
            let Some((found, version)) = self.version_of(&path).await else { continue };
            if found == major {
                return Ok((path, version));
            }
            if found > major && best.as_ref().is_none_or(|(best, ..)| found < *best) {
                best = Some((found, path, version));
            }
        }
        best.map(|(_, path, version)| (path, version)).ok_or_else(|| Error::NoTool {
            program: tool.program(),
            major,
            package: format!("postgresql-client-{major}"),
        })
    }
}

#[async_trait]
impl Tools for LocalTools {
    async fn version(&self, tool: Tool, major: u32) -> Result<String, Error> {
        Ok(self.find(tool, major).await?.1)
    }

    async fn run(&self, call: ToolCall<'_>) -> Result<ToolOutcome, Error> {
        let (path, version) = self.find(call.tool, call.major).await?;
        let program = call.tool.program();
        let mut command = Command::new(path);
        command.args(&call.arguments).kill_on_drop(true).stderr(Stdio::piped());
        // Held until the program has ended.
        let list = call.list.map(listed).transpose().map_err(|source| Error::Spool { source })?;
        command.args(list.iter().map(|list| format!("--use-list={}", list.path().display())));
        if call.tool == Tool::PgRestore && call.jobs > 1 {
            command.arg(format!("--jobs={}", call.jobs)).args(call.input).stdin(Stdio::null());
        } else {
            command.stdin(opened(call.input, |path| std::fs::File::open(path))?);
        }
        command.stdout(opened(call.output, |path| std::fs::File::options().write(true).truncate(true).open(path))?);
        for name in CLEARED {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C").env("PGOPTIONS", &call.options).env("PGAPPNAME", format!("backstay {program}"));
        for (name, value) in call.settings.map(Settings::child_environment).unwrap_or_default() {
            command.env(name, value.as_str());
        }
        let failed = |source| Error::RunTool { program, source };
        let mut child = command.spawn().map_err(failed)?;
        let said = match child.stderr.take() {
            Some(stderr) => said(stderr).await.map_err(failed)?,
            None => Vec::new(),
        };
        let status = child.wait().await.map_err(failed)?;
        if status.success() {
            return Ok(ToolOutcome { version, said });
        }
        let database = call.settings.map_or_else(|| "an archive".to_owned(), |settings| settings.database().to_owned());
        let said = if said.is_empty() { status.to_string() } else { said.join("; ") };
        Err(Error::ToolFailed { program, database, said })
    }
}

fn opened(path: Option<&Path>, open: impl Fn(&Path) -> std::io::Result<std::fs::File>) -> Result<Stdio, Error> {
    match path {
        Some(path) => open(path).map(Stdio::from).map_err(|source| Error::ReadFile { path: path.to_owned(), source }),
        None => Ok(Stdio::null()),
    }
}

fn listed(entries: &str) -> std::io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    std::io::Write::write_all(&mut file, entries.as_bytes())?;
    Ok(file)
}

/// The lines of a program's complaints. All of it is read, so that the program never waits for a reader.
async fn said(mut stderr: tokio::process::ChildStderr) -> std::io::Result<Vec<String>> {
    let mut kept = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = stderr.read(&mut piece).await?;
        if read == 0 {
            break;
        }
        let room = SAID_BYTES_MAX.saturating_sub(kept.len());
        kept.extend(piece.iter().take(read.min(room)));
    }
    Ok(String::from_utf8_lossy(&kept).lines().map(str::to_owned).collect())
}

async fn version_of(path: &Path) -> Option<Version> {
    if !path.is_file() {
        return None;
    }
    let output = Command::new(path).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output().await.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    // `pg_dump (PostgreSQL) 15.18 (Debian 15.18-1)`
    let version = text.split_whitespace().nth(2)?;
    let major = version.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()?;
    Some((major, version.to_owned()))
}

/// `parent/*/bin` or, for other suffixes, the folders of `parent` whose names begin so.
fn below(parent: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = match suffix {
        "bin" | "" => entries.map(|path| path.join(suffix)).collect(),
        prefix => {
            let named =
                |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
            entries.filter(named).map(|path| path.join("bin")).collect()
        }
    };
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_program_that_just_suffices_is_taken_and_a_missing_one_is_named() {
        let bins = backstay_testkit::majors();
        let Some(oldest) = bins.first() else {
            backstay_testkit::left_out("pg_dump", "no programs of PostgreSQL here");
            return;
        };
        let tools = LocalTools::only(bins.clone());
        let version = tools.version(Tool::PgDump, 1).await.unwrap();
        assert_eq!(version_of(&oldest.join("pg_dump")).await.unwrap().1, version);
        let error = tools.version(Tool::PgRestore, 99).await.unwrap_err();
        assert!(error.to_string().contains("postgresql-client-99"), "{error}");
    }
}
