//! A snapshot as an ordinary `.tar.gz` that needs no Backstay.

use std::io::{self, Read, Write};

use backstay_model::Root;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::task::compute;
use crate::{Error, Repository};

/// One file of an export.
#[derive(Debug, Clone)]
pub struct ExportEntry {
    /// Its path within the archive: relative, and never upwards.
    pub name: String,
    pub mode: u32,
    pub content: ExportContent,
}

#[derive(Debug, Clone)]
pub enum ExportContent {
    Stream(Root),
    Bytes(Vec<u8>),
}

/// Pieces on their way to the thread that packs.
const PIECES: usize = 4;
const SUMS: &str = "SHA256SUMS";

impl Repository {
    /// Writes the entries, and `SHA256SUMS` over them, in the order given. `seconds` is every file's
    /// time. Returns the writer once everything reached it.
    pub async fn export<W: Write + Send + 'static>(
        &self,
        entries: &[ExportEntry],
        seconds: u64,
        writer: W,
    ) -> Result<W, Error> {
        let mut archive = tar::Builder::new(GzEncoder::new(writer, Compression::default()));
        let mut sums = String::new();
        for entry in entries {
            let (back, sum) = self.append(archive, entry, seconds).await?;
            archive = back;
            sums.push_str(&format!("{sum}  {}\n", entry.name));
        }
        let sums = ExportEntry { name: SUMS.to_owned(), mode: 0o644, content: ExportContent::Bytes(sums.into_bytes()) };
        let (archive, _) = self.append(archive, &sums, seconds).await?;
        let ended = compute(move || archive.into_inner().and_then(GzEncoder::finish)).await?;
        ended.map_err(|source| Error::Output { subject: "the archive".to_owned(), source })
    }

    async fn append<W: Write + Send + 'static>(
        &self,
        mut archive: tar::Builder<GzEncoder<W>>,
        entry: &ExportEntry,
        seconds: u64,
    ) -> Result<(tar::Builder<GzEncoder<W>>, String), Error> {
        let bytes = match &entry.content {
            ExportContent::Stream(root) => root.bytes,
            ExportContent::Bytes(bytes) => bytes.len() as u64,
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(entry.mode);
        header.set_mtime(seconds);
        let name = entry.name.clone();
        let (sender, receiver) = mpsc::channel(PIECES);
        let packing = tokio::task::spawn_blocking(move || {
            let mut pieces = Pieces { receiver, piece: Bytes::new(), digest: Sha256::new(), left: bytes };
            let done = archive.append_data(&mut header, &name, &mut pieces);
            done.map(|()| (archive, hex::encode(pieces.digest.finalize())))
        });
        let fed = self.feed(&entry.content, sender).await;
        let packed = packing.await.map_err(|_| Error::Stopped { action: "packing an archive" })?;
        fed?;
        packed.map_err(|source| Error::Output { subject: format!("`{}` to the archive", entry.name), source })
    }

    async fn feed(&self, content: &ExportContent, sender: mpsc::Sender<Bytes>) -> Result<(), Error> {
        match content {
            // Where nobody receives any more, packing failed and says why.
            ExportContent::Bytes(bytes) => drop(sender.send(Bytes::copy_from_slice(bytes)).await),
            ExportContent::Stream(root) => {
                let mut reader = self.read(root);
                while let Some(piece) = reader.next().await? {
                    if sender.send(piece).await.is_err() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A stream's pieces as something to read from on a thread of its own.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
    digest: Sha256,
    left: u64,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece,
                None if self.left == 0 => return Ok(0),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let length = buffer.len().min(self.piece.len());
        let head = self.piece.split_to(length);
        buffer[..length].copy_from_slice(&head);
        self.digest.update(&head);
        self.left = self.left.saturating_sub(length as u64);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::trial::{fresh, noise, snapshot};

    #[tokio::test(flavor = "multi_thread")]
    async fn an_export_unpacks_to_the_streams_with_their_sums() {
        let (_, clock, repository) = fresh().await;
        let bytes = noise(1, 400_000);
        let manifest = snapshot(&repository, &clock, &[("rows", bytes.clone())]).await.unwrap();
        let contents = repository.contents(&manifest.parts[0]).await.unwrap();
        let script = b"#!/bin/sh\n".to_vec();
        let entries = [
            ExportEntry {
                name: "shop/rows.copy".to_owned(),
                mode: 0o600,
                content: ExportContent::Stream(contents["rows"].clone()),
            },
            ExportEntry { name: "shop/restore.sh".to_owned(), mode: 0o755, content: ExportContent::Bytes(script) },
        ];
        let packed = repository.export(&entries, 1_700_000_000, Vec::new()).await.unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&packed[..]));
        let mut found = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            found.insert(name, (entry.header().mode().unwrap(), content));
        }
        assert_eq!(found["shop/rows.copy"], (0o600, bytes));
        assert_eq!(found["shop/restore.sh"].0, 0o755);
        for line in std::str::from_utf8(&found["SHA256SUMS"].1).unwrap().lines() {
            let (sum, name) = line.split_once("  ").unwrap();
            assert_eq!(hex::encode(Sha256::digest(&found[name].1)), sum);
        }
    }
}
