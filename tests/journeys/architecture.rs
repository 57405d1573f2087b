//! The arrows of the design, and what may be named where, held over what Cargo says of the workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

use crate::tidy;

/// Which crates of ours each crate may name, beside the model. Whatever is not listed is forbidden.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("config", &[]),
    ("testkit", &[]),
    ("repository", &[]),
    ("s3", &["repository"]),
    ("run", &["repository"]),
    ("part", &["run", "repository"]),
    ("postgres", &["part", "run", "repository"]),
    ("compose", &["part", "run", "repository"]),
    ("files", &["part", "run", "repository"]),
    ("snapshot", &["part", "run", "repository"]),
    ("restore", &["part", "run", "repository"]),
    ("migrate", &["postgres", "part", "run", "repository"]),
    ("health", &["postgres", "compose", "part", "run", "repository"]),
    ("deploy", &["snapshot", "restore", "migrate", "health", "part", "run", "repository"]),
];

/// Libraries that belong to one place, by prefix. Why migrate may name sqlx: docs/decisions/0003-who-names-sqlx.md.
const OWNERS: &[(&str, &[&str])] = &[
    ("sqlx", &["postgres", "migrate"]),
    ("aws-", &["s3"]),
    ("bollard", &["compose"]),
    ("clap", &["cli"]),
    ("squawk", &["migrate"]),
    ("fastcdc", &["repository"]),
    ("chacha20poly1305", &["repository"]),
    ("argon2", &["repository"]),
    ("s3s", &["testkit"]),
];

/// A second TLS stack, and a YAML crate that nobody looks after any more.
const BANNED: &[&str] = &["ring", "openssl", "openssl-sys", "native-tls", "serde_yaml", "serde_yml"];

