//! The `backstay` command: arguments, wiring, printing, exit codes.
//!
//! The only crate that prints, reads argv and the environment, or ends the process. What happens is
//! in the crates below; a file in `commands` says in which order, and `advice` says what to do about
//! what went wrong.

mod advice;
mod archive_file;
mod arguments;
mod as_recorded;
mod chosen;
mod commands;
mod confirm;
#[cfg(test)]
mod documents_tests;
mod exit;
mod origin;
mod output;
mod report;
mod restored;
mod secret_file;
mod surroundings;
mod usage;
mod warm_copies;
mod wiring;

use std::env;
use std::ffi::OsString;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::arguments::{Arguments, Command};
use crate::exit::Exit;
use crate::output::Printer;
use crate::report::{Failure, Report, State};
use crate::surroundings::Surroundings;

fn main() -> ExitCode {
    let words: Vec<OsString> = env::args_os().collect();
    let arguments = match Arguments::try_parse_from(&words) {
        Ok(arguments) => arguments,
        Err(error) => return not_understood(&error, &words),
    };
    let surroundings = Surroundings::read(arguments.everywhere.clone());
    let printer = surroundings.printer;
    let name = commands::name(arguments.command.as_ref());
    // A panic is a bug of ours, and ends with the exit code for one.
    let ended = panic::catch_unwind(AssertUnwindSafe(|| {
        provoked_bug();
        run(&surroundings, arguments.command)
    }));
    let report = ended.unwrap_or_else(|_| bug());
    printer.print(name, &report);
    report.exit.into()
}

/// Help and the version that were asked for, or what is wrong with the command line.
fn not_understood(error: &clap::Error, words: &[OsString]) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A broken pipe while printing help is nothing to report.
        let _ = error.print();
        return Exit::Done.into();
    }
    let report: Report = usage::failure(error, words).into();
    let name = usage::command(words);
    Printer::plain(usage::wants_json(words)).print(if name.is_empty() { "unknown" } else { &name }, &report);
    report.exit.into()
}

fn run(surroundings: &Surroundings, command: Option<Command>) -> Report {
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(async {
            surroundings.heed_signals();
            let name = commands::name(command.as_ref());
            let report = commands::execute(surroundings, command).await.unwrap_or_else(Report::from);
            tell(surroundings, name, &report).await;
            report
        }),
        Err(error) => Failure::new(Exit::Environment, format!("cannot start: {error}")).into(),
    }
}

/// Hands the result of a run to the hook that wants it.
async fn tell(surroundings: &Surroundings, name: &str, report: &Report) {
    if report.run.is_none() {
        return;
    }
    let Ok(project) = wiring::Project::find(surroundings) else { return };
    if let Err(error) = wiring::Hooks::of(&project).on_result(&report.json(name)).await {
        surroundings.printer.note(&format!("warning: {error}"));
    }
}

/// What a bug looks like can be tried: only in a build for development, where this variable is set.
#[expect(clippy::panic, reason = "it stands in for the panic that nobody foresees")]
fn provoked_bug() {
    if cfg!(debug_assertions) && env::var_os("BACKSTAY_TEST_BUG").is_some() {
        panic!("BACKSTAY_TEST_BUG asked for this");
    }
}

fn bug() -> Report {
    let mut failure = Failure::new(Exit::Bug, "this is a bug in Backstay, said above")
        .hint("report it, with the command and everything it printed")
        .hint("`backstay` says whether a run is unfinished, `backstay recover` ends it");
    failure.state = State::Changed("not known: the run ended in the middle".to_owned());
    failure.into()
}
