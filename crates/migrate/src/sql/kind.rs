use super::lexer::{Lexer, Token};

/// Long enough to tell what a statement is; a huge INSERT is not read to its end for that.
const PHRASE_TOKENS_MAX: usize = 64;

/// How a statement begins: keywords in capitals, quoted names and strings as they stand.
pub(crate) struct Phrase {
    words: Vec<String>,
}

/// A statement that would end or nest the transaction a file runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Control(pub(crate) String);

/// Whether PostgreSQL accepts a statement inside a transaction block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockRule {
    Allowed,
    /// Refused with SQLSTATE 25001.
    Refused,
}

/// A relation as a statement names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelationName {
    pub(crate) schema: Option<String>,
    pub(crate) name: String,
}

impl Phrase {
    pub(crate) fn of(sql: &str) -> Self {
        Self { words: words(sql).take(PHRASE_TOKENS_MAX).collect() }
    }

    /// All of a statement, not only how it begins.
    pub(crate) fn whole(sql: &str) -> Self {
        Self { words: words(sql).collect() }
    }

    pub(crate) fn from_words(words: Vec<String>) -> Self {
        Self { words }
    }

    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }

    pub(crate) fn at(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    pub(crate) fn begins(&self, keywords: &[&str]) -> bool {
        keywords.iter().enumerate().all(|(index, keyword)| self.at(index) == *keyword)
    }

    pub(crate) fn has(&self, keyword: &str) -> bool {
        self.words.iter().any(|word| word == keyword)
    }

    /// The first keywords, for messages.
    pub(crate) fn opening(&self) -> String {
        let plain = |word: &&String| word.bytes().all(|byte| byte.is_ascii_uppercase());
        self.words.iter().take_while(plain).take(3).cloned().collect::<Vec<_>>().join(" ")
    }

    /// A possibly qualified name that starts at `index`, and where it ends.
    pub(crate) fn name(&self, index: usize) -> Option<(RelationName, usize)> {
        let first = unquoted(self.at(index))?;
        if self.at(index + 1) == "." {
            let name = unquoted(self.at(index + 2))?;
            return Some((RelationName { schema: Some(first), name }, index + 3));
        }
        Some((RelationName { schema: None, name: first }, index + 1))
    }

    /// The first place from `at` on that holds none of these.
    pub(crate) fn skip(&self, at: usize, words: &[&str]) -> usize {
        (at..=self.words.len()).find(|&index| !words.contains(&self.at(index))).unwrap_or(at)
    }

    /// Names with commas between them, each perhaps behind ONLY.
    pub(crate) fn names(&self, at: usize) -> Vec<RelationName> {
        let mut names = Vec::new();
        let mut at = self.skip(at, &["ONLY"]);
        while let Some((name, end)) = self.name(at) {
            names.push(name);
            let end = self.skip(end, &["*"]);
            if self.at(end) != "," {
                break;
            }
            at = self.skip(end + 1, &["ONLY"]);
        }
        names
    }

    /// The name behind the first such keyword from `at` on.
    pub(crate) fn name_behind(&self, keyword: &str, at: usize) -> Option<RelationName> {
        let found = self.words.iter().skip(at).position(|word| word == keyword)?;
        self.name(self.skip(at + found + 1, &["ONLY"])).map(|(name, _)| name)
    }

    /// The table in `table.column` or `schema.table.column`.
    pub(crate) fn table_of_column(&self, at: usize) -> Option<RelationName> {
        let (name, end) = self.name(at)?;
        if self.at(end) == "." {
            return Some(name);
        }
        name.schema.map(|table| RelationName { schema: None, name: table })
    }

    /// Where a list of options in parentheses at `at` ends; `at` where there is none.
    pub(crate) fn behind_parentheses(&self, at: usize) -> usize {
        let closed = || self.words.iter().skip(at).position(|word| word == ")");
        if self.at(at) == "(" { closed().map_or(at, |length| at + length + 1) } else { at }
    }
}

