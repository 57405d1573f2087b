use std::io::{self, Write};

use super::screen;
use crate::arguments::Everywhere;
use crate::report::{Failure, Report};

/// The only place that writes to standard output and standard error.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    json: bool,
    quiet: bool,
    colour: bool,
}

/// What stands out where a line begins with it: red and cyan.
const WORDS: &[(&str, &str)] = &[("error", "\x1b[1;31m"), ("hint", "\x1b[36m")];
const PLAIN: &str = "\x1b[0m";

impl Printer {
    pub fn new(everywhere: &Everywhere) -> Self {
        let colour = !everywhere.no_color && screen::is_screen(&io::stderr());
        Self { json: everywhere.json, quiet: everywhere.quiet, colour }
    }

    /// Before the command line is understood.
    pub fn plain(json: bool) -> Self {
        Self { json, quiet: false, colour: false }
    }

    /// Data goes to standard output, everything else to standard error.
    pub fn print(self, command: &str, report: &Report) {
        let text = if self.json { report.json(command).to_string() } else { report.text.clone() };
        if !text.is_empty() {
            let mut output = io::stdout().lock();
            let text = if self.json { text } else { screen::folded(&text, &output) };
            // A reader that went away, as `| head` does, is nothing to report.
            let _ = output.write_all(text.as_bytes());
            if !text.ends_with('\n') {
                let _ = output.write_all(b"\n");
            }
            let _ = output.flush();
        }
        if let Some(error) = &report.error {
            self.fail(error);
        }
    }

    fn fail(self, failure: &Failure) {
        let mut text = format!("error: {}\n", failure.what.first().map_or("", String::as_str));
        for cause in failure.what.iter().skip(1) {
            text.push_str(&format!("  because {cause}\n"));
        }
        text.push_str(&format!("state: {}\n", failure.state.words()));
        for hint in &failure.hints {
            text.push_str(&format!("hint: {hint}\n"));
        }
        self.say(&text);
    }

    /// A line for a person that is not the result.
    pub fn note(self, text: &str) {
        if !self.quiet {
            self.say(&format!("{text}\n"));
        }
    }

    fn say(self, text: &str) {
        let mut output = io::stderr().lock();
        let text = self.painted(&screen::folded(text, &output));
        let _ = output.write_all(text.as_bytes());
    }

    /// The words that a line begins with. What is folded already: colours take no room.
    fn painted(self, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let lines = text.split_inclusive('\n').map(|line| {
            let painted = WORDS.iter().find_map(|(word, colour)| {
                let rest = line.strip_prefix(word)?;
                rest.starts_with(':').then(|| format!("{colour}{word}{PLAIN}{rest}"))
            });
            painted.unwrap_or_else(|| line.to_owned())
        });
        lines.collect()
    }
}
