use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha384};

use crate::Error;
use crate::sql::{BlockRule, Phrase, Statement, block_rule, control, split};

const FILE_BYTES_MAX: u64 = 256 << 20;
const NO_TRANSACTION: &str = "-- no-transaction";

/// A folder of migrations, read whole and in order.
#[derive(Debug, Clone)]
pub struct Folder {
    pub path: PathBuf,
    pub migrations: Vec<Migration>,
}

/// One version: its file, and the down file where there is one.
#[derive(Debug, Clone)]
pub struct Migration {
    pub version: i64,
    pub description: String,
    pub up: Script,
    pub down: Option<Script>,
}

/// A file of SQL, byte for byte.
#[derive(Debug, Clone)]
pub struct Script {
    /// The name within the folder.
    pub file: String,
    pub sql: String,
    /// SHA-384 of the raw bytes, as sqlx records it.
    pub checksum: Vec<u8>,
    /// Whether its first line asks to be run outside of a transaction.
    pub no_transaction: bool,
}

/// Something wrong with a file or with what the history says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    pub file: String,
    pub line: Option<u32>,
    pub kind: FaultKind,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    BadName,
    Duplicate,
    LoneDown,
    NotText,
    TooLarge,
    /// It was changed after it had been applied.
    Edited,
    /// It was applied and its file is gone.
    Missing,
    /// It was added below one that has been applied.
    OutOfOrder,
    /// It was begun and did not succeed.
    Dirty,
    /// It cannot be cut into statements, or holds what only psql understands.
    Unreadable,
    /// It begins or ends transactions by itself.
    TransactionControl,
    /// It holds a statement that no transaction takes, and does not say so.
    NeedsNoTransaction,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{} line {line}: {}", self.file, self.text),
            None => write!(f, "{}: {}", self.file, self.text),
        }
    }
}

impl Fault {
    pub(crate) fn new(file: &str, line: Option<u32>, kind: FaultKind, text: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, kind, text: text.into() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Simple,
    Up,
    Down,
}

impl Folder {
    /// Reads every file of the folder. Faults are collected, so that all of them are told at once.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let broken = |source| Error::ReadFolder { folder: path.to_owned(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(broken)? {
            let entry = entry.map_err(broken)?;
            if fs::metadata(entry.path()).map_err(broken)?.is_file() {
                names.push(entry.file_name());
            }
        }
        names.sort();
        let mut reading = Reading::default();
        for name in names {
            reading.take(path, &name.to_string_lossy(), &path.join(&name))?;
        }
        reading.finish(path)
    }

    pub fn find(&self, version: i64) -> Option<&Migration> {
        self.migrations
            .binary_search_by_key(&version, |migration| migration.version)
            .ok()
            .and_then(|at| self.migrations.get(at))
    }
}

#[derive(Default)]
struct Reading {
    ups: BTreeMap<i64, (String, Script)>,
    downs: BTreeMap<i64, Script>,
    faults: Vec<Fault>,
}

impl Reading {
    fn take(&mut self, folder: &Path, name: &str, path: &Path) -> Result<(), Error> {
        let Some((version, description, direction)) = self.parse(name) else { return Ok(()) };
        let unread = |source| Error::ReadFile { file: folder.join(name), source };
        if fs::metadata(path).map_err(unread)?.len() > FILE_BYTES_MAX {
            let text = format!("is larger than {} MiB", FILE_BYTES_MAX >> 20);
            self.faults.push(Fault::new(name, None, FaultKind::TooLarge, text));
            return Ok(());
        }
        let bytes = fs::read(path).map_err(unread)?;
        let Some(script) = Script::new(name, bytes) else {
            self.faults.push(Fault::new(name, None, FaultKind::NotText, "is not UTF-8 text without zero bytes"));
            return Ok(());
        };
        let taken = match direction {
            Direction::Down => self.downs.insert(version, script).map(|earlier| earlier.file),
            _ => self.ups.insert(version, (description, script)).map(|(_, earlier)| earlier.file),
        };
        if let Some(earlier) = taken {
            let text = format!("has the same version {version} as {earlier}");
            self.faults.push(Fault::new(name, None, FaultKind::Duplicate, text));
        }
        Ok(())
    }

