use sqlx::{AssertSqlSafe, Row};

use crate::{Error, Session};

/// How much of an assertion a finding repeats.
const SHOWN_CHARS: usize = 120;

/// Runs the user's own assertions, each in a transaction that can change nothing and with the search
/// path its database gives to everybody. What is not true, or cannot be asked, is a finding.
pub(super) async fn findings(session: &mut Session, assertions: &[String]) -> Result<Vec<String>, Error> {
    let mut findings = Vec::new();
    for assertion in assertions {
        session.execute("begin an assertion", "begin read only; set local search_path to default").await?;
        let answer =
            sqlx::query(AssertSqlSafe(assertion.clone())).persistent(false).fetch_all(&mut session.connection).await;
        session.execute("end an assertion", "rollback").await?;
        let shown: String = assertion.trim().chars().take(SHOWN_CHARS).collect();
        let not = match answer {
            Ok(rows) => match rows.as_slice() {
                [row] => match row.try_get::<Option<bool>, _>(0) {
                    Ok(Some(true)) => continue,
                    Ok(_) => "is not true".to_owned(),
                    Err(_) => "does not answer with a boolean".to_owned(),
                },
                rows => format!("answers with {} rows instead of one", rows.len()),
            },
            Err(error) => match error.as_database_error() {
                Some(refusal) => format!("cannot be asked: {}", refusal.message()),
                None => return Err(Error::query("run an assertion", &session.database)(error)),
            },
        };
        findings.push(format!("the assertion `{shown}` {not}"));
    }
    Ok(findings)
}
