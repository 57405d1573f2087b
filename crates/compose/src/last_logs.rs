use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::TryStreamExt;

use chrono::{DateTime, Utc};

use crate::mask::Mask;
use crate::{Engine, Error, Project};

/// What an error says of a container has room for.
const FEW: u32 = 12;
const BYTES_MAX: usize = 64 * 1024;
const LOG_BYTES_MAX: usize = 1 << 20;

/// The last lines that a container wrote, with secrets covered. Empty where they cannot be had.
pub(crate) async fn last_logs(engine: &Engine, container: &str, mask: &Mask) -> Vec<String> {
    last_lines(engine, container, FEW, mask).await
}

async fn last_lines(engine: &Engine, container: &str, lines: u32, mask: &Mask) -> Vec<String> {
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&lines.to_string()).build();
    let mut stream = Box::pin(engine.docker.logs(container, Some(options)));
    let mut text = Vec::new();
    while let Ok(Some(piece)) = stream.try_next().await {
        text.extend_from_slice(&piece.into_bytes());
        if text.len() > BYTES_MAX {
            break;
        }
    }
    mask.apply(&String::from_utf8_lossy(&text)).lines().map(|line| line.trim_end().to_owned()).collect()
}

impl Project {
    /// The last that each container of a service wrote, with secrets covered.
    pub async fn last_lines(&self, service: &str, lines: u32) -> Result<Vec<String>, Error> {
        let containers = self.containers().await?;
        let mask = Self::mask(&containers);
        let mut said = Vec::new();
        for container in containers.iter().filter(|container| container.service == service) {
            said.extend(last_lines(&self.engine, &container.id, lines, &mask).await);
        }
        Ok(said)
    }

    /// What the containers of a service wrote since a moment, as far back as a limit allows, with
    /// secrets covered.
    pub async fn logs_since(&self, service: &str, since: DateTime<Utc>) -> Result<Vec<String>, Error> {
        let containers = self.containers().await?;
        let mask = Mask::of(containers.iter().map(|container| &container.environment));
        let since = i32::try_from(since.timestamp()).unwrap_or(i32::MAX);
        let mut lines = Vec::new();
        for container in containers.iter().filter(|container| container.service == service) {
            let options = LogsOptionsBuilder::default().stdout(true).stderr(true).since(since).tail("1000").build();
            let mut stream = Box::pin(self.engine.docker.logs(&container.id, Some(options)));
            let mut text = Vec::new();
            while let Ok(Some(piece)) = stream.try_next().await {
                text.extend_from_slice(&piece.into_bytes());
                if text.len() > LOG_BYTES_MAX {
                    break;
                }
            }
            lines.extend(mask.apply(&String::from_utf8_lossy(&text)).lines().map(|line| line.trim_end().to_owned()));
        }
        Ok(lines)
    }
}