    /// Version, description and direction; nothing where the file is plainly no migration.
    fn parse(&mut self, name: &str) -> Option<(i64, String, Direction)> {
        let is_sql = Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("sql"));
        if !is_sql || name.starts_with('.') {
            return None;
        }
        let mut bad = |text: &str| {
            self.faults.push(Fault::new(name, None, FaultKind::BadName, text));
            None
        };
        let Some((version, rest)) = name.split_once('_') else {
            return bad("is not named <version>_<name>.sql");
        };
        let digits = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
        let Some(version) = version.parse::<i64>().ok().filter(|_| digits) else {
            return bad("does not begin with a version, a whole number such as 20251022153000");
        };
        let (suffix, direction) = if rest.ends_with(".up.sql") {
            (".up.sql", Direction::Up)
        } else if rest.ends_with(".down.sql") {
            (".down.sql", Direction::Down)
        } else {
            (".sql", Direction::Simple)
        };
        if !rest.ends_with(suffix) {
            return bad("does not end with .sql in small letters");
        }
        // Repeatedly, because this is how the description in the history comes about.
        let description = rest.trim_end_matches(suffix).replace('_', " ");
        if description.is_empty() {
            return bad("has no name behind its version");
        }
        Some((version, description, direction))
    }

    fn finish(mut self, path: &Path) -> Result<Folder, Error> {
        let mut migrations = Vec::with_capacity(self.ups.len());
        for (version, (description, up)) in self.ups {
            let down = self.downs.remove(&version);
            migrations.push(Migration { version, description, up, down });
        }
        for lone in self.downs.into_values() {
            self.faults.push(Fault::new(&lone.file, None, FaultKind::LoneDown, "is a down file without its up file"));
        }
        if self.faults.is_empty() {
            Ok(Folder { path: path.to_owned(), migrations })
        } else {
            self.faults.sort_by(|a, b| a.file.cmp(&b.file));
            Err(Error::Faults { faults: self.faults })
        }
    }
}

impl Script {
    fn new(file: &str, bytes: Vec<u8>) -> Option<Self> {
        let checksum = Sha384::digest(&bytes).to_vec();
        let sql = String::from_utf8(bytes).ok().filter(|sql| !sql.contains('\0'))?;
        let no_transaction = sql.strip_prefix('\u{feff}').unwrap_or(&sql).starts_with(NO_TRANSACTION);
        Some(Self { file: file.to_owned(), sql, checksum, no_transaction })
    }

    /// Whether these are the bytes that another `core.autocrlf`, or an editor's byte order mark, made of this text.
    pub(crate) fn was_with_other_line_ends(&self, checksum: &[u8]) -> bool {
        let bare = self.sql.trim_start_matches('\u{feff}').replace("\r\n", "\n");
        let windows = bare.replace('\n', "\r\n");
        let marked = [format!("\u{feff}{bare}"), format!("\u{feff}{windows}")];
        [bare, windows].iter().chain(&marked).any(|text| *Sha384::digest(text.as_bytes()) == *checksum)
    }

    pub(crate) fn from_text(file: &str, sql: &str) -> Option<Self> {
        Self::new(file, sql.as_bytes().to_vec())
    }

    pub(crate) fn statements(&self) -> Result<Vec<Statement<'_>>, Fault> {
        split(&self.sql).map_err(|fault| Fault::new(&self.file, Some(fault.line), FaultKind::Unreadable, fault.text))
    }

    /// What would make it impossible or wrong to run the file.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let statements = match self.statements() {
            Ok(statements) => statements,
            Err(fault) => return vec![fault],
        };
        statements.iter().filter_map(|statement| self.fault(statement)).collect()
    }

    fn fault(&self, statement: &Statement<'_>) -> Option<Fault> {
        let phrase = Phrase::of(statement.text);
        let line = Some(statement.line);
        // Before transaction control: COMMIT PREPARED ends no transaction of this session.
        let refused = block_rule(&phrase) == BlockRule::Refused;
        if !refused && let Some(found) = control(&phrase) {
            let text = format!("`{}` would end or nest the transaction that files run in; remove it", found.0);
            return Some(Fault::new(&self.file, line, FaultKind::TransactionControl, text));
        }
        (refused && !self.no_transaction).then(|| {
            let text =
                format!("`{}` cannot run in a transaction; make `{NO_TRANSACTION}` the first line", phrase.opening());
            Fault::new(&self.file, line, FaultKind::NeedsNoTransaction, text)
        })
    }
}
