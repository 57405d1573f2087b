use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use backstay_model::PartName;
use backstay_run::Context;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::{Condition, Error, ErrorKind, Token, Workload};

const LINES_MAX: usize = 20;
const LINE_BYTES_MAX: u64 = 2000;
/// How long a command that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// What a command left running may hold its output open: it is not waited for.
const OUTPUT_AFTER_END: Duration = Duration::from_secs(1);
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// One command and how long it may take.
#[derive(Debug, Clone)]
pub struct TimedCommand {
    pub words: Vec<String>,
    pub limit: Duration,
}

/// Anything that runs on top of the parts and is reached by three commands of the user's.
#[derive(Debug, Clone)]
pub struct CommandWorkload {
    /// What errors call it.
    pub name: PartName,
    /// Where the commands run.
    pub folder: PathBuf,
    pub stop: TimedCommand,
    pub start: TimedCommand,
    /// Repeated until it ends with 0 or its time is up.
    pub ready: TimedCommand,
}

/// Why a command of a workload did not do its work.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no command is given")]
    Empty,
    #[error("cannot run `{program}`")]
    Spawn {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("`{program}` ended with {status}{said}")]
    Ended { program: String, status: ExitStatus, said: String },
    #[error("`{program}` did not end within {} s{said}", limit.as_secs())]
    OutOfTime { program: String, limit: Duration, said: String },
    #[error("the run was asked to stop")]
    Interrupted,
}

impl Failure {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Empty | Self::Spawn { .. } => ErrorKind::Environment,
            Self::Ended { .. } | Self::OutOfTime { .. } => ErrorKind::Failed,
            Self::Interrupted => ErrorKind::Interrupted,
        }
    }
}

impl CommandWorkload {
    async fn run(&self, context: &Context, command: &TimedCommand) -> Result<(), Failure> {
        let Some((program, arguments)) = command.words.split_first() else { return Err(Failure::Empty) };
        // A group of its own, so that what the command started can be ended with it.
        let spawned = Command::new(program)
            .args(arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        let mut child = spawned.map_err(|source| Failure::Spawn { program: program.clone(), source })?;
        let said = Said::listen(&mut child);
        let mut group = Group::of(&child);
        let status = tokio::select! {
            status = child.wait() => status.map_err(|source| Failure::Spawn { program: program.clone(), source })?,
            () = tokio::time::sleep(command.limit) => {
                group.end(&mut child).await;
                let said = said.last().await;
                return Err(Failure::OutOfTime { program: program.clone(), limit: command.limit, said });
            }
            () = context.interrupt.requested() => {
                group.end(&mut child).await;
                return Err(Failure::Interrupted);
            }
        };
        // It ended by itself: what it left running was meant to run on.
        group.0 = None;
        if status.success() {
            return Ok(());
        }
        Err(Failure::Ended { program: program.clone(), status, said: said.last().await })
    }

    async fn until_ready(&self, context: &Context) -> Result<Condition, Failure> {
        let began = context.clock.elapsed();
        loop {
            let left = self.ready.limit.saturating_sub(context.clock.elapsed().saturating_sub(began));
            let once = TimedCommand { words: self.ready.words.clone(), limit: left };
            let failure = match self.run(context, &once).await {
                Ok(()) => return Ok(Condition::Healthy),
                Err(failure @ (Failure::Ended { .. } | Failure::OutOfTime { .. })) => failure.to_string(),
                Err(failure) => return Err(failure),
            };
            if context.clock.elapsed().saturating_sub(began) + BETWEEN_TRIES >= self.ready.limit {
                return Ok(Condition::Unhealthy { failures: vec![failure] });
            }
            tokio::select! {
                () = tokio::time::sleep(BETWEEN_TRIES) => {}
                () = context.interrupt.requested() => return Err(Failure::Interrupted),
            }
        }
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(Failure) -> Error + '_ {
        move |failure| Error { part: self.name.clone(), action, kind: failure.kind(), source: Box::new(failure) }
    }
}

#[async_trait]
impl Workload for CommandWorkload {
    fn describe(&self) -> String {
        let program = self.stop.words.first().map_or("nothing", String::as_str);
        format!("what `{program}` stops")
    }

    async fn running(&self, _context: &Context) -> Result<Vec<String>, Error> {
        Ok(vec![self.describe()])
    }

    async fn observe(&self, _context: &Context) -> Result<Token, Error> {
        Ok(Token(serde_json::Value::Null))
    }

    async fn stop(&self, context: &Context, _observed: &Token) -> Result<(), Error> {
        self.run(context, &self.stop).await.map_err(self.failed("stop"))
    }

    async fn start(&self, context: &Context, _observed: &Token) -> Result<(), Error> {
        self.run(context, &self.start).await.map_err(self.failed("start"))
    }

