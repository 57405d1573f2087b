use serde::Serialize;
use squawk_linter::{Linter, Rule};
use squawk_syntax::SourceFile;

use crate::folder::Script;

/// Larger files are data, and would take the linter long.
const LINT_BYTES_MAX: usize = 1 << 20;

/// Advice about a file: none of it stops a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    pub file: String,
    pub line: u32,
    pub rule: String,
    pub text: String,
    pub help: Option<String>,
}

/// What squawk has to say about a file, for the server's major version.
pub(crate) fn lint(script: &Script, major: i32) -> Vec<Advice> {
    let sql = script.sql.strip_prefix('\u{feff}').unwrap_or(&script.sql);
    if sql.len() > LINT_BYTES_MAX {
        let text = format!("is larger than {} KiB and was not looked at", LINT_BYTES_MAX >> 10);
        return vec![Advice { file: script.file.clone(), line: 1, rule: "size".to_owned(), text, help: None }];
    }
    let parsed = SourceFile::parse(sql);
    // Timeouts are what the runner sets itself.
    let mut linter = Linter::with_rules(&[], &[Rule::RequireLockTimeout, Rule::RequireStatementTimeout]);
    linter.settings.assume_in_transaction = !script.no_transaction;
    if let Ok(version) = major.to_string().parse() {
        linter.settings.pg_version = version;
    }
    let mut advice: Vec<Advice> = linter
        .lint(&parsed, sql)
        .into_iter()
        .map(|violation| Advice {
            file: script.file.clone(),
            line: line_at(sql, usize::from(violation.text_range.start())),
            rule: violation.code.to_string(),
            text: violation.message,
            help: violation.help,
        })
        .collect();
    // The linter's parser is not PostgreSQL's: what it cannot read may well be right.
    advice.extend(parsed.errors().into_iter().take(3).map(|error| Advice {
        file: script.file.clone(),
        line: line_at(sql, usize::from(error.range().start())),
        rule: "syntax".to_owned(),
        text: format!("may be wrong: {}", error.message()),
        help: None,
    }));
    advice
}

fn line_at(sql: &str, offset: usize) -> u32 {
    let before = sql.as_bytes().get(..offset).unwrap_or_default();
    u32::try_from(before.iter().filter(|&&byte| byte == b'\n').count()).unwrap_or(u32::MAX).saturating_add(1)
}
