//! The `backstay` command: arguments, wiring, printing, exit codes.
//!
//! The only crate that prints, reads argv and the environment, or ends the process. What happens is
//! in the crates below; a file in `commands` says in which order, and `advice` says what to do about
//! what went wrong.

mod advice;
mod arguments;
mod commands;
mod exit;
mod output;
mod report;
mod surroundings;
mod wiring;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::arguments::Arguments;
use crate::exit::Exit;
use crate::report::{Failure, Report};
use crate::surroundings::Surroundings;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A broken pipe while printing help is nothing to report.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { Exit::Done } else { Exit::Usage }.into();
        }
    };
    let surroundings = Surroundings::read(arguments.everywhere.clone());
    let printer = surroundings.printer;
    let name = commands::name(arguments.command.as_ref());
    let report = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(async {
            surroundings.heed_signals();
            commands::execute(&surroundings, arguments.command).await.unwrap_or_else(Report::from)
        }),
        Err(error) => Failure::new(Exit::Environment, format!("cannot start: {error}")).into(),
    };
    printer.print(name, &report);
    report.exit.into()
}
