//! Every command, exit code and key that the documents and our own hints name is one that there is.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;

use crate::arguments::Arguments;
use crate::exit::Exit;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A piece of code in a page: a fenced block with its language, or a span within a line.
struct Code {
    place: String,
    language: String,
    text: String,
}

fn files(folder: &Path, kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path, kind));
        } else if path.extension().is_some_and(|extension| extension == kind) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn pages() -> Vec<Code> {
    let mut all = Vec::new();
    for page in [root().join("README.md")].into_iter().chain(files(&root().join("docs"), "md")) {
        all.extend(code(&page, &fs::read_to_string(&page).unwrap()));
    }
    all
}

fn code(page: &Path, text: &str) -> Vec<Code> {
    let mut all: Vec<Code> = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        let place = format!("{}:{}", page.file_name().unwrap().display(), number + 1);
        if let Some(language) = line.trim_start().strip_prefix("```") {
            fenced = !fenced;
            if fenced {
                all.push(Code { place, language: language.to_owned(), text: String::new() });
            }
        } else if fenced {
            let block = all.last_mut().unwrap();
            block.text.push_str(line);
            block.text.push('\n');
        } else {
            all.extend(spans(line).map(|text| Code { place: place.clone(), language: "span".to_owned(), text }));
        }
    }
    all
}

fn spans(line: &str) -> impl Iterator<Item = String> {
    line.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// The command lines in a piece of code, each as words. Blocks without a language show what is printed.
fn commands(code: &Code) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    if !matches!(code.language.as_str(), "sh" | "yaml" | "span" | "console" | "cron" | "ini") {
        return found;
    }
    for line in code.text.replace("\\\n", " ").lines() {
        let mut rest = line.split(" #").next().unwrap_or(line);
        while let Some(at) = rest.find("backstay") {
            let starts = rest[..at].chars().last().is_none_or(|before| matches!(before, ' ' | '(' | '"' | '/' | '='));
            let after = &rest[at + "backstay".len()..];
            // A path, such as /usr/local/bin/backstay, names the program too; one that goes on does not.
            if starts && (after.is_empty() || after.starts_with(' ')) && !rest[..at].ends_with("-p ") {
                found.push(words(after));
            }
            rest = after;
        }
    }
    found
}

/// Words up to what ends a command in a shell, with something real where a document writes ID or N.
fn words(text: &str) -> Vec<String> {
    let end = text.find(['|', '>', ';', '&', ')', '\'']).unwrap_or(text.len());
    // `2>&1` begins with a number that is no argument.
    let end = if text[end..].starts_with('>') { text[..end].trim_end_matches(char::is_numeric).len() } else { end };
    let mut words = Vec::new();
    for word in text[..end].split_whitespace() {
        words.push(match word.trim_matches('"').trim_end_matches([',', '.', ':']) {
            "ID" => "20251022_153000".to_owned(),
            "N" => "5".to_owned(),
            "COMMAND" => "restore".to_owned(),
            word => word.to_owned(),
        });
    }
    words
}

/// The repository's format says `backstay 1 …` of what it derives keys for.
const NOT_COMMANDS: &[&str] = &["1", "/usr/local/bin/"];

#[test]
fn every_command_line_in_the_documents_is_understood() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for code in pages() {
        for words in commands(&code) {
            if words.first().is_some_and(|word| NOT_COMMANDS.contains(&word.as_str())) {
                continue;
            }
            seen += 1;
            wrong.extend(not_understood(&code.place, &words, code.language == "span"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 100, "only {seen} command lines were found");
}

#[test]
fn every_command_that_our_own_words_tell_to_run_is_understood() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for source in files(&root().join("crates"), "rs") {
        let text = fs::read_to_string(&source).unwrap();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for span in spans(line).filter(|span| span.starts_with("backstay ")) {
                seen += 1;
                let span = span.replace("{snapshot}", "20251022_153000").replace("{}", "20251022_153000");
                let place = format!("{}:{}", source.display(), number + 1);
                wrong.extend(not_understood(&place, &words(span.trim_start_matches("backstay")), false));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 20, "only {seen} were found");
}

/// In prose a command may be called by its name alone.
fn not_understood(place: &str, words: &[String], prose: bool) -> Option<String> {
    let line = ["backstay"].into_iter().chain(words.iter().map(String::as_str));
    let error = Arguments::try_parse_from(line).err()?;
    let fine = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
        ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => prose,
        _ => false,
    };
    (!fine).then(|| format!("{place}: backstay {}: {error}", words.join(" ")))
}

const EXITS: &[Exit] = &[
    Exit::Done,
    Exit::Bug,
    Exit::Usage,
    Exit::Environment,
    Exit::Refused,
    Exit::Failed,
    Exit::TakenBack,
    Exit::Stuck,
    Exit::Damaged,
    Exit::Unhealthy,
    Exit::Held,
    Exit::Stale,
    Exit::Interrupted,
];

#[test]
fn the_page_of_exit_codes_lists_those_that_there_are() {
    let text = fs::read_to_string(root().join("docs/reference/exit-codes.md")).unwrap();
    let listed: Vec<u8> =
        text.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok()).collect();
    let there: Vec<u8> = EXITS.iter().map(|exit| exit.code()).collect();
    assert_eq!(listed, there);
    let schema: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(root().join("docs/reference/results.schema.json")).unwrap()).unwrap();
    assert_eq!(schema["$defs"]["result"]["properties"]["exit"]["enum"], serde_json::json!(there));
}

#[test]
fn every_exit_code_that_a_document_names_is_one() {
    let mut wrong = Vec::new();
    for page in [root().join("README.md")].into_iter().chain(files(&root().join("docs"), "md")) {
        let text = fs::read_to_string(&page).unwrap();
        for (number, line) in text.lines().enumerate() {
            for after in line.match_indices("(exit ").map(|(at, begin)| &line[at + begin.len()..]) {
                let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
                let known = digits.parse().is_ok_and(|code: u8| EXITS.iter().any(|exit| exit.code() == code));
                if !known {
                    wrong.push(format!("{}:{}: {line}", page.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_piece_of_configuration_in_the_documents_is_valid() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("backstay.toml");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for code in pages().into_iter().filter(|code| code.language == "toml") {
        let mut text = code.text.clone();
        if !text.contains("[repository]") {
            text.push_str("\n[repository]\nurl = \"/backups\"\nkey = \"file:/key\"\n");
        }
        if !text.lines().any(|line| line.starts_with("project =")) {
            text.insert_str(0, "project = \"shop\"\n");
        }
        if text.contains("postgres = \"shop\"") && !text.contains("[database.shop]") {
            text.push_str("\n[database.shop]\nurl = \"file:.env#DATABASE_URL\"\n");
        }
        if (text.contains("container = ") || text.contains("log = ")) && !text.contains("[compose]") {
            text.push_str("\n[compose]\nfiles = [\"compose.yml\"]\n");
        }
        seen += 1;
        fs::write(&file, &text).unwrap();
        let environment = text.contains("[environment.production").then_some("production");
        if let Err(error) = backstay_config::load(&file, environment) {
            wrong.push(format!("{}: {error}\n{text}", code.place));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 3, "only {seen} were found");
}