fn words(sql: &str) -> impl Iterator<Item = String> {
    let tokens = Lexer::new(sql).filter(|(token, _, _)| !matches!(token, Token::Space | Token::Comment));
    tokens.map(|(token, start, end)| {
        let text = sql.get(start..end).unwrap_or_default();
        if token == Token::Word { text.to_uppercase() } else { text.to_owned() }
    })
}

fn unquoted(word: &str) -> Option<String> {
    if let Some(inner) = word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return Some(inner.replace("\"\"", "\""));
    }
    let plain = word.chars().next().is_some_and(|first| first.is_alphabetic() || first == '_');
    plain.then(|| word.to_lowercase())
}

/// Whether the statement is transaction control. Savepoints are not: they stay inside.
pub(crate) fn control(phrase: &Phrase) -> Option<Control> {
    let ends_or_opens = match phrase.at(0) {
        "BEGIN" | "COMMIT" | "END" | "ABORT" => true,
        "START" => phrase.at(1) == "TRANSACTION",
        "PREPARE" => phrase.at(1) == "TRANSACTION",
        "ROLLBACK" => {
            !["TO", "WORK", "TRANSACTION"].contains(&phrase.at(1)) || {
                let target = if phrase.at(1) == "TO" { 1 } else { 2 };
                phrase.at(target) != "TO"
            }
        }
        _ => false,
    };
    ends_or_opens.then(|| Control(phrase.opening()))
}

/// Whether a transaction block takes the statement.
pub(crate) fn block_rule(phrase: &Phrase) -> BlockRule {
    let refused = match (phrase.at(0), phrase.at(1)) {
        ("VACUUM", _) => true,
        ("CREATE" | "DROP", "DATABASE" | "TABLESPACE") | ("ALTER", "SYSTEM") | ("DISCARD", "ALL") => true,
        ("COMMIT" | "ROLLBACK", "PREPARED") => true,
        ("ALTER", "DATABASE") => phrase.has("TABLESPACE") && phrase.at(3) == "SET",
        ("CLUSTER", "" | "VERBOSE") => phrase.at(2).is_empty(),
        ("CREATE", "INDEX") => phrase.at(2) == "CONCURRENTLY",
        ("CREATE", "UNIQUE") => phrase.at(3) == "CONCURRENTLY",
        ("DROP", "INDEX") => phrase.at(2) == "CONCURRENTLY",
        ("REINDEX", _) => reindex_is_refused(phrase),
        ("REPACK", _) => phrase.has("CONCURRENTLY"),
        ("ALTER", "TABLE") => phrase.has("DETACH") && phrase.has("CONCURRENTLY"),
        ("CREATE", "SUBSCRIPTION") => !connects_nowhere(phrase),
        _ => false,
    };
    if refused { BlockRule::Refused } else { BlockRule::Allowed }
}

fn reindex_is_refused(phrase: &Phrase) -> bool {
    let words = &phrase.words;
    let wide = |word: &String| matches!(word.as_str(), "SCHEMA" | "DATABASE" | "SYSTEM");
    let target = words.iter().position(|word| matches!(word.as_str(), "INDEX" | "TABLE") || wide(word));
    let before_name = target.map_or(words.len(), |at| at + 2);
    words.iter().take(before_name).any(|word| word == "CONCURRENTLY" || wide(word))
}

fn connects_nowhere(phrase: &Phrase) -> bool {
    let off = |option: &str| {
        phrase.words.windows(3).any(|three| {
            matches!(three, [name, equals, value]
                if name == option && equals == "=" && matches!(value.to_lowercase().trim_matches('\''), "false" | "off" | "0" | "no"))
        })
    };
    off("CONNECT") || off("CREATE_SLOT")
}

/// The index that `CREATE INDEX CONCURRENTLY` names.
pub(crate) fn index_built(phrase: &Phrase) -> Option<RelationName> {
    let after_index = match (phrase.at(0), phrase.at(1), phrase.at(2)) {
        ("CREATE", "INDEX", "CONCURRENTLY") => 3,
        ("CREATE", "UNIQUE", "INDEX") if phrase.at(3) == "CONCURRENTLY" => 4,
        _ => return None,
    };
    let exists =
        ["IF", "NOT", "EXISTS"].iter().enumerate().all(|(ahead, word)| phrase.at(after_index + ahead) == *word);
    let (name, _) = phrase.name(if exists { after_index + 3 } else { after_index })?;
    (phrase.at(after_index) != "ON").then_some(name)
}

