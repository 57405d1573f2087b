use clap::CommandFactory;
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::report::Report;

pub fn run(shell: Shell) -> Report {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "backstay", &mut text);
    Report::seen(String::from_utf8_lossy(&text))
}
