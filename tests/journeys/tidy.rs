//! Order in the house: sizes, names, links, scripts.

use std::fs;
use std::path::{Path, PathBuf};

const LINES_OF_A_SOURCE: usize = 500;
const LINES_OF_A_SCRIPT: usize = 200;
const BANNED_WORDS: &[&str] =
    &["util", "utils", "common", "helper", "helpers", "manager", "handler", "data", "info", "misc", "do"];

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace").to_owned()
}

/// Every file below a folder, without what is built and what Git keeps for itself.
pub fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace is read").flatten() {
            let kind = entry.file_type().expect("the kind of an entry is known");
            let name = entry.file_name();
            if kind.is_dir() && name != "target" && name != ".git" {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

fn ends_with(file: &Path, kind: &str) -> bool {
    file.extension().is_some_and(|extension| extension == kind)
}

fn text_of(file: &Path) -> Option<String> {
    String::from_utf8(fs::read(file).expect("a file of the workspace is read")).ok()
}

#[test]
fn no_source_and_no_script_grows_past_its_limit() {
    let mut wrong = Vec::new();
    for file in files_under(&root()) {
        let limit = match () {
            () if ends_with(&file, "rs") => LINES_OF_A_SOURCE,
            () if is_script(&file) => LINES_OF_A_SCRIPT,
            () => continue,
        };
        let lines = text_of(&file).expect("a source is text").lines().count();
        if lines > limit {
            wrong.push(format!("{}: {lines} lines, at most {limit}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn is_script(file: &Path) -> bool {
    file.starts_with(root().join("scripts"))
        || ends_with(file, "sh")
        || (file.extension().is_none() && text_of(file).is_some_and(|text| text.starts_with("#!")))
}

#[test]
fn names_of_files_say_what_is_in_them() {
    let mut wrong = Vec::new();
    let root = root();
    for file in files_under(&root) {
        let inside = file.strip_prefix(&root).expect("the file lies in the workspace");
        for part in inside.components() {
            let name = part.as_os_str().to_string_lossy().to_lowercase();
            let stem = name.split('.').find(|piece| !piece.is_empty()).unwrap_or_default();
            if stem.split(['_', '-']).any(|word| BANNED_WORDS.contains(&word)) {
                wrong.push(inside.display().to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_is_left_for_later_in_a_comment() {
    // Put together here, so that this file does not find itself.
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    let mut wrong = Vec::new();
    for file in files_under(&root()) {
        if !(ends_with(&file, "rs") || ends_with(&file, "toml") || is_script(&file)) {
            continue;
        }
        for (number, line) in text_of(&file).unwrap_or_default().lines().enumerate() {
            let marked = |mark: &String| line.split(|letter: char| !letter.is_alphanumeric()).any(|word| word == mark);
            if marks.iter().any(marked) {
                wrong.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[cfg(unix)]
#[test]
fn scripts_can_be_run_as_they_are() {
    use std::os::unix::fs::PermissionsExt;

    let mut entries: Vec<_> = fs::read_dir(root().join("scripts")).expect("scripts are read").flatten().collect();
    entries.retain(|entry| entry.path().is_file());
    let mut scripts: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    scripts.push(root().join(".ci/run"));
    for script in scripts {
        let mode = fs::metadata(&script).expect("a script is there").permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{} is not executable", script.display());
        let text = text_of(&script).unwrap_or_default();
        assert!(text.starts_with("#!"), "{} does not say what runs it", script.display());
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut wrong = Vec::new();
    for page in files_under(&root()).into_iter().filter(|file| ends_with(file, "md")) {
        let folder = page.parent().expect("a page lies in a folder").to_owned();
        for link in links(&text_of(&page).expect("a page is text")) {
            let path = link.split('#').next().unwrap_or_default();
            let elsewhere = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
            if !elsewhere && !folder.join(path).exists() {
                wrong.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The targets of `[text](target)`, outside code.
fn links(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect();
        for rest in prose.split("](").skip(1) {
            if let Some(target) = rest.split(')').next() {
                found.push(target.split(' ').next().unwrap_or_default().to_owned());
            }
        }
    }
    found
}

#[test]
fn a_link_is_found_in_prose_and_not_in_code() {
    let page = "see [a](x.md#y) and [b](z \"title\")\n`[no](code)`\n```\n[no](fence)\n```\n";
    assert_eq!(links(page), ["x.md#y", "z"]);
}
