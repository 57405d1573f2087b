use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::mask::Mask;
use crate::{EngineSettings, Error};

const SAID_LINES_MAX: usize = 6;
const LOOK_MAX: Duration = Duration::from_secs(120);

/// How `docker compose` is called here.
#[derive(Debug, Clone)]
pub struct ComposeCommand {
    program: Vec<String>,
    version: String,
    engine: EngineSettings,
}

/// Where a project was started from: what Compose needs to find it again.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Origin {
    pub files: Vec<PathBuf>,
    pub directory: Option<PathBuf>,
    pub environment_files: Vec<PathBuf>,
    pub profiles: Vec<String>,
}

impl ComposeCommand {
    /// Finds Compose as a plugin of `docker` or as a program of its own. What counts is that it
    /// runs and is not the first, ended line of it; features are tried where they are needed.
    pub async fn find(engine: &EngineSettings) -> Result<Self, Error> {
        let mut too_old = None;
        for program in [&["docker", "compose"][..], &["docker-compose"]] {
            let program: Vec<String> = program.iter().map(|word| (*word).to_owned()).collect();
            let mut command = Self { program, version: String::new(), engine: engine.clone() };
            let Some(version) = command.ask_version().await else { continue };
            if version.trim_start_matches('v').starts_with("1.") {
                too_old = Some(version);
                continue;
            }
            command.version = version;
            return Ok(command);
        }
        Err(too_old.map_or(Error::NoCompose, |version| Error::ComposeTooOld { version }))
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    async fn ask_version(&self) -> Option<String> {
        let asked = self.command().args(["version", "--short"]).output();
        let output = tokio::time::timeout(LOOK_MAX, asked).await.ok()?.ok()?;
        let version = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !version.is_empty()).then_some(version)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program.first().map_or("docker", String::as_str));
        command.args(self.program.iter().skip(1)).env("DOCKER_HOST", &self.engine.host).env_remove("DOCKER_CONTEXT");
        // Which files and which project are said by arguments; the surroundings must not add others.
        for name in ["COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES", "COMPOSE_ENV_FILES"] {
            command.env_remove(name);
        }
        if let Some(folder) = self.engine.tls.as_ref().and_then(|tls| tls.folder()) {
            command.env("DOCKER_TLS_VERIFY", "1").env("DOCKER_CERT_PATH", folder);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// `docker compose -p … -f … config --format json` with every profile. The answer holds secrets.
    pub(crate) async fn config(&self, project: Option<&str>, origin: &Origin) -> Result<Vec<u8>, Error> {
        let arguments = ["--profile", "*", "config", "--format", "json"];
        self.run(project, origin, &arguments, LOOK_MAX, &Mask::default()).await
    }

    pub(crate) async fn run(
        &self,
        project: Option<&str>,
        origin: &Origin,
        arguments: &[&str],
        limit: Duration,
        mask: &Mask,
    ) -> Result<Vec<u8>, Error> {
        let mut command = self.command();
        if let Some(project) = project {
            command.args(["-p", project]);
        }
        if let Some(directory) = &origin.directory {
            command.arg("--project-directory").arg(directory);
        }
        for file in &origin.files {
            command.arg("-f").arg(file);
        }
        for file in &origin.environment_files {
            command.arg("--env-file").arg(file);
        }
        for profile in &origin.profiles {
            command.args(["--profile", profile]);
        }
        command.args(arguments);
        let action = arguments.iter().find(|word| !word.starts_with('-') && **word != "*").copied().unwrap_or("");
        let failed = |ended: String, said: String| Error::Compose { action: action.to_owned(), ended, said };
        let output = match tokio::time::timeout(limit, command.output()).await {
            Err(_) => return Err(failed(format!("did not end within {} s", limit.as_secs()), String::new())),
            Ok(Err(source)) => return Err(Error::Spawn { program: self.program.join(" "), source }),
            Ok(Ok(output)) => output,
        };
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = last_lines(&mask.apply(&String::from_utf8_lossy(&output.stderr)));
        Err(failed(format!("failed ({})", output.status), said))
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(SAID_LINES_MAX)..).unwrap_or_default();
    if last.is_empty() { String::new() } else { format!(": {}", last.join("; ")) }
}
