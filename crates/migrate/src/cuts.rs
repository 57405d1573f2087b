use serde::Serialize;

use crate::folder::{Fault, Migration};
use crate::sql::{Effects, effects};

/// Why a COMMIT stands between two files that otherwise would share a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// The file that the COMMIT stands before.
    pub before: String,
    pub why: String,
}

/// Files that run together: one transaction, or one file statement by statement.
#[derive(Debug, Clone)]
pub(crate) struct Batch<'f> {
    pub(crate) migrations: Vec<&'f Migration>,
    pub(crate) outside: bool,
}

/// Groups pending migrations into as few transactions as PostgreSQL allows. `deferrable` says
/// whether the database already has constraints or triggers that can wait for COMMIT.
pub(crate) fn batches<'f>(
    pending: &[&'f Migration],
    per_file: bool,
    deferrable: bool,
) -> Result<(Vec<Batch<'f>>, Vec<Cut>), Fault> {
    let mut batches: Vec<Batch<'f>> = Vec::new();
    let mut cuts = Vec::new();
    let mut open = Open::new(deferrable);
    for migration in pending {
        let script = &migration.up;
        let found = effects(&script.statements()?);
        let why = match batches.last() {
            None => Some(None),
            Some(_) if per_file => Some(None),
            Some(_) if script.no_transaction => Some(Some("it asks to run outside of a transaction".to_owned())),
            Some(last) if last.outside => Some(Some("the file before it runs outside of a transaction".to_owned())),
            Some(_) => open.needs_commit(&found).map(Some),
        };
        if let Some(why) = why {
            if let Some(why) = why {
                cuts.push(Cut { before: script.file.clone(), why });
            }
            batches.push(Batch { migrations: Vec::new(), outside: script.no_transaction });
            open = Open { deferrable: open.deferrable, ..Open::default() };
        }
        open.absorb(found);
        if let Some(last) = batches.last_mut() {
            last.migrations.push(migration);
        }
    }
    Ok((batches, cuts))
}

/// What the open transaction has done so far that waits for COMMIT.
#[derive(Default)]
struct Open {
    deferrable: bool,
    enum_values: Vec<String>,
    written: Vec<String>,
    until_commit: Option<&'static str>,
    sets_transaction: bool,
}

impl Open {
    fn new(deferrable: bool) -> Self {
        Self { deferrable, ..Self::default() }
    }

    fn needs_commit(&self, next: &Effects) -> Option<String> {
        if let Some(value) = self.enum_values.iter().find(|value| next.strings.contains(value)) {
            return Some(format!("it uses the enumerated value '{value}', which is unusable before COMMIT"));
        }
        if let Some(table) = self.written.iter().find(|table| next.altered.contains(table)).filter(|_| self.deferrable)
        {
            return Some(format!("it alters {table}, whose changed rows may still wait for checks at COMMIT"));
        }
        if let Some(why) = self.until_commit {
            return Some(format!("{why}, and this file expects it to be over"));
        }
        if next.sets_transaction {
            return Some("SET TRANSACTION must be the first of its transaction".to_owned());
        }
        self.sets_transaction.then(|| "SET TRANSACTION of the file before it ends with COMMIT".to_owned())
    }

    fn absorb(&mut self, effects: Effects) {
        self.deferrable = self.deferrable || effects.defers;
        self.enum_values.extend(effects.enum_values);
        self.written.extend(effects.written);
        self.until_commit = self.until_commit.or(effects.until_commit);
        self.sets_transaction = self.sets_transaction || effects.sets_transaction;
    }
}
