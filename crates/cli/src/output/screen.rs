//! How wide the screen is, and text that fits it.

use std::io::IsTerminal;
use std::os::fd::AsFd;

/// Whether there is a terminal that can move its cursor and show colours.
pub fn is_screen(output: &impl IsTerminal) -> bool {
    output.is_terminal() && std::env::var("TERM").is_ok_and(|terminal| terminal != "dumb")
}

/// The width to fit: what `COLUMNS` says, else the terminal's own, else none.
pub fn columns(output: &(impl IsTerminal + AsFd)) -> Option<usize> {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    said.or_else(|| terminal_columns(output))
}

fn terminal_columns(output: &(impl IsTerminal + AsFd)) -> Option<usize> {
    if !output.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(output).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Breaks lines that are longer than the terminal between words. What follows stands further in. Into a pipe every
/// line goes as it is.
pub fn folded(text: &str, output: &(impl IsTerminal + AsFd)) -> String {
    match columns(output).filter(|_| output.is_terminal()) {
        Some(columns) => fold(text, columns),
        None => text.to_owned(),
    }
}

const NARROWEST: usize = 40;

fn fold(text: &str, columns: usize) -> String {
    let columns = columns.max(NARROWEST);
    let mut folded = String::new();
    for line in text.split_inclusive('\n') {
        if line.trim_end().chars().count() <= columns {
            folded.push_str(line);
            continue;
        }
        let indent = line.len() - line.trim_start().len() + 2;
        let mut width = 0;
        for word in line.split_inclusive(' ') {
            let letters = word.trim_end().chars().count();
            if width > indent && width + letters > columns {
                folded.truncate(folded.trim_end_matches(' ').len());
                folded.push('\n');
                folded.push_str(&" ".repeat(indent));
                width = indent;
            }
            folded.push_str(word);
            width += word.chars().count();
        }
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_break_between_words_and_go_on_further_in() {
        let text = "short\n  - a line that is longer than the forty columns of this\nend\n";
        assert_eq!(fold(text, 40), "short\n  - a line that is longer than the forty\n    columns of this\nend\n");
        let path = "x".repeat(60);
        assert_eq!(fold(&path, 40), path, "a word is never broken");
        assert_eq!(fold("", 40), "");
        for columns in [40, 57, 80, 200] {
            let lines = fold(&"word ".repeat(100), columns);
            assert!(lines.lines().all(|line| line.chars().count() <= columns), "{lines}");
            assert_eq!(lines.split_whitespace().count(), 100);
        }
    }
}
