use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::TryStreamExt;

use crate::Engine;
use crate::mask::Mask;

const LINES: &str = "12";
const BYTES_MAX: usize = 16 * 1024;

/// The last lines that a container wrote, with secrets covered. Empty where they cannot be had.
pub(crate) async fn last_logs(engine: &Engine, container: &str, mask: &Mask) -> Vec<String> {
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(LINES).build();
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
