use std::collections::VecDeque;
use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::engine::failed;
use crate::{Engine, Error, Project};

const SAID_BYTES_MAX: usize = 8 * 1024;

/// The standard input of a command.
pub(crate) type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// A command for a service's running container. Secrets go into `environment`, never into `command`.
#[derive(Clone, Default)]
pub struct Exec {
    pub command: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub user: Option<String>,
    /// Whether bytes will be written to its standard input.
    pub with_input: bool,
}

/// A command that runs in a container. Its end is only known from [`Execution::finish`].
pub struct Execution {
    engine: Engine,
    id: String,
    service: String,
    command: String,
    output: Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>,
    input: Option<Input>,
    said: VecDeque<u8>,
}

impl Project {
    /// Runs a command in the first running container of a service, without a terminal: bytes pass
    /// as they are, and what it says of errors is kept apart.
    pub async fn exec(&self, service: &str, exec: &Exec) -> Result<Execution, Error> {
        let containers = self.containers().await?;
        let container = containers
            .iter()
            .find(|container| container.service == service && container.state == crate::State::Running)
            .ok_or_else(|| Error::NoContainer(service.to_owned()))?;
        let config = ExecConfig {
            attach_stdin: Some(exec.with_input),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(false),
            env: Some(exec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            cmd: Some(exec.command.clone()),
            user: exec.user.clone(),
            ..ExecConfig::default()
        };
        let docker = &self.engine.docker;
        let command = exec.command.first().cloned().unwrap_or_default();
        let made = docker.create_exec(&container.id, config).await.map_err(failed("run a command in", service))?;
        let started = docker.start_exec(&made.id, None).await.map_err(failed("run a command in", service))?;
        let (output, input): (Pin<Box<dyn Stream<Item = _> + Send>>, _) = match started {
            StartExecResults::Attached { output, input } => (output, exec.with_input.then_some(input)),
            StartExecResults::Detached => (Box::pin(futures_util::stream::empty()), None),
        };
        let (engine, service) = (self.engine.clone(), service.to_owned());
        Ok(Execution { engine, id: made.id, service, command, output, input, said: VecDeque::new() })
    }
}

impl Execution {
    /// The next piece of its standard output, or nothing once it has closed it.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(piece) = self.output.next().await {
            match piece.map_err(failed("read from", &self.command))? {
                LogOutput::StdOut { message } => return Ok(Some(message)),
                LogOutput::StdErr { message } => {
                    self.said.extend(message);
                    let excess = self.said.len().saturating_sub(SAID_BYTES_MAX);
                    self.said.drain(..excess);
                }
                LogOutput::StdIn { .. } | LogOutput::Console { .. } => {}
            }
        }
        Ok(None)
    }

    /// Writes to its standard input.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(input) = &mut self.input else { return Ok(()) };
        let written = input.write_all(bytes).await;
        written.map_err(|source| failed("write to", &self.command)(source.into()))
    }

    /// Its standard input apart from the rest, so that one can be written while the other is read.
    pub(crate) fn split(mut self) -> (Self, Option<Input>) {
        let input = self.input.take();
        (self, input)
    }

    /// Closes its standard input.
    pub async fn close_input(&mut self) -> Result<(), Error> {
        let Some(mut input) = self.input.take() else { return Ok(()) };
        input.shutdown().await.map_err(|source| failed("write to", &self.command)(source.into()))
    }

    /// Reads what is left and says the exit code: a stream that ends is no success yet.
    pub async fn exit_code(&mut self) -> Result<i64, Error> {
        while self.next().await?.is_some() {}
        let looked = self.engine.docker.inspect_exec(&self.id).await.map_err(failed("look at", &self.command))?;
        let unknown = || Error::Exec {
            service: self.service.clone(),
            command: self.command.clone(),
            ended: "has not ended, though it closed its output".to_owned(),
        };
        looked.exit_code.filter(|_| looked.running != Some(true)).ok_or_else(unknown)
    }

    /// Fails unless the command ended with 0.
    pub async fn finish(mut self) -> Result<(), Error> {
        match self.exit_code().await? {
            0 => Ok(()),
            code => Err(Error::Exec {
                ended: format!("ended with exit code {code}"),
                service: self.service,
                command: self.command,
            }),
        }
    }

    /// The last of what it wrote to its standard error. It may hold secrets.
    pub fn said(&self) -> String {
        let (front, back) = self.said.as_slices();
        String::from_utf8_lossy(&[front, back].concat()).into_owned()
    }
}
