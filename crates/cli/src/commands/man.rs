use std::fs;
use std::path::Path;

use clap::CommandFactory;

use crate::arguments::Arguments;
use crate::exit::Exit;
use crate::report::{Failure, Report};

pub fn run(folder: &Path) -> Result<Report, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Environment, format!("cannot write into {}: {error}", folder.display()))
    };
    fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command().disable_help_subcommand(true), folder).map_err(failed)?;
    Ok(Report::changed(format!("The manual pages are in {}.", folder.display())))
}
