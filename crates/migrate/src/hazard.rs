use crate::folder::Script;
use crate::lint::Advice;
use crate::sql::{Phrase, Statement, dollar_quoted, effects};

/// Where a file may fail in a transaction although PostgreSQL understands every statement of it. Told as advice: a
/// constant may only happen to be spelt like the new value, and a branch with COMMIT may never be taken.
pub(crate) fn hazards(script: &Script) -> Vec<Advice> {
    let Ok(statements) = script.statements() else { return Vec::new() };
    if script.no_transaction {
        return Vec::new();
    }
    let mut added: Vec<String> = Vec::new();
    let mut found = Vec::new();
    for statement in &statements {
        let here = effects(std::slice::from_ref(statement));
        if let Some(value) = added.iter().find(|value| here.strings.contains(value)) {
            let text = format!("uses '{value}', which this file adds to an enumerated type: unusable before COMMIT");
            let help = "move what uses the value to a file of its own; a COMMIT is put before it";
            found.push(advice(script, statement, "enum-value-before-commit", text, help));
        }
        if let Some(word) = ends_transaction_inside(statement.text) {
            let text = format!("`{word}` in a DO block fails within the transaction that files run in");
            let help = "remove it, or make `-- no-transaction` the first line of the file";
            found.push(advice(script, statement, "commit-in-do", text, help));
        }
        added.extend(here.enum_values);
    }
    found
}

fn advice(script: &Script, statement: &Statement<'_>, rule: &str, text: String, help: &str) -> Advice {
    let help = Some(help.to_owned());
    Advice { file: script.file.clone(), line: statement.line, rule: rule.to_owned(), text, help }
}

fn ends_transaction_inside(sql: &str) -> Option<&'static str> {
    if !Phrase::of(sql).begins(&["DO"]) {
        return None;
    }
    dollar_quoted(sql).into_iter().find_map(|body| {
        let body = Phrase::whole(body);
        let ends = |word: &str| body.words().windows(2).any(|pair| matches!(pair, [a, b] if a == word && b == ";"));
        ["COMMIT", "ROLLBACK"].into_iter().find(|word| ends(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(sql: &str) -> Vec<(String, u32)> {
        let script = Script::from_text("1_a.sql", sql).unwrap();
        hazards(&script).into_iter().map(|advice| (advice.rule, advice.line)).collect()
    }

    #[test]
    fn what_would_fail_only_in_a_transaction_is_foreseen() {
        let enumerated = "alter type mood add value 'so so';\n";
        let found = |rule: &str, line| vec![(rule.to_owned(), line)];
        assert_eq!(rules(&format!("{enumerated}insert into t values ('so so')")), found("enum-value-before-commit", 2));
        assert_eq!(rules(&format!("insert into t values ('so so');{enumerated}")), []);
        assert_eq!(rules(&format!("{enumerated}insert into t values ('good')")), []);
        assert_eq!(rules(&format!("-- no-transaction\n{enumerated}insert into t values ('so so')")), []);
        let block = "\n\ndo $x$ begin perform 1; commit; end $x$";
        assert_eq!(rules(block), found("commit-in-do", 3));
        assert_eq!(rules(&format!("-- no-transaction{block}")), []);
        assert_eq!(rules("do $$ begin perform 'commit;'; -- commit;\nend $$"), []);
        assert_eq!(rules("create procedure p() language plpgsql as $$ begin commit; end $$"), []);
    }
}
