use std::io::Read;

use backstay_part::Contents;
use backstay_repository::{ExportPiece, Repository, SnapshotWriter, StreamWriter};
use bollard::query_parameters::ImportImageOptionsBuilder;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::engine::failed;
use crate::{Engine, Error};

const PIECE_BYTES: usize = 256 * 1024;
/// Pieces on their way between the two sides: a few megabytes at most.
const PIECES_MAX: usize = 8;
const MEMBERS_MAX: usize = 100_000;
const BLOCK: u64 = 512;
/// Two empty blocks end a tar stream.
const END_BYTES: usize = 1024;

/// An image as the engine saves it: the members of a tar stream in their order, each file a stream
/// of its own in the repository, so that layers shared by images are stored once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// The name by which it was saved; loading brings it back.
    pub name: String,
    pub members: Vec<Member>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    path: String,
    mode: u32,
    kind: MemberKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MemberKind {
    Folder,
    Link { target: String },
    File { stream: String, bytes: u64 },
}

enum Piece {
    Begin(Member),
    Bytes(Bytes),
}

/// Saves the image called `name` into the snapshot. Streams that `contents` already has are not
/// kept twice.
pub(crate) async fn save(
    engine: &Engine,
    name: &str,
    writer: &SnapshotWriter,
    contents: &mut Contents,
) -> Result<Archive, Error> {
    let incoming = Incoming { pieces: saved_by_engine(engine.for_transfers(), name.to_owned()), current: Bytes::new() };
    let (sender, mut receiver) = mpsc::channel(PIECES_MAX);
    let parsing = tokio::task::spawn_blocking(move || parse(incoming, &sender));
    let mut filing = Filing { name, writer, contents, members: Vec::new(), open: None };
    while let Some(piece) = receiver.recv().await {
        filing.take(piece).await?;
    }
    filing.close().await?;
    let members = filing.members;
    let unreadable = |why: String| Error::Archive { image: name.to_owned(), why };
    match parsing.await {
        Ok(Ok(())) => {}
        Ok(Err(source)) => {
            return Err(failed("save", name)(source.into()));
        }
        Err(_) => return Err(unreadable("it could not be taken apart".to_owned())),
    }
    if members.iter().all(|member| member.path != "manifest.json") {
        return Err(unreadable("the engine sent no manifest".to_owned()));
    }
    Ok(Archive { name: name.to_owned(), members })
}

/// What the engine sends, for a thread that reads it.
struct Incoming {
    pieces: mpsc::Receiver<std::io::Result<Bytes>>,
    current: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let piece = self.current.split_to(self.current.len().min(buffer.len()));
        for (place, byte) in buffer.iter_mut().zip(&piece) {
            *place = *byte;
        }
        Ok(piece.len())
    }
}

fn saved_by_engine(docker: bollard::Docker, name: String) -> mpsc::Receiver<std::io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    tokio::spawn(async move {
        let mut stream = Box::pin(docker.export_image(&name));
        while let Some(piece) = stream.next().await {
            if sender.send(piece.map_err(std::io::Error::other)).await.is_err() {
                return;
            }
        }
    });
    receiver
}

fn receive<T: Send>(receiver: mpsc::Receiver<T>) -> impl futures_util::Stream<Item = T> + Send {
    futures_util::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) })
}

struct Filing<'a> {
    name: &'a str,
    writer: &'a SnapshotWriter,
    contents: &'a mut Contents,
    members: Vec<Member>,
    open: Option<OpenFile>,
}

struct OpenFile {
    member: Member,
    stream: StreamWriter,
    digest: Sha256,
    bytes: u64,
}

impl Filing<'_> {
    async fn take(&mut self, piece: Piece) -> Result<(), Error> {
        match piece {
            Piece::Begin(member) => {
                self.close().await?;
                if matches!(member.kind, MemberKind::File { .. }) {
                    let stream = self.writer.stream();
                    self.open = Some(OpenFile { member, stream, digest: Sha256::new(), bytes: 0 });
                } else {
                    self.members.push(member);
                }
            }
            Piece::Bytes(bytes) => {
                let Some(open) = &mut self.open else { return Ok(()) };
                open.digest.update(&bytes);
                open.bytes += bytes.len() as u64;
                let pushed = open.stream.push(bytes).await;
                pushed.map_err(|source| Error::Repository { image: self.name.to_owned(), source })?;
            }
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), Error> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let stream = format!("blob/{}", hex::encode(open.digest.finalize()));
        if !self.contents.contains_key(&stream) {
            let finished = open.stream.finish().await;
            let root = finished.map_err(|source| Error::Repository { image: self.name.to_owned(), source })?;
            self.contents.insert(stream.clone(), root);
        }
        open.member.kind = MemberKind::File { stream, bytes: open.bytes };
        self.members.push(open.member);
        Ok(())
    }
}

