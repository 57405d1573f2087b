use super::forecast::{Expected, Forecast};
use super::kind::{Phrase, RelationName};
use crate::lock_mode::LockMode;

const VOLATILE: &[&str] = &[
    "CLOCK_TIMESTAMP",
    "GEN_RANDOM_UUID",
    "NEXTVAL",
    "RANDOM",
    "SETVAL",
    "TIMEOFDAY",
    "UUIDV4",
    "UUIDV7",
    "UUID_GENERATE_V1",
    "UUID_GENERATE_V4",
];
/// The same for all rows of one statement, although published advice often says otherwise.
const STABLE: &[&str] = &["NOW", "TRANSACTION_TIMESTAMP", "STATEMENT_TIMESTAMP", "CURRENT_SETTING", "TO_CHAR", "LOWER"];
const SERIAL: &[&str] = &["SERIAL", "BIGSERIAL", "SMALLSERIAL", "SERIAL4", "SERIAL8", "SERIAL2"];

/// `ALTER TABLE`, action by action.
pub(super) fn table(found: &mut Forecast, phrase: &Phrase) {
    let at = phrase.skip(2, &["ALL", "IN", "IF", "EXISTS", "ONLY"]);
    let Some((name, end)) = phrase.name(at) else { return };
    for action in actions(phrase.words().get(end..).unwrap_or_default()) {
        one(found, &name, &action);
    }
}

