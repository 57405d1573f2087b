use backstay_postgres::Error;

use super::Advice;
use crate::exit::Exit;

pub fn advice(error: &Error) -> Advice {
    let environment = Advice::exit(Exit::Environment);
    match error {
        Error::Settings { .. } | Error::ReadFile { .. } => environment.hint("mend the database's `url` in backstay.toml, or what it refers to"),
        Error::Connect { .. } => environment.hint("`backstay doctor` tries every connection; the server's log says more"),
        Error::ConnectTimeout { .. } => environment.hint("is the server up, and does a firewall let this host through?"),
        Error::Pooler { .. } => environment.hint("pools in session mode work as well"),
        Error::NoTool { package, .. } => environment.hint(format!("apt-get install {package}")),
        Error::Unreadable { tables, .. } => Advice::exit(Exit::Failed)
            .hint(format!("give the role the right to read every row (BYPASSRLS, or SELECT on {}), or leave the rows out with `exclude_rows`", tables.join(", "))),
        Error::RecoveryConflict { .. } => {
            Advice::exit(Exit::Failed).hint("run this again, or take the snapshot from the primary")
        }
        Error::Locked { .. } => Advice::exit(Exit::Failed).hint("wait for that session to end, or end it, and run this again"),
        Error::TooFewLocks { .. } => {
            Advice::exit(Exit::Failed).hint("raise max_locks_per_transaction in postgresql.conf, and restart the server")
        }
        Error::NotUtf8 { .. } => Advice::exit(Exit::Failed).hint("rename the table or column in ASCII or UTF-8 first"),
        Error::Moving { .. } => Advice::exit(Exit::Failed).hint("run it again when no migration is at work"),
        Error::Interrupted => Advice::exit(Exit::Interrupted),
        _ => Advice::default(),
    }
}
