use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

const WAIT_MAX: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);

/// Says that something cannot be tested here. In CI that fails: nothing may be left out there.
pub fn left_out(what: &str, why: &str) {
    assert!(env::var_os("CI").is_none_or(|value| value != "true"), "cannot test {what}: {why}");
    eprintln!("LEFT OUT {what}: {why}");
    if let Some(path) = env::var_os("BACKSTAY_LEFT_OUT") {
        let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the list of what is left out");
        writeln!(file, "{what}: {why}").expect("the list of what is left out");
    }
}

/// The folders with the programs of each PostgreSQL major that is here, oldest first: those of
/// `BACKSTAY_PG_BIN_DIRS`, and what Debian's packages install.
pub fn majors() -> Vec<PathBuf> {
    let named = env::var_os("BACKSTAY_PG_BIN_DIRS").unwrap_or_default();
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    let debian =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    // An empty list splits into one empty path, and that would mean the search path.
    let named = env::split_paths(&named).filter(|bin| !bin.as_os_str().is_empty());
    for bin in named.chain(debian) {
        if let Some(major) = major_of(&bin)
            && found.iter().all(|(known, _)| *known != major)
        {
            found.push((major, bin));
        }
    }
    found.sort();
    found.into_iter().map(|(_, bin)| bin).collect()
}

pub(crate) fn major_of(bin: &Path) -> Option<u32> {
    let output = std::process::Command::new(bin.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(2)?.split('.').next()?.parse().ok()
}

/// The address of a server of the lab, from the environment; says so where it is not there.
pub fn server_from(variable: &str, what: &str) -> Option<String> {
    let value = env::var(variable).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        left_out(what, &format!("{variable} is not set; `scripts/lab up` starts it, `scripts/lab env` says it"));
    }
    value
}

/// Waits for a condition, and fails the test by its name when it does not come.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < WAIT_MAX, "waited in vain until {what}");
        thread::sleep(POLL);
    }
}