fn cargo() -> String {
    env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// Only this machine's packages: others need not have been fetched.
fn workspace() -> Metadata {
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8(rustc.stdout).expect("rustc prints text");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    MetadataCommand::new()
        .cargo_path(cargo())
        .current_dir(tidy::root())
        .other_options(["--locked".to_owned(), "--filter-platform".to_owned(), host.to_owned()])
        .exec()
        .expect("cargo metadata runs")
}

/// The name of a crate of ours: its folder's.
fn ours(package: &Package) -> Option<&str> {
    if package.name.as_str() == "backstay" {
        return Some("cli");
    }
    package.name.strip_prefix("backstay-").filter(|name| *name != "tests")
}

/// Which packages each of our crates names outside its tests.
fn named(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    for package in metadata.workspace_packages() {
        let Some(name) = ours(package) else { continue };
        let names = package.dependencies.iter().filter(|wanted| wanted.kind != DependencyKind::Development);
        all.insert(name.to_owned(), names.map(|wanted| wanted.name.clone()).collect());
    }
    all
}

#[test]
fn arrows_point_down_only() {
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, wants) in named(&workspace()) {
        for target in wants.iter().filter_map(|wanted| wanted.strip_prefix("backstay-")) {
            let fine = match (name.as_str(), target) {
                (_, "testkit") => false,
                ("cli", _) => true,
                ("config" | "testkit", "model") => true,
                (name, "model") => name != "model",
                (name, target) => allowed.get(name).is_some_and(|targets| targets.contains(&target)),
            };
            if !fine {
                wrong.push(format!("{name} must not name {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_crate_has_its_place_in_the_arrows() {
    let listed: BTreeSet<_> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).chain(["cli".to_owned()]).collect();
    let there: BTreeSet<_> = named(&workspace()).into_keys().collect();
    assert_eq!(there, listed);
}

#[test]
fn a_library_is_named_only_by_the_crates_that_own_it() {
    let mut wrong = Vec::new();
    for (name, wants) in named(&workspace()) {
        for wanted in &wants {
            let owners = OWNERS.iter().find(|(prefix, _)| wanted.starts_with(prefix)).map(|(_, owners)| owners);
            if owners.is_some_and(|owners| !owners.contains(&name.as_str())) {
                wrong.push(format!("{name} must not name {wanted}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is really built here. `cargo metadata` would also list what is optional and switched off.
fn tree(format: &str) -> BTreeSet<String> {
    let output = Command::new(cargo())
        .args([
            "tree",
            "--workspace",
            "--locked",
            "--edges",
            "normal,build,dev",
            "--prefix",
            "none",
            "--no-dedupe",
            "--format",
            format,
        ])
        .current_dir(tidy::root())
        .output()
        .expect("cargo tree runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo tree prints text").lines().map(str::to_owned).collect()
}

#[test]
fn there_is_one_tls_stack_and_nothing_abandoned_in_the_tree() {
    let there: BTreeSet<_> = tree("{p}").iter().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect();
    assert!(there.contains("aws-lc-rs"), "the tree was not read: {there:?}");
    let found: Vec<_> = BANNED.iter().filter(|name| there.contains(**name)).collect();
    assert!(found.is_empty(), "in the tree: {found:?}; `cargo tree --invert NAME` says why");
}

#[test]
fn every_licence_in_the_tree_is_one_that_we_allow() {
    let text = fs::read_to_string(tidy::root().join(".cargo/deny.toml")).expect("deny.toml is read");
    let list = text.split("\nallow = [").nth(1).and_then(|rest| rest.split(']').next()).expect("deny.toml has a list");
    let allowed: BTreeSet<_> = list.split(',').map(|word| word.trim().trim_matches('"')).collect();
    let wrong: Vec<_> = tree("{l}|{p}")
        .into_iter()
        .filter(|line| line.split('|').next().is_none_or(|licence| !satisfied(licence, &allowed)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Evaluates a licence expression; the old `A/B` means `A OR B`.
fn satisfied(licence: &str, allowed: &BTreeSet<&str>) -> bool {
    let licence = licence.replace(" / ", " OR ").replace('/', " OR ");
    either(licence.trim(), allowed)
}

fn either(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    outside_brackets(expression, " OR ").iter().any(|choice| {
        outside_brackets(choice, " AND ").iter().all(|part| match part.strip_prefix('(') {
            Some(inner) => either(inner.strip_suffix(')').unwrap_or(inner), allowed),
            None => allowed.contains(part),
        })
    })
}

fn outside_brackets<'text>(text: &'text str, separator: &str) -> Vec<&'text str> {
    let mut pieces = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (index, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && index >= start && text[index..].starts_with(separator) => {
                pieces.push(text[start..index].trim());
                start = index + separator.len();
            }
            _ => {}
        }
    }
    pieces.push(text[start..].trim());
    pieces
}

#[test]
fn a_licence_expression_is_read_as_it_is_meant() {
    let allowed = BTreeSet::from(["MIT", "ISC", "Zlib"]);
    for fine in ["MIT", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "ISC AND (GPL-3.0 OR MIT)", "(MIT OR GPL-3.0) AND Zlib"] {
        assert!(satisfied(fine, &allowed), "{fine}");
    }
    for wrong in ["GPL-3.0", "", "MIT AND GPL-3.0", "(MIT AND GPL-3.0) OR GPL-2.0", "ISC AND (GPL-3.0 OR GPL-2.0)"] {
        assert!(!satisfied(wrong, &allowed), "{wrong}");
    }
}

/// What a library does not do: it is told, and it returns.
const ONLY_IN_THE_COMMAND: &[&str] = &[
    "println!",
    "eprintln!",
    "print!(",
    "eprint!(",
    "dbg!(",
    "io::stdout(",
    "io::stderr(",
    "env::var",
    "env::args",
    "env::set_var",
    "env::current_dir",
    "process::exit",
];

#[test]
fn only_the_command_prints_reads_the_environment_or_exits() {
    let mut wrong = Vec::new();
    for file in library_sources() {
        let text = fs::read_to_string(&file).expect("a source is read");
        for (number, line) in outside_tests(&text) {
            let code = line.split("//").next().unwrap_or(line);
            if let Some(word) = ONLY_IN_THE_COMMAND.iter().find(|word| code.contains(**word)) {
                wrong.push(format!("{}:{number}: {word}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn library_sources() -> Vec<PathBuf> {
    let crates = tidy::root().join("crates");
    tidy::files_under(&crates)
        .into_iter()
        .filter(|file| file.extension().is_some_and(|kind| kind == "rs"))
        .filter(|file| !["cli", "testkit"].iter().any(|name| file.starts_with(crates.join(name))))
        .filter(|file| !is_a_test(file))
        // An example is a program of its own.
        .filter(|file| !file.components().any(|part| part.as_os_str() == "examples"))
        .collect()
}

fn is_a_test(file: &Path) -> bool {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let named = stem == "tests" || stem.ends_with("_tests");
    named || file.components().any(|part| part.as_os_str() == "tests") || is_declared_for_tests(file, &stem)
}

/// What tests share, such as a bench, is declared beside them: `#[cfg(test)] mod bench;` in `lib.rs`.
fn is_declared_for_tests(file: &Path, stem: &str) -> bool {
    let library = fs::read_to_string(file.with_file_name("lib.rs")).unwrap_or_default();
    library.contains(&format!("#[cfg(test)]\nmod {stem};"))
}

/// The lines before the tests at the end of a file.
fn outside_tests(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
}
