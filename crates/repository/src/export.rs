//! A snapshot as an ordinary `.tar.gz` that needs no Backstay.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;

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
    /// As they are, one after the other.
    Plain(Vec<ExportPiece>),
    /// Lines, packed piece by piece into files of their own: `NAME.000000.gz` and so on. An archive says how long
    /// a file is before it begins, and a piece fits into memory.
    Gzipped(Root),
}

#[derive(Debug, Clone)]
pub enum ExportPiece {
    Bytes(Bytes),
    Stream(Root),
    /// From its beginning.
    File(Arc<File>),
}

/// Pieces on their way to the thread that packs.
const PIECES: usize = 4;
const PIECE_BYTES: usize = 256 << 10;
/// A packed piece ends with the first line after so many bytes, and at the latest after twice as many.
const LINES_BYTES: usize = 32 << 20;
const SUMS: &str = "SHA256SUMS";

impl ExportEntry {
    pub fn text(name: impl Into<String>, mode: u32, text: impl Into<String>) -> Self {
        let bytes = Bytes::from(text.into().into_bytes());
        Self { name: name.into(), mode, content: ExportContent::Plain(vec![ExportPiece::Bytes(bytes)]) }
    }

    pub fn stream(name: impl Into<String>, mode: u32, root: Root) -> Self {
        Self { name: name.into(), mode, content: ExportContent::Plain(vec![ExportPiece::Stream(root)]) }
    }
}

impl ExportPiece {
    fn bytes(&self) -> io::Result<u64> {
        Ok(match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Stream(root) => root.bytes,
            Self::File(file) => file.metadata()?.len(),
        })
    }
}

/// An archive being written: append what it holds, then finish it.
pub struct ExportWriter<W: Write + Send + 'static> {
    repository: Repository,
    target: Option<Target<W>>,
    sums: String,
}

impl Repository {
    /// Begins an archive whose files lie in one `folder`; `seconds` is every file's time.
    pub fn export<W: Write + Send + 'static>(&self, folder: &str, seconds: u64, writer: W) -> ExportWriter<W> {
        // Most of what comes is packed already, or is read only once.
        let archive = tar::Builder::new(GzEncoder::new(writer, Compression::fast()));
        let target = Target { archive, folder: folder.to_owned(), seconds, lines_bytes: LINES_BYTES };
        ExportWriter { repository: self.clone(), target: Some(target), sums: String::new() }
    }
}

impl<W: Write + Send + 'static> ExportWriter<W> {
    /// Writes one entry; `moved` hears of the bytes that were read for it. After an error nothing can follow.
    pub async fn append(&mut self, entry: &ExportEntry, moved: &(dyn Fn(u64) + Send + Sync)) -> Result<(), Error> {
        let mut target = self.target.take().ok_or(Error::Stopped { action: "packing an archive" })?;
        let (sender, receiver) = mpsc::channel(PIECES);
        let packed = entry.clone();
        let packing = tokio::task::spawn_blocking(move || {
            let sums = match &packed.content {
                ExportContent::Plain(pieces) => target.append_plain(&packed, pieces, receiver),
                ExportContent::Gzipped(_) => target.append_gzipped(&packed, receiver),
            };
            sums.map(|sums| (target, sums))
        });
        let fed = self.feed(&entry.content, sender, moved).await;
        let packed = packing.await.map_err(|_| Error::Stopped { action: "packing an archive" })?;
        // What could not be read comes first: that packing then failed is only its echo.
        fed?;
        let (target, sums) =
            packed.map_err(|source| Error::Output { subject: format!("`{}` to the archive", entry.name), source })?;
        self.target = Some(target);
        self.sums.push_str(&sums);
        Ok(())
    }

    /// Writes `SHA256SUMS` over everything, and returns the writer once all reached it.
    pub async fn finish(mut self) -> Result<W, Error> {
        let sums = ExportEntry::text(SUMS, 0o644, std::mem::take(&mut self.sums));
        self.append(&sums, &|_| {}).await?;
        let target = self.target.take().ok_or(Error::Stopped { action: "packing an archive" })?;
        let ended = compute(move || target.archive.into_inner().and_then(GzEncoder::finish)).await?;
        ended.map_err(|source| Error::Output { subject: "the archive".to_owned(), source })
    }

    async fn feed(
        &self,
        content: &ExportContent,
        sender: mpsc::Sender<Bytes>,
        moved: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), Error> {
        let lines;
        let pieces = match content {
            ExportContent::Plain(pieces) => pieces,
            ExportContent::Gzipped(root) => {
                lines = vec![ExportPiece::Stream(root.clone())];
                &lines
            }
        };
        for piece in pieces {
            // Where nobody receives any more, packing failed and says why.
            match piece {
                ExportPiece::Bytes(bytes) => {
                    let _ = sender.send(bytes.clone()).await;
                }
                ExportPiece::Stream(root) => {
                    let mut reader = self.repository.read(root);
                    while let Some(piece) = reader.next().await? {
                        let bytes = piece.len() as u64;
                        if sender.send(piece).await.is_err() {
                            return Ok(());
                        }
                        moved(bytes);
                    }
                }
                ExportPiece::File(file) => {
                    let (file, sender) = (Arc::clone(file), sender.clone());
                    let reading = tokio::task::spawn_blocking(move || read_file(&file, &sender)).await;
                    let read = reading.map_err(|_| Error::Stopped { action: "reading a spooled file" })?;
                    read.map_err(|source| Error::Output { subject: "a spooled file".to_owned(), source })?;
                }
            }
        }
        Ok(())
    }
}

