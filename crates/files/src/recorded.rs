//! One recorded file, for whoever must know what it says before it goes back.

use backstay_part::{ErrorKind, Recorded};
use tokio::sync::mpsc;

use crate::entry::Facts;
use crate::part::CONTENT;
use crate::stream::Inlet;
use crate::{Error, archive};

/// Larger ones are no configuration that anybody reads a word from.
const BYTES_MAX: u64 = 1 << 20;

/// What a file held when it was recorded. Nothing where the snapshot holds no such file, or one too large
/// to be settings.
pub async fn recorded_file(recorded: &Recorded, path: &str) -> Result<Option<Vec<u8>>, backstay_part::Error> {
    content(recorded, path).await.map_err(|source| backstay_part::Error {
        part: recorded.record.name.clone(),
        action: "read",
        kind: ErrorKind::Damaged,
        source: Box::new(source),
    })
}

async fn content(recorded: &Recorded, path: &str) -> Result<Option<Vec<u8>>, Error> {
    let facts: Facts = recorded.facts().map_err(|source| Error::Json { what: "the facts of the files", source })?;
    if !facts.entries.iter().any(|entry| entry.path == path && entry.bytes() <= BYTES_MAX) {
        return Ok(None);
    }
    let missing = Error::Damaged { path: CONTENT.to_owned(), what: "the stream is missing" };
    let root = recorded.contents.get(CONTENT).cloned().ok_or(missing)?;
    let (sender, receiver) = mpsc::channel(8);
    let wanted = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let mut found = None;
        archive::read(&facts.entries, Inlet::new(receiver), |entry, content| {
            if entry.path == wanted {
                let bytes = found.insert(Vec::new());
                content.read_to_end(bytes).map_err(Error::io("read", wanted.clone()))?;
            }
            Ok(())
        })?;
        Ok(found)
    });
    let mut stream = recorded.repository.read(&root);
    while let Some(piece) = stream.next().await.map_err(|source| Error::Repository { action: "read", source })? {
        if sender.send(Some(piece)).await.is_err() {
            break;
        }
    }
    let _ = sender.send(None).await;
    drop(sender);
    reading.await.unwrap_or(Err(Error::Ended))
}
