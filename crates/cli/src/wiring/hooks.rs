use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use backstay_part::{Error, ErrorKind};
use backstay_run::Context;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Project;
use super::databases::part_name;

/// Programs of the user's that are told what happens.
#[derive(Debug, Clone)]
pub struct Hooks {
    settings: backstay_config::Hooks,
    folder: PathBuf,
    limit: Duration,
}

/// Why a hook did not do its work.
#[derive(Debug, Error)]
pub enum HookError {
    #[error("the hook {hook} cannot be started")]
    Start {
        hook: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("the hook {hook} ended with {status}")]
    Ended { hook: &'static str, status: std::process::ExitStatus },
    #[error("the hook {hook} did not end within {seconds} s")]
    OutOfTime { hook: &'static str, seconds: u64 },
}

impl Hooks {
    pub fn of(project: &Project) -> Self {
        let settings = project.settings.hooks.clone();
        let limit = settings.timeout.duration();
        Self { settings, folder: project.settings.folder.clone(), limit }
    }

    /// Before writers are stopped. Where it fails they are not.
    pub async fn before_fence(&self, context: &Context) -> Result<(), Error> {
        self.around(context, "before_fence", &self.settings.before_fence).await
    }

    /// After the workload was started again.
    pub async fn after_start(&self, context: &Context) -> Result<(), Error> {
        self.around(context, "after_start", &self.settings.after_start).await
    }

    /// At the end of a run, with the JSON result on its input. The result stands whatever the hook does.
    pub async fn on_result(&self, result: &serde_json::Value) -> Result<(), HookError> {
        self.run("on_result", &self.settings.on_result, &[], result.to_string().as_bytes()).await
    }

    async fn around(&self, context: &Context, hook: &'static str, words: &[String]) -> Result<(), Error> {
        let variables = [
            ("BACKSTAY_RUN", context.run.to_string()),
            ("BACKSTAY_PROJECT", context.project.to_string()),
            ("BACKSTAY_ENV", context.environment.to_string()),
        ];
        let ran = self.run(hook, words, &variables, &[]).await;
        let Err(error) = ran else { return Ok(()) };
        let Ok(part) = part_name("workload") else { return Ok(()) };
        Err(Error { part, action: hook, kind: ErrorKind::Failed, source: Box::new(error) })
    }

    async fn run(
        &self,
        hook: &'static str,
        words: &[String],
        variables: &[(&str, String)],
        input: &[u8],
    ) -> Result<(), HookError> {
        let Some((program, arguments)) = words.split_first() else { return Ok(()) };
        let start = |source| HookError::Start { hook, source };
        // What a hook prints is for a person, and never part of the result.
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.folder).envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().map_err(start)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A hook that does not read is no failure.
            let _ = stdin.write_all(input).await;
        }
        match tokio::time::timeout(self.limit, child.wait()).await {
            Err(_) => Err(HookError::OutOfTime { hook, seconds: self.limit.as_secs() }),
            Ok(status) => match status.map_err(start)? {
                status if status.success() => Ok(()),
                status => Err(HookError::Ended { hook, status }),
            },
        }
    }
}
