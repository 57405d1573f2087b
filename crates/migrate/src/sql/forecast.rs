use serde::Serialize;

use super::alter;
use super::kind::{Phrase, RelationName};
use crate::lock_mode::LockMode;

/// What a statement does to relations that are there already, told from its text and PostgreSQL's
/// rules. A rehearsal measures the same; this needs no copy.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Forecast {
    pub(crate) locks: Vec<(RelationName, LockMode)>,
    pub(crate) rewrites: Expected,
    pub(crate) scans: Expected,
    /// The foreign keys that go, `*` for all of the table: both sides of each are locked alike.
    pub(crate) drops_keys: Vec<String>,
    /// The columns that go or change their type: the other sides of their foreign keys are locked alike.
    pub(crate) drops_columns: Vec<String>,
    /// Whether it leaves partitions and children alone.
    pub(crate) alone: bool,
    /// Whether only running it shows what it locks.
    pub(crate) opaque: bool,
}

/// Whether something happens.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    #[default]
    No,
    /// What the text alone does not tell.
    Depends(&'static str),
    Yes,
}

impl Forecast {
    pub(crate) fn lock(&mut self, name: Option<RelationName>, mode: LockMode) {
        let Some(name) = name else { return };
        match self.locks.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = mode.max(*known),
            None => self.locks.push((name, mode)),
        }
    }

    pub(crate) fn all_locks(&self) -> impl Iterator<Item = (&RelationName, LockMode)> {
        self.locks.iter().map(|(name, mode)| (name, *mode))
    }

    fn lock_all(&mut self, names: Vec<RelationName>, mode: LockMode) {
        for name in names {
            self.lock(Some(name), mode);
        }
    }

    pub(crate) fn rewrite(&mut self, expected: Expected) {
        self.rewrites = self.rewrites.max(expected);
    }

    pub(crate) fn scan(&mut self, expected: Expected) {
        self.scans = self.scans.max(expected);
    }
}

pub(crate) fn forecast(sql: &str) -> Forecast {
    let mut found = Forecast::default();
    // Rows may follow without end, and say nothing of locks.
    let phrase = if Phrase::of(sql).at(0) == "INSERT" { Phrase::of(sql) } else { Phrase::whole(sql) };
    found.alone = phrase.has("ONLY") || matches!(phrase.at(0), "COMMENT");
    match phrase.at(0) {
        "ALTER" => altered(&mut found, &phrase),
        "CREATE" => created(&mut found, &phrase),
        "DROP" => dropped(&mut found, &phrase),
        "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "COPY" => written(&mut found, &phrase),
        "VACUUM" | "ANALYZE" | "CLUSTER" | "REINDEX" => maintained(&mut found, &phrase),
        "TRUNCATE" => {
            let at = phrase.skip(1, &["TABLE"]);
            found.lock_all(phrase.names(at), LockMode::AccessExclusive);
            found.rewrite(Expected::Yes);
        }
        "REFRESH" => refreshed(&mut found, &phrase),
        "COMMENT" => commented(&mut found, &phrase),
        "LOCK" => locked(&mut found, &phrase),
        "DO" | "CALL" | "IMPORT" => found.opaque = true,
        _ => {}
    }
    // Whatever depends on it goes, too.
    found.opaque |= matches!(phrase.at(0), "ALTER" | "DROP" | "TRUNCATE") && phrase.has("CASCADE");
    found
}

fn altered(found: &mut Forecast, phrase: &Phrase) {
    let mode = match phrase.at(1) {
        "TABLE" => return alter::table(found, phrase),
        "EXTENSION" => {
            found.opaque = true;
            return;
        }
        "POLICY" => return found.lock(phrase.name_behind("ON", 2), LockMode::AccessExclusive),
        "TRIGGER" => return found.lock(phrase.name_behind("ON", 2), LockMode::AccessExclusive),
        "SEQUENCE" => LockMode::ShareRowExclusive,
        "INDEX" if phrase.has("RENAME") || phrase.has("RESET") => LockMode::ShareUpdateExclusive,
        "INDEX" | "VIEW" | "MATERIALIZED" => LockMode::AccessExclusive,
        _ => return,
    };
    let at = phrase.skip(2, &["VIEW", "IF", "EXISTS"]);
    found.lock(phrase.name(at).map(|(name, _)| name), mode);
}

