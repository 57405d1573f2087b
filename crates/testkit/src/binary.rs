use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::contract::broken_promises;

/// Runs the real `backstay` in a folder, with an environment that holds nothing else.
#[derive(Debug)]
pub struct Backstay {
    binary: PathBuf,
    folder: PathBuf,
    home: TempDir,
    environment: Vec<(OsString, OsString)>,
}

/// What one run printed, and how it ended.
#[derive(Debug, Clone)]
#[must_use = "say how the run should have ended: `.ended(0)`"]
pub struct Ran {
    /// Nothing where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Backstay {
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            binary: binary(),
            folder: folder.to_owned(),
            home: TempDir::new().expect("a folder for the run's home"),
            environment: Vec::new(),
        }
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Where the runs keep their state.
    pub fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home.path())
            .env("BACKSTAY_STATE", self.state())
            .env("COLUMNS", "100")
            .env("TZ", "UTC")
            .stdin(Stdio::null());
        for name in ["DOCKER_HOST", "DOCKER_CONFIG", "BACKSTAY_PG_BIN_DIRS"] {
            if let Some(value) = env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        let output = self
            .command(arguments)
            .output()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.binary.display()));
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts a run and leaves it to the test, which must end it.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.binary.display()))
    }
}

impl Ran {
    /// Fails the test, with all that was printed, unless the run ended with this code.
    #[track_caller]
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// The one object that `--json` prints, after comparing it with the schema that is promised to scripts.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        let result = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not JSON: {error}\n{}\n{}", self.stdout, self.stderr));
        let broken = broken_promises(&result);
        assert!(broken.is_empty(), "not as promised: {broken:#?}\n{result:#}");
        result
    }
}

/// `BACKSTAY_BIN`, or the one built beside the test that runs.
fn binary() -> PathBuf {
    if let Some(path) = env::var_os("BACKSTAY_BIN") {
        return path.into();
    }
    let test = env::current_exe().expect("the path of the test itself");
    let profile = test.ancestors().nth(2).expect("a test lies two folders below its profile's");
    let binary = profile.join("backstay");
    assert!(binary.exists(), "{} is not there: `cargo build -p backstay` builds it", binary.display());
    binary
}