/// What the statement does outside of the database, which no rollback takes back.
pub(crate) fn external_effect(sql: &str) -> Option<&'static str> {
    let mut previous = String::new();
    for (token, start, end) in Lexer::new(sql) {
        if matches!(token, Token::Space | Token::Comment) {
            continue;
        }
        let word = sql.get(start..end).unwrap_or_default().to_lowercase();
        let found = match word.as_str() {
            "program" if matches!(previous.as_str(), "to" | "from") => Some("runs a program on the server"),
            "dblink" | "dblink_exec" | "dblink_connect" | "dblink_send_query" => {
                Some("calls another database (dblink)")
            }
            "http_get" | "http_post" | "http_put" | "http_delete" => Some("calls out by HTTP"),
            "pg_advisory_lock" | "pg_try_advisory_lock" => Some("takes a lock of the session"),
            "lo_import" | "lo_export" => Some("reads or writes files of the server"),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
        previous = word;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(sql: &str) -> BlockRule {
        block_rule(&Phrase::of(sql))
    }

    #[test]
    fn what_a_block_refuses_is_known_beforehand() {
        for sql in [
            "vacuum",
            "VACUUM (analyze) t",
            "create database x",
            "drop tablespace x",
            "alter system set work_mem = '1MB'",
            "alter database x set tablespace y",
            "cluster",
            "create index concurrently on t (a)",
            "create unique index concurrently if not exists i on t (a)",
            "drop index concurrently i",
            "reindex table concurrently t",
            "reindex (concurrently, verbose) index i",
            "reindex schema public",
            "reindex database",
            "alter table t detach partition p concurrently",
            "discard all",
            "create subscription s connection 'x' publication p",
            "commit prepared 'x'",
        ] {
            assert_eq!(rule(sql), BlockRule::Refused, "{sql}");
        }
        for sql in [
            "alter type t add value 'x'",
            "refresh materialized view concurrently v",
            "reindex table t",
            "reindex index \"CONCURRENTLY\"",
            "cluster t",
            "analyze",
            "alter table t detach partition p",
            "create extension hstore",
            "create index \"concurrently\" on t (a)",
            "alter table t set tablespace x",
            "alter database x set work_mem = '1MB'",
            "create subscription s connection 'x' publication p with (connect = false)",
            "select 'vacuum'",
        ] {
            assert_eq!(rule(sql), BlockRule::Allowed, "{sql}");
        }
    }

    #[test]
    fn transaction_control_is_told_from_savepoints() {
        for sql in
            ["begin", "START /* x */ TRANSACTION", "commit and chain", "end", "rollback", "abort", "rollback work"]
        {
            assert!(control(&Phrase::of(sql)).is_some(), "{sql}");
        }
        for sql in ["savepoint a", "rollback to a", "rollback work to savepoint a", "release a", "select 'commit'"] {
            assert!(control(&Phrase::of(sql)).is_none(), "{sql}");
        }
    }

    #[test]
    fn the_index_a_statement_builds_is_named() {
        let name = |sql| index_built(&Phrase::of(sql)).map(|found| (found.schema, found.name));
        assert_eq!(name("create index concurrently I on t (a)"), Some((None, "i".to_owned())));
        let quoted = "create unique index concurrently if not exists \"I x\" on t (a)";
        assert_eq!(name(quoted), Some((None, "I x".to_owned())));
        assert_eq!(name("create index concurrently on t (a)"), None);
        assert_eq!(name("create index i on t (a)"), None);
    }

    #[test]
    fn effects_outside_of_the_database_are_seen() {
        assert!(external_effect("copy t to program 'curl x'").is_some());
        assert!(external_effect("select dblink_exec('x', 'y')").is_some());
        assert!(external_effect("select 'dblink'").is_none());
    }
}