/// The words of each action: commas in parentheses separate nothing.
fn actions(words: &[String]) -> Vec<Phrase> {
    let mut depth = 0_u32;
    let at_comma = |word: &String| {
        match word.as_str() {
            "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        word == "," && depth == 0
    };
    words.split(at_comma).map(|action| Phrase::from_words(action.to_vec())).collect()
}

fn one(found: &mut Forecast, table: &RelationName, action: &Phrase) {
    let named = |at| action.name(at).map(|(name, _)| name);
    let mut mode = LockMode::AccessExclusive;
    match (action.at(0), action.at(1)) {
        ("ADD", _) => return add(found, table, action),
        ("ALTER", _) => mode = column(found, action),
        ("SET", "LOGGED" | "UNLOGGED" | "TABLESPACE" | "ACCESS") => {
            found.rewrite(Expected::Yes);
            found.scan(Expected::Depends("its blocks or its rows are copied"));
        }
        ("SET" | "RESET", "(") | ("CLUSTER", _) => mode = LockMode::ShareUpdateExclusive,
        ("SET", "WITHOUT") if action.at(2) == "CLUSTER" => mode = LockMode::ShareUpdateExclusive,
        ("VALIDATE", _) => {
            mode = LockMode::ShareUpdateExclusive;
            found.scan(Expected::Depends("unless it is valid already"));
        }
        ("ENABLE" | "DISABLE", "TRIGGER") => mode = LockMode::ShareRowExclusive,
        ("ENABLE", "REPLICA" | "ALWAYS") if action.at(2) == "TRIGGER" => mode = LockMode::ShareRowExclusive,
        ("DROP", "CONSTRAINT") => {
            let at = action.skip(2, &["IF", "EXISTS"]);
            found.drops_keys.extend(action.name(at).map(|(key, _)| key.name));
        }
        ("DROP", _) => {
            let at = action.skip(1, &["COLUMN", "IF", "EXISTS"]);
            found.drops_columns.extend(action.name(at).map(|(column, _)| column.name));
        }
        ("ATTACH", _) => {
            mode = LockMode::ShareUpdateExclusive;
            found.alone = true;
            found.lock(named(2), LockMode::AccessExclusive);
            found.scan(Expected::Depends("unless a CHECK of the partition proves its bounds"));
        }
        ("DETACH", _) => {
            let concurrently = action.has("CONCURRENTLY");
            found.alone = true;
            found.lock(named(2), LockMode::AccessExclusive);
            mode = if concurrently { LockMode::ShareUpdateExclusive } else { LockMode::AccessExclusive };
        }
        ("INHERIT", _) => found.lock(named(1), LockMode::ShareUpdateExclusive),
        ("NO", "INHERIT") => found.lock(named(2), LockMode::AccessShare),
        _ => {}
    }
    found.lock(Some(table.clone()), mode);
}

fn add(found: &mut Forecast, table: &RelationName, action: &Phrase) {
    let at = if action.at(1) == "CONSTRAINT" { 3 } else { 1 };
    let not_valid = action.has("VALID");
    let scanned = if not_valid { Expected::No } else { Expected::Yes };
    match (action.at(at), action.at(at + 1)) {
        ("FOREIGN", "KEY") => {
            found.lock(Some(table.clone()), LockMode::ShareRowExclusive);
            found.lock(action.name_behind("REFERENCES", at), LockMode::ShareRowExclusive);
            found.scan(scanned);
            return;
        }
        ("UNIQUE" | "PRIMARY" | "EXCLUDE", _) => {
            let promoted = action.has("USING") && action.has("INDEX");
            found.scan(if promoted { Expected::Depends("where columns are not NOT NULL yet") } else { Expected::Yes });
        }
        ("CHECK", _) => found.scan(scanned),
        ("NOT", "NULL") if at == 3 => found.scan(scanned),
        _ => added_column(found, action),
    }
    found.lock(Some(table.clone()), LockMode::AccessExclusive);
}

fn added_column(found: &mut Forecast, action: &Phrase) {
    let generated = action.has("GENERATED");
    let computed = if generated && (action.has("IDENTITY") || action.has("STORED")) {
        Expected::Yes
    } else if generated {
        Expected::No
    } else {
        default(action)
    };
    found.rewrite(computed);
    found.scan(computed);
    if action.has("UNIQUE") || action.has("PRIMARY") || action.has("CHECK") {
        found.scan(Expected::Yes);
    }
    if let Some(referenced) = action.name_behind("REFERENCES", 1) {
        found.lock(Some(referenced), LockMode::ShareRowExclusive);
        if action.has("DEFAULT") {
            found.scan(Expected::Yes);
        }
    }
}

/// Whether the default of a new column must be computed for each row.
fn default(action: &Phrase) -> Expected {
    let words = action.words();
    if words.iter().any(|word| SERIAL.contains(&word.as_str())) {
        return Expected::Yes;
    }
    let Some(at) = words.iter().position(|word| word == "DEFAULT") else { return Expected::No };
    let mut expected = Expected::No;
    for (place, word) in words.iter().enumerate().skip(at + 1) {
        if matches!(word.as_str(), "CHECK" | "REFERENCES" | "CONSTRAINT" | "COLLATE") {
            break;
        }
        let called = action.at(place + 1) == "(" && word.chars().all(|one| one.is_alphanumeric() || one == '_');
        if called && VOLATILE.contains(&word.as_str()) {
            return Expected::Yes;
        }
        if called && !STABLE.contains(&word.as_str()) && word != "DEFAULT" {
            expected = Expected::Depends("where the default calls something volatile");
        }
    }
    expected
}

fn column(found: &mut Forecast, action: &Phrase) -> LockMode {
    if action.at(1) == "CONSTRAINT" {
        return LockMode::AccessExclusive;
    }
    let at = if action.at(1) == "COLUMN" { 3 } else { 2 };
    match (action.at(at), action.at(at + 1)) {
        ("TYPE", _) | ("SET", "DATA") => {
            let why = Expected::Depends("unless the old type is stored as the new one is, and takes no less");
            // A foreign key of the column is made anew.
            let column = action.name(if action.at(1) == "COLUMN" { 2 } else { 1 });
            found.drops_columns.extend(column.map(|(column, _)| column.name));
            found.rewrite(why);
            found.scan(why);
        }
        ("SET", "NOT") => found.scan(Expected::Depends("unless a valid CHECK proves it, or it holds already")),
        ("SET", "EXPRESSION") => {
            found.rewrite(Expected::Depends("unless the column is virtual"));
            found.scan(Expected::Depends("unless the column is virtual"));
        }
        ("SET", "STATISTICS" | "(") | ("RESET", _) => return LockMode::ShareUpdateExclusive,
        _ => {}
    }
    LockMode::AccessExclusive
}