fn read_file(mut file: &File, sender: &mpsc::Sender<Bytes>) -> io::Result<()> {
    file.rewind()?;
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let read = file.read(&mut piece)?;
        piece.truncate(read);
        if read == 0 || sender.blocking_send(piece.into()).is_err() {
            return Ok(());
        }
    }
}

/// What the thread that packs writes to.
struct Target<W: Write> {
    archive: tar::Builder<GzEncoder<W>>,
    folder: String,
    seconds: u64,
    lines_bytes: usize,
}

impl<W: Write> Target<W> {
    /// Returns the line for `SHA256SUMS`.
    fn append(&mut self, name: &str, mode: u32, bytes: u64, content: impl Read) -> io::Result<String> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes);
        header.set_mode(mode);
        header.set_mtime(self.seconds);
        let mut content = Summed { content, digest: Sha256::new() };
        self.archive.append_data(&mut header, format!("{}/{name}", self.folder), &mut content)?;
        Ok(format!("{}  {name}\n", hex::encode(content.digest.finalize())))
    }

    fn append_plain(
        &mut self,
        entry: &ExportEntry,
        pieces: &[ExportPiece],
        receiver: mpsc::Receiver<Bytes>,
    ) -> io::Result<String> {
        let bytes = pieces.iter().map(ExportPiece::bytes).sum::<io::Result<u64>>()?;
        self.append(&entry.name, entry.mode, bytes, Pieces { receiver, piece: Bytes::new(), left: bytes })
    }

    fn append_gzipped(&mut self, entry: &ExportEntry, mut receiver: mpsc::Receiver<Bytes>) -> io::Result<String> {
        let mut sums = String::new();
        let mut number = 0;
        let mut lines = Lines::new();
        while let Some(mut piece) = receiver.blocking_recv() {
            while !piece.is_empty() {
                let (length, full) = lines.cut(&piece, self.lines_bytes);
                lines.packer.write_all(&piece.split_to(length))?;
                lines.bytes += length;
                if full {
                    let packed = std::mem::replace(&mut lines, Lines::new()).packer.finish()?;
                    sums += &self.append_packed(entry, number, &packed)?;
                    number += 1;
                }
            }
        }
        if lines.bytes > 0 || number == 0 {
            sums += &self.append_packed(entry, number, &lines.packer.finish()?)?;
        }
        Ok(sums)
    }

    fn append_packed(&mut self, entry: &ExportEntry, number: u32, packed: &[u8]) -> io::Result<String> {
        // Enough digits that the order of names is the order of pieces.
        self.append(&format!("{}.{number:06}.gz", entry.name), entry.mode, packed.len() as u64, packed)
    }
}

/// Lines on their way into one packed file.
struct Lines {
    packer: GzEncoder<Vec<u8>>,
    bytes: usize,
}

impl Lines {
    fn new() -> Self {
        Self { packer: GzEncoder::new(Vec::new(), Compression::default()), bytes: 0 }
    }

