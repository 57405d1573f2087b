//! One file for each command, named as it is typed.

mod check;
mod completions;
mod diff;
mod doctor;
mod export;
mod guard;
mod health;
mod history;
mod init;
mod key;
pub mod list;
mod man;
mod migrate;
mod pin;
mod prove;
mod prune;
mod recover;
mod rescue;
mod restore;
mod settle;
mod show;
mod snapshot;
mod status;
mod undo;

use crate::arguments::Command;
use crate::report::{Failure, Report};
use crate::surroundings::Surroundings;

/// The command as JSON results and runs call it.
pub fn name(command: Option<&Command>) -> &'static str {
    match command {
        None => "status",
        Some(Command::Init(_)) => "init",
        Some(Command::Doctor) => "doctor",
        Some(Command::Snapshot(_)) => "snapshot",
        Some(Command::List(_)) => "list",
        Some(Command::Show(_)) => "show",
        Some(Command::Diff(_)) => "diff",
        Some(Command::Check(_)) => "check",
        Some(Command::Prove(_)) => "prove",
        Some(Command::Migrate(which)) => migrate::name(which),
        Some(Command::Restore(_)) => "restore",
        Some(Command::Undo(_)) => "undo",
        Some(Command::Recover(_)) => "recover",
        Some(Command::Settle(_)) => "settle",
        Some(Command::Rescue(_)) => "rescue",
        Some(Command::Prune(_)) => "prune",
        Some(Command::Pin(_)) => "pin",
        Some(Command::Unpin(_)) => "unpin",
        Some(Command::Health(_)) => "health",
        Some(Command::Guard(_)) => "guard",
        Some(Command::Export(_)) => "export",
        Some(Command::History(_)) => "history",
        Some(Command::Key(which)) => key::name(which),
        Some(Command::Completions { .. }) => "completions",
        Some(Command::Man { .. }) => "man",
    }
}

pub async fn execute(surroundings: &Surroundings, command: Option<Command>) -> Result<Report, Failure> {
    match command {
        None => status::run(surroundings).await,
        Some(Command::Init(arguments)) => init::run(surroundings, arguments).await,
        Some(Command::Doctor) => doctor::run(surroundings).await,
        Some(Command::Snapshot(arguments)) => snapshot::run(surroundings, arguments).await,
        Some(Command::List(arguments)) => list::run(surroundings, arguments).await,
        Some(Command::Show(arguments)) => show::run(surroundings, arguments).await,
        Some(Command::Diff(arguments)) => diff::run(surroundings, arguments).await,
        Some(Command::Check(arguments)) => check::run(surroundings, arguments).await,
        Some(Command::Prove(arguments)) => prove::run(surroundings, arguments).await,
        Some(Command::Migrate(which)) => migrate::run(surroundings, which).await,
        Some(Command::Restore(arguments)) => restore::run(surroundings, arguments).await,
        Some(Command::Undo(arguments)) => undo::run(surroundings, arguments).await,
        Some(Command::Recover(arguments)) => recover::run(surroundings, arguments).await,
        Some(Command::Settle(arguments)) => settle::run(surroundings, arguments).await,
        Some(Command::Rescue(arguments)) => rescue::run(surroundings, arguments).await,
        Some(Command::Prune(arguments)) => prune::run(surroundings, arguments).await,
        Some(Command::Pin(arguments)) => pin::pin(surroundings, arguments).await,
        Some(Command::Unpin(arguments)) => pin::unpin(surroundings, arguments).await,
        Some(Command::Health(arguments)) => health::run(surroundings, arguments).await,
        Some(Command::Guard(arguments)) => guard::run(surroundings, arguments).await,
        Some(Command::Export(arguments)) => export::run(surroundings, arguments).await,
        Some(Command::History(arguments)) => history::run(surroundings, arguments).await,
        Some(Command::Key(which)) => key::run(surroundings, which).await,
        Some(Command::Completions { shell }) => Ok(completions::run(shell)),
        Some(Command::Man { folder }) => man::run(&folder),
    }
}
