//! Asking before something that people would miss.

use std::io::{self, IsTerminal, Write};

use crate::arguments::Confirmation;
use crate::report::Failure;
use crate::wiring::Release;

/// Asks for the project's name in production, and for `yes` elsewhere. Without a terminal and without
/// `--yes` it refuses.
pub fn restore(release: &Release, confirmation: &Confirmation, plan: &str) -> Result<(), Failure> {
    let settings = &release.project.settings;
    let word = if settings.production { settings.project.as_str() } else { "yes" };
    ask(release, confirmation, plan, word)
}

/// Asks for `yes`.
pub fn plainly(release: &Release, confirmation: &Confirmation, what: &str) -> Result<(), Failure> {
    ask(release, confirmation, what, "yes")
}

fn ask(release: &Release, confirmation: &Confirmation, what: &str, word: &str) -> Result<(), Failure> {
    if confirmation.yes {
        return Ok(());
    }
    let surroundings = &release.project.surroundings;
    if surroundings.everywhere.non_interactive || !io::stdin().is_terminal() {
        return Err(Failure::refused("this needs a confirmation, and nobody is there to ask")
            .hint("look at the plan with `--plan` where the command has it, then add `--yes`"));
    }
    let mut screen = io::stderr().lock();
    let _ = write!(screen, "{what}\n\nType `{word}` to go on: ");
    let _ = screen.flush();
    let mut answer = String::new();
    let _ = io::stdin().read_line(&mut answer);
    if answer.trim() == word { Ok(()) } else { Err(Failure::refused("not confirmed")) }
}
