//! What a command line that cannot be understood is answered with: the same form as every other error.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use clap::{Command, CommandFactory, Error};

use crate::arguments::Arguments;
use crate::report::Failure;

/// The failure that such a command line is, with what was probably meant.
pub fn failure(error: &Error, words: &[OsString]) -> Failure {
    let said = error.to_string();
    let first = said.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    let what = first.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let failure = suggestions(error).iter().fold(Failure::usage(what), |failure, meant| failure.hint(meant.clone()));
    let name = command(words);
    let of_command = if name.is_empty() { String::new() } else { format!(" {name}") };
    failure.hint(format!("`backstay{of_command} --help` says what it takes"))
}

fn suggestions(error: &Error) -> Vec<String> {
    let kinds = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
    let mut hints = Vec::new();
    for found in kinds.iter().filter_map(|kind| error.get(*kind)) {
        let names: Vec<String> = match found {
            ContextValue::String(name) => vec![format!("`{name}`")],
            ContextValue::Strings(names) => names.iter().map(|name| format!("`{name}`")).collect(),
            _ => continue,
        };
        if !names.is_empty() {
            hints.push(format!("did you mean {}?", names.join(" or ")));
        }
    }
    hints
}

/// The command as far as the words name one: `migrate run`, or nothing.
pub fn command(words: &[OsString]) -> String {
    let mut at: Command = Arguments::command();
    let mut names: Vec<String> = Vec::new();
    for word in before_the_deploy(words) {
        let Some(found) = word.to_str().and_then(|word| at.find_subcommand(word)) else { continue };
        names.push(found.get_name().to_owned());
        at = found.clone();
    }
    names.join(" ")
}

/// Whether the words ask for JSON; the parser gave up before it could say so.
pub fn wants_json(words: &[OsString]) -> bool {
    before_the_deploy(words).any(|word| word == "--json")
}

fn before_the_deploy(words: &[OsString]) -> impl Iterator<Item = &OsString> {
    words.iter().skip(1).take_while(|word| *word != "--")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn answered(line: &str) -> Failure {
        let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
        failure(&Arguments::try_parse_from(&words).unwrap_err(), &words)
    }

    #[test]
    fn what_was_meant_is_said_for_commands_flags_and_values() {
        for (line, what, meant) in [
            ("backstay snapshoot", "snapshoot", "did you mean `snapshot`?"),
            ("backstay snapshot --prov", "--prov", "did you mean `--prove`?"),
            ("backstay migrate rum", "rum", "did you mean `run`?"),
            ("backstay migrate run --dry-run=copi", "copi", "did you mean `copy`?"),
        ] {
            let failure = answered(line);
            assert!(failure.what[0].contains(what), "{line}: {failure:?}");
            assert!(failure.hints.iter().any(|hint| hint.contains(meant)), "{line}: {failure:?}");
        }
    }

    #[test]
    fn the_help_that_is_named_is_the_command_s_own() {
        let failure = answered("backstay migrate down --yess");
        assert_eq!(failure.hints.last().map(String::as_str), Some("`backstay migrate down --help` says what it takes"));
        let failure = answered("backstay frobnicate");
        assert_eq!(failure.hints.last().map(String::as_str), Some("`backstay --help` says what it takes"));
        assert!(!answered("backstay guard").what[0].contains('\n'));
    }

    #[test]
    fn words_of_the_deploy_are_not_backstay_s() {
        let words: Vec<OsString> = ["backstay", "guard", "--", "x", "--json", "list"].map(Into::into).to_vec();
        assert!(!wants_json(&words));
        assert_eq!(command(&words), "guard");
    }
}