/// Takes a tar stream apart, on a thread of its own.
fn parse(reader: impl Read, sender: &mpsc::Sender<Piece>) -> std::io::Result<()> {
    let mut archive = tar::Archive::new(reader);
    for (count, entry) in archive.entries()?.enumerate() {
        if count >= MEMBERS_MAX {
            return Err(std::io::Error::other("the archive has too many members"));
        }
        let mut entry = entry?;
        let header = entry.header();
        let path = entry.path()?.to_string_lossy().trim_end_matches('/').to_owned();
        let mode = header.mode()?;
        let kind = match header.entry_type() {
            tar::EntryType::Directory => MemberKind::Folder,
            tar::EntryType::Symlink | tar::EntryType::Link => {
                let target = entry.link_name()?.unwrap_or_default().to_string_lossy().into_owned();
                MemberKind::Link { target }
            }
            _ => MemberKind::File { stream: String::new(), bytes: 0 },
        };
        if sender.blocking_send(Piece::Begin(Member { path, mode, kind })).is_err() {
            return Ok(());
        }
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = entry.read(&mut piece)?;
            if read == 0 {
                break;
            }
            let bytes = Bytes::copy_from_slice(piece.get(..read).unwrap_or_default());
            if sender.blocking_send(Piece::Bytes(bytes)).is_err() {
                return Ok(());
            }
        }
    }
    // The engine's answer ends after the tar's own end; what is left is read so that its end is seen.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).map(|_| ())
}

/// The tar stream put together again, piece by piece.
pub(crate) fn pieces(image: &str, archive: &Archive, contents: &Contents) -> Result<Vec<ExportPiece>, Error> {
    let unreadable = |why: String| Error::Archive { image: image.to_owned(), why };
    let mut pieces = Vec::new();
    for member in &archive.members {
        let header = header_of(member).map_err(|source| unreadable(source.to_string()))?;
        pieces.push(ExportPiece::Bytes(header));
        let MemberKind::File { stream, bytes } = &member.kind else { continue };
        let root = contents.get(stream).ok_or_else(|| unreadable(format!("`{stream}` is missing")))?;
        if root.bytes != *bytes {
            return Err(unreadable(format!("`{}` has another length", member.path)));
        }
        pieces.push(ExportPiece::Stream(root.clone()));
        let padding = usize::try_from(bytes.next_multiple_of(BLOCK) - bytes).unwrap_or_default();
        pieces.push(ExportPiece::Bytes(vec![0; padding].into()));
    }
    pieces.push(ExportPiece::Bytes(vec![0; END_BYTES].into()));
    Ok(pieces)
}

/// Puts the tar stream together again and lets the engine load it.
pub(crate) async fn load(
    engine: &Engine,
    image: &str,
    archive: &Archive,
    contents: &Contents,
    repository: &Repository,
) -> Result<(), Error> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let feeding = feed(image, archive, contents, repository, sender);
    let docker = engine.for_transfers();
    let options = ImportImageOptionsBuilder::default().quiet(true).build();
    let loading = docker.import_image_stream(options, receive(receiver), None);
    let loading = loading.try_for_each(|_| async { Ok(()) });
    let (fed, loaded) = tokio::join!(feeding, loading);
    fed?;
    loaded.map_err(failed("load", image))
}

type Fed = mpsc::Sender<Result<Bytes, std::io::Error>>;

async fn feed(
    image: &str,
    archive: &Archive,
    contents: &Contents,
    repository: &Repository,
    sender: Fed,
) -> Result<(), Error> {
    let fed = feed_members(image, archive, contents, repository, &sender).await;
    if fed.is_err() {
        // A body that breaks off is refused; one that merely ends might be taken for whole.
        let _ = sender.send(Err(std::io::Error::other("the archive breaks off"))).await;
    }
    fed
}

async fn feed_members(
    image: &str,
    archive: &Archive,
    contents: &Contents,
    repository: &Repository,
    sender: &Fed,
) -> Result<(), Error> {
    for piece in pieces(image, archive, contents)? {
        let root = match piece {
            ExportPiece::Stream(root) => root,
            ExportPiece::Bytes(bytes) => match sender.send(Ok(bytes)).await {
                Ok(()) => continue,
                Err(_) => return Ok(()),
            },
            // A recorded image is bytes and streams.
            ExportPiece::File(_) => continue,
        };
        let mut reader = repository.read(&root);
        loop {
            let piece = reader.next().await.map_err(|source| Error::Repository { image: image.to_owned(), source })?;
            let Some(piece) = piece else { break };
            if sender.send(Ok(piece)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn header_of(member: &Member) -> std::io::Result<Bytes> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(member.mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let (kind, bytes) = match &member.kind {
        MemberKind::Folder => (tar::EntryType::Directory, 0),
        MemberKind::Link { .. } => (tar::EntryType::Symlink, 0),
        MemberKind::File { bytes, .. } => (tar::EntryType::Regular, *bytes),
    };
    header.set_entry_type(kind);
    header.set_size(bytes);
    header.set_path(&member.path)?;
    if let MemberKind::Link { target } = &member.kind {
        header.set_link_name(target)?;
    }
    header.set_cksum();
    Ok(Bytes::copy_from_slice(header.as_bytes()))
}