fn created(found: &mut Forecast, phrase: &Phrase) {
    const BEFORE: &[&str] =
        &["OR", "REPLACE", "CONSTRAINT", "UNIQUE", "TEMP", "TEMPORARY", "UNLOGGED", "LOCAL", "GLOBAL", "FOREIGN"];
    let at = phrase.skip(1, BEFORE);
    match phrase.at(at) {
        "INDEX" => {
            let concurrently = phrase.at(at + 1) == "CONCURRENTLY";
            let mode = if concurrently { LockMode::ShareUpdateExclusive } else { LockMode::Share };
            found.lock(phrase.name_behind("ON", at), mode);
            found.scan(Expected::Yes);
        }
        "TRIGGER" => found.lock(phrase.name_behind("ON", at), LockMode::ShareRowExclusive),
        "RULE" | "POLICY" => {
            found.alone = true;
            let before = if phrase.at(at) == "RULE" { "TO" } else { "ON" };
            found.lock(phrase.name_behind(before, at), LockMode::AccessExclusive);
        }
        "STATISTICS" => found.lock(phrase.name_behind("FROM", at), LockMode::ShareUpdateExclusive),
        "EXTENSION" => found.opaque = true,
        "TABLE" => {
            found.alone = true;
            for (place, word) in phrase.words().iter().enumerate() {
                let named = |at| phrase.name(at).map(|(name, _)| name);
                match (word.as_str(), phrase.at(place + 1)) {
                    ("REFERENCES", _) => found.lock(named(place + 1), LockMode::ShareRowExclusive),
                    ("PARTITION", "OF") => found.lock(named(place + 2), LockMode::AccessExclusive),
                    ("INHERITS", "(") => found.lock_all(phrase.names(place + 2), LockMode::ShareUpdateExclusive),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn dropped(found: &mut Forecast, phrase: &Phrase) {
    match phrase.at(1) {
        "TABLE" | "VIEW" | "SEQUENCE" | "MATERIALIZED" | "INDEX" => {
            let concurrently = phrase.at(2) == "CONCURRENTLY";
            let mode = if concurrently { LockMode::ShareUpdateExclusive } else { LockMode::AccessExclusive };
            let at = phrase.skip(2, &["VIEW", "CONCURRENTLY", "IF", "EXISTS"]);
            found.lock_all(phrase.names(at), mode);
            found.drops_keys.extend((phrase.at(1) == "TABLE").then(|| "*".to_owned()));
        }
        "TRIGGER" | "RULE" | "POLICY" => found.lock(phrase.name_behind("ON", 2), LockMode::AccessExclusive),
        _ => {}
    }
}

fn written(found: &mut Forecast, phrase: &Phrase) {
    let at = phrase.skip(1, &["INTO", "FROM", "ONLY"]);
    let mode = match phrase.at(0) {
        "COPY" if !phrase.has("FROM") => LockMode::AccessShare,
        _ => LockMode::RowExclusive,
    };
    found.lock(phrase.name(at).map(|(name, _)| name), mode);
    found.scan(match phrase.at(0) {
        "UPDATE" | "DELETE" if phrase.has("WHERE") => Expected::Depends("unless an index leads to its rows"),
        "UPDATE" | "DELETE" => Expected::Yes,
        "MERGE" => Expected::Depends("unless an index leads to its rows"),
        _ => Expected::No,
    });
}

fn maintained(found: &mut Forecast, phrase: &Phrase) {
    let full = phrase.at(0) == "CLUSTER" || (phrase.at(0) == "VACUUM" && phrase.has("FULL"));
    let concurrently = phrase.has("CONCURRENTLY");
    let mode = match phrase.at(0) {
        _ if full => LockMode::AccessExclusive,
        "REINDEX" if !concurrently => LockMode::Share,
        _ => LockMode::ShareUpdateExclusive,
    };
    let options = phrase.behind_parentheses(1);
    let at = phrase.skip(options, &["FULL", "FREEZE", "VERBOSE", "ANALYZE", "TABLE", "INDEX", "CONCURRENTLY"]);
    // Of a whole schema or database nothing is named.
    if matches!(phrase.at(at), "SCHEMA" | "DATABASE" | "SYSTEM") {
        return;
    }
    found.lock(phrase.name(at).map(|(name, _)| name), mode);
    if full {
        found.rewrite(Expected::Yes);
        found.scan(Expected::Depends("unless it is read in the order of an index"));
    } else if phrase.at(0) == "REINDEX" {
        found.rewrite(Expected::Yes);
        found.scan(Expected::Yes);
    }
}

fn refreshed(found: &mut Forecast, phrase: &Phrase) {
    let concurrently = phrase.at(3) == "CONCURRENTLY";
    let at = phrase.skip(3, &["CONCURRENTLY"]);
    let mode = if concurrently { LockMode::Exclusive } else { LockMode::AccessExclusive };
    found.lock(phrase.name(at).map(|(name, _)| name), mode);
    if !concurrently {
        found.rewrite(Expected::Yes);
    }
    found.scan(if phrase.has("NO") && phrase.has("DATA") {
        Expected::No
    } else {
        Expected::Depends("as its query reads its tables")
    });
}

fn commented(found: &mut Forecast, phrase: &Phrase) {
    let name = match phrase.at(2) {
        "TABLE" | "VIEW" | "INDEX" => phrase.name(3).map(|(name, _)| name),
        "MATERIALIZED" => phrase.name(4).map(|(name, _)| name),
        "COLUMN" => phrase.table_of_column(3),
        _ => None,
    };
    found.lock(name, LockMode::ShareUpdateExclusive);
}

fn locked(found: &mut Forecast, phrase: &Phrase) {
    let at = phrase.skip(1, &["TABLE"]);
    let words = phrase.words();
    let mode = words.iter().rposition(|word| word == "MODE").and_then(|end| {
        let begin = words.iter().rposition(|word| word == "IN")?;
        LockMode::from_words(&words.get(begin + 1..end)?.join(" "))
    });
    found.lock_all(phrase.names(at), mode.unwrap_or(LockMode::AccessExclusive));
}
