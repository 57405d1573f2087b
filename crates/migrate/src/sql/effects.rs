use super::kind::Phrase;
use super::lexer::{Lexer, Token};
use super::split::Statement;

/// What a file does that a later file of the same transaction would notice, although it would not
/// if each file were committed by itself.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Values it adds to enumerated types: unusable before COMMIT.
    pub(crate) enum_values: Vec<String>,
    /// Tables whose rows it changes, by their last name.
    pub(crate) written: Vec<String>,
    /// Tables it alters, drops, truncates or indexes.
    pub(crate) altered: Vec<String>,
    /// Whether it speaks of constraints or triggers that wait for COMMIT.
    pub(crate) defers: bool,
    /// Settings that `SET LOCAL` changes until COMMIT.
    pub(crate) local_settings: Vec<String>,
    /// Something else that lasts until COMMIT, in words.
    pub(crate) until_commit: Option<&'static str>,
    /// Whether it must be the first of a transaction.
    pub(crate) sets_transaction: bool,
    /// String constants, where `enum_values` of others may be used.
    pub(crate) strings: Vec<String>,
}

const STRINGS_MAX: usize = 20_000;
const STRING_BYTES_MAX: usize = 63;

/// Reads the effects of a file from its statements.
pub(crate) fn effects(statements: &[Statement<'_>]) -> Effects {
    let mut effects = Effects::default();
    for statement in statements {
        let phrase = Phrase::of(statement.text);
        effects.settings(&phrase);
        effects.tables(&phrase);
        if phrase.begins(&["ALTER", "TYPE"]) && phrase.has("ADD") && phrase.has("VALUE") {
            effects.enum_value(statement.text);
        } else {
            effects.constants(statement.text);
        }
    }
    effects
}

impl Effects {
    fn settings(&mut self, phrase: &Phrase) {
        match (phrase.at(0), phrase.at(1)) {
            ("SET", "LOCAL") if matches!(phrase.at(2), "ROLE" | "SESSION") => {
                self.until_commit = Some("SET LOCAL ROLE lasts until COMMIT");
            }
            ("SET", "LOCAL") if phrase.at(2) == "TIME" => self.local_settings.push("timezone".to_owned()),
            ("SET", "LOCAL") => {
                let name = if phrase.at(3) == "." {
                    format!("{}.{}", phrase.at(2), phrase.at(4))
                } else {
                    phrase.at(2).to_owned()
                };
                self.local_settings.push(name.to_lowercase());
            }
            ("SET", "TRANSACTION") => self.sets_transaction = true,
            ("SET", "CONSTRAINTS") => self.until_commit = Some("SET CONSTRAINTS lasts until COMMIT"),
            ("SELECT", _) if phrase.has("SET_CONFIG") && phrase.has("TRUE") => {
                self.until_commit = Some("set_config(…, true) lasts until COMMIT");
            }
            ("DECLARE", _) => self.until_commit = Some("a cursor lasts until COMMIT"),
            _ => {}
        }
        if phrase.begins(&["CREATE"]) && phrase.has("COMMIT") && (phrase.has("TEMP") || phrase.has("TEMPORARY")) {
            self.until_commit = Some("a temporary table with ON COMMIT lasts until COMMIT");
        }
        self.defers = self.defers
            || phrase.begins(&["CREATE", "CONSTRAINT", "TRIGGER"])
            || phrase.has("DEFERRABLE")
            || phrase.has("DEFERRED");
    }

    fn tables(&mut self, phrase: &Phrase) {
        let (list, at) = match (phrase.at(0), phrase.at(1), phrase.at(2)) {
            ("INSERT" | "MERGE", "INTO", _) | ("DELETE", "FROM", _) => (&mut self.written, 2),
            ("UPDATE", _, _) => (&mut self.written, 1),
            ("ALTER" | "DROP", "TABLE", _) => (&mut self.altered, 2),
            ("TRUNCATE", _, _) => (&mut self.altered, 1),
            ("CREATE", "INDEX" | "UNIQUE" | "TRIGGER" | "CONSTRAINT", _) => {
                if let Some(name) = table_after_on(phrase) {
                    self.altered.push(name);
                }
                return;
            }
            _ => return,
        };
        let skipped = |word: &str| matches!(word, "ONLY" | "TABLE" | "IF" | "EXISTS" | "NOT");
        let start = (at..at + 4).find(|&index| !skipped(phrase.at(index))).unwrap_or(at);
        if let Some((name, _)) = phrase.name(start) {
            list.push(name.name);
        }
    }

    fn enum_value(&mut self, sql: &str) {
        let value = Lexer::new(sql).find(|(token, _, _)| *token == Token::Text);
        if let Some((_, start, end)) = value {
            self.enum_values.push(constant(sql.get(start..end).unwrap_or_default()));
        }
    }

    fn constants(&mut self, sql: &str) {
        for (token, start, end) in Lexer::new(sql) {
            if token == Token::Text && self.strings.len() < STRINGS_MAX {
                let text = sql.get(start..end).unwrap_or_default();
                if text.starts_with('$') {
                    self.constants_inside(text);
                } else if text.len() <= STRING_BYTES_MAX + 2 {
                    self.strings.push(constant(text));
                }
            }
        }
    }

    /// A DO block's constants count; deeper quotes do not.
    fn constants_inside(&mut self, text: &str) {
        let body = within_dollars(text);
        for (token, start, end) in Lexer::new(body) {
            if token == Token::Text && end - start <= STRING_BYTES_MAX + 2 && self.strings.len() < STRINGS_MAX {
                self.strings.push(constant(body.get(start..end).unwrap_or_default()));
            }
        }
    }
}

/// What stands between the dollars of each string in them.
pub(crate) fn dollar_quoted(sql: &str) -> Vec<&str> {
    let texts = Lexer::new(sql).filter(|(token, _, _)| *token == Token::Text);
    let texts = texts.filter_map(|(_, start, end)| sql.get(start..end));
    texts.filter(|text| text.starts_with('$')).map(within_dollars).collect()
}

fn within_dollars(text: &str) -> &str {
    let tag = text.get(1..).and_then(|rest| rest.find('$')).map_or(0, |at| at + 2);
    text.get(tag..text.len().saturating_sub(tag)).unwrap_or_default()
}

fn table_after_on(phrase: &Phrase) -> Option<String> {
    let on = (2..32).find(|&index| phrase.at(index) == "ON")?;
    let start = if phrase.at(on + 1) == "ONLY" { on + 2 } else { on + 1 };
    phrase.name(start).map(|(name, _)| name.name)
}

fn constant(text: &str) -> String {
    let start = text.find('\'').map_or(0, |at| at + 1);
    text.get(start..).and_then(|rest| rest.strip_suffix('\'')).unwrap_or(text).replace("''", "'")
}

#[cfg(test)]
mod tests {
    use super::super::split;
    use super::*;

    fn of(sql: &str) -> Effects {
        effects(&split(sql).unwrap())
    }

    #[test]
    fn the_effects_that_matter_before_commit_are_read() {
        let found = of("alter type mood add value if not exists 'it''s' before 'x'; set local lock_timeout = '1s';
            insert into public.\"Orders\" values ('a'); create index on only shop.items (a);
            update only t set a = 'b'; truncate table x; do $$ begin perform 'c'; end $$");
        assert_eq!(found.enum_values, ["it's"]);
        assert_eq!(found.written, ["Orders", "t"]);
        assert_eq!(found.altered, ["items", "x"]);
        assert_eq!(found.local_settings, ["lock_timeout"]);
        assert_eq!(found.strings, ["1s", "a", "b", "c"]);
        assert!(!found.defers && found.until_commit.is_none());
    }

    #[test]
    fn what_lasts_until_commit_is_named() {
        assert!(of("set constraints all deferred").until_commit.is_some());
        assert!(of("select set_config('a.b', 'c', true)").until_commit.is_some());
        assert!(of("create temp table t (a int) on commit drop").until_commit.is_some());
        assert!(of("set transaction isolation level serializable").sets_transaction);
        assert!(of("alter table a add foreign key (b) references c deferrable initially deferred").defers);
        assert!(of("set session x = 1; select 1").until_commit.is_none());
    }
}