    async fn probe(&self, context: &Context) -> Result<Condition, Error> {
        if self.ready.words.is_empty() {
            return Ok(Condition::Undecided { why: "no command says whether it is ready".to_owned() });
        }
        self.until_ready(context).await.map_err(self.failed("probe"))
    }
}

/// A command's process group. Dropped while the command runs, it ends it.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    async fn end(&mut self, child: &mut Child) {
        let Some(group) = self.0 else { return };
        // The group may be gone already, which is what was wanted.
        let _ = kill_process_group(group, Signal::TERM);
        let _ = tokio::time::timeout(GRACE, child.wait()).await;
        // Once more for children that outlived it.
        let _ = kill_process_group(group, Signal::KILL);
        self.0 = None;
        let _ = child.wait().await;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The last lines that a command wrote.
struct Said {
    lines: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Said {
    fn listen(child: &mut Child) -> Self {
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let out = child.stdout.take().map(|out| tokio::spawn(read(out, Arc::clone(&lines))));
        let err = child.stderr.take().map(|err| tokio::spawn(read(err, Arc::clone(&lines))));
        Self { lines, readers: out.into_iter().chain(err).collect() }
    }

    async fn last(mut self) -> String {
        for reader in &mut self.readers {
            let _ = tokio::time::timeout(OUTPUT_AFTER_END, reader).await;
        }
        let lines: Vec<String> = self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        if lines.is_empty() { String::new() } else { format!(": {}", lines.join("; ")) }
    }
}

async fn read(output: impl AsyncRead + Unpin, lines: Arc<Mutex<VecDeque<String>>>) {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut output).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await;
        if !matches!(read, Ok(1..)) {
            return;
        }
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
        if lines.len() > LINES_MAX {
            lines.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use backstay_model::{RunId, Silent, SystemClock};
    use backstay_run::Interrupt;

    use super::*;

    fn shell(line: &str) -> TimedCommand {
        timed(line, Duration::from_secs(600))
    }

    fn timed(line: &str, limit: Duration) -> TimedCommand {
        TimedCommand { words: ["sh", "-c", line].map(str::to_owned).to_vec(), limit }
    }

    fn workload(stop: TimedCommand, start: TimedCommand, ready: TimedCommand) -> CommandWorkload {
        let name = "workload".parse().unwrap();
        CommandWorkload { name, folder: std::env::temp_dir(), stop, start, ready }
    }

    fn context() -> Context {
        let clock = Arc::new(SystemClock::default());
        Context {
            run: RunId::new(chrono::DateTime::UNIX_EPOCH, 1),
            project: "shop".parse().unwrap(),
            environment: "test".parse().unwrap(),
            host: "here".to_owned(),
            state: std::env::temp_dir(),
            clock,
            listener: Arc::new(Silent),
            interrupt: Interrupt::default(),
        }
    }

    fn told(error: &Error) -> String {
        std::error::Error::source(error).unwrap().to_string()
    }

    #[tokio::test]
    async fn commands_are_judged_by_their_exit_codes_and_their_last_words_are_kept() {
        let context = context();
        let well = workload(shell("exit 0"), shell("sleep 5 & exit 0"), shell("exit 0"));
        let observed = well.observe(&context).await.unwrap();
        well.stop(&context, &observed).await.unwrap();
        well.start(&context, &observed).await.unwrap();
        assert_eq!(well.probe(&context).await.unwrap(), Condition::Healthy);

        let badly = workload(shell("seq 1 100; echo no such unit >&2; exit 5"), shell(""), shell(""));
        let error = badly.stop(&context, &observed).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Failed);
        assert!(told(&error).contains("exit status: 5") && told(&error).contains("no such unit"), "{}", told(&error));
        assert!(!told(&error).contains("; 2;"));
    }

    #[tokio::test]
    async fn what_does_not_end_in_time_is_ended_and_what_is_never_ready_is_unhealthy() {
        let context = context();
        let short = Duration::from_millis(50);
        let slow = workload(timed("sleep 600", short), shell(""), timed("exit 1", short));
        let error = slow.stop(&context, &Token(serde_json::Value::Null)).await.unwrap_err();
        assert!(told(&error).contains("did not end within"), "{}", told(&error));
        assert!(matches!(slow.probe(&context).await.unwrap(), Condition::Unhealthy { .. }));
    }

    #[tokio::test]
    async fn a_request_to_stop_ends_the_command() {
        let context = context();
        context.interrupt.request();
        let slow = workload(shell("sleep 600"), shell(""), shell(""));
        let error = slow.stop(&context, &Token(serde_json::Value::Null)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Interrupted);
    }
}