    /// How much of a piece still belongs into this file, and whether it is full then.
    fn cut(&self, piece: &[u8], limit: usize) -> (usize, bool) {
        let from = limit.saturating_sub(self.bytes);
        let rest = piece.get(from..).unwrap_or_default();
        match rest.iter().position(|byte| *byte == b'\n') {
            Some(end) => (from + end + 1, true),
            None => (piece.len(), self.bytes + piece.len() >= 2 * limit),
        }
    }
}

struct Summed<R> {
    content: R,
    digest: Sha256,
}

impl<R: Read> Read for Summed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        self.digest.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// A stream's pieces as something to read from on a thread of its own.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
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
        self.left = self.left.saturating_sub(length as u64);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::trial::{fresh, noise, snapshot};

    fn unpacked(packed: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed));
        let mut found = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let name = name.strip_prefix("shop-1/").expect("everything lies in one folder").to_owned();
            found.insert(name, (entry.header().mode().unwrap(), content));
        }
        found
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_export_unpacks_to_what_went_in_with_its_sums() {
        let (_, clock, repository) = fresh().await;
        let bytes = noise(1, 400_000);
        let lines: Vec<u8> = (0..50_000).flat_map(|n| format!("{n}\trow\n").into_bytes()).collect();
        let streams = [("files", bytes.clone()), ("rows", lines.clone())];
        let manifest = snapshot(&repository, &clock, &streams).await.unwrap();
        let contents = repository.contents(&manifest.parts[0]).await.unwrap();
        let mut spooled = tempfile::tempfile().unwrap();
        spooled.write_all(b"spooled").unwrap();
        let joined = vec![
            ExportPiece::Bytes(Bytes::from_static(b"head ")),
            ExportPiece::File(Arc::new(spooled)),
            ExportPiece::Stream(contents["files"].clone()),
        ];
        let entries = [
            ExportEntry { name: "joined".to_owned(), mode: 0o600, content: ExportContent::Plain(joined) },
            ExportEntry {
                name: "shop/rows.copy".to_owned(),
                mode: 0o600,
                content: ExportContent::Gzipped(contents["rows"].clone()),
            },
            ExportEntry::text("restore.sh", 0o755, "#!/bin/sh\n"),
        ];
        let mut archive = repository.export("shop-1", 1_700_000_000, Vec::new());
        archive.target.as_mut().unwrap().lines_bytes = 100_000;
        let moved = std::sync::atomic::AtomicU64::new(0);
        for entry in &entries {
            let add = |bytes| {
                moved.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
            };
            archive.append(entry, &add).await.unwrap();
        }
        let found = unpacked(&archive.finish().await.unwrap());

        assert_eq!(moved.into_inner(), (bytes.len() + lines.len()) as u64);
        assert_eq!(found["joined"], (0o600, [b"head spooled", &bytes[..]].concat()));
        assert_eq!(found["restore.sh"].0, 0o755);
        let pieces: Vec<_> = found.iter().filter(|(name, _)| name.starts_with("shop/rows.copy.")).collect();
        assert!(pieces.len() > 2, "{} pieces", pieces.len());
        let mut together = Vec::new();
        for (name, (_, packed)) in pieces {
            let before = together.len();
            flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut together).unwrap();
            assert!(together.len() > before && together.ends_with(b"\n"), "{name} is not whole lines");
        }
        assert!(together == lines);
        let sums = std::str::from_utf8(&found["SHA256SUMS"].1).unwrap();
        assert_eq!(sums.lines().count(), found.len() - 1);
        for line in sums.lines() {
            let (sum, name) = line.split_once("  ").unwrap();
            assert_eq!(hex::encode(Sha256::digest(&found[name].1)), sum);
        }
    }

    #[test]
    fn a_line_longer_than_a_file_may_be_is_cut_within() {
        let lines = Lines { bytes: 150, ..Lines::new() };
        assert_eq!(lines.cut(&[b'x'; 49], 100), (49, false));
        assert_eq!(lines.cut(&[b'x'; 50], 100), (50, true));
        assert_eq!(lines.cut(b"xx\nxx", 100), (3, true));
        assert_eq!(Lines::new().cut(b"xx\nxx\nxx", 4), (6, true));
    }
}
