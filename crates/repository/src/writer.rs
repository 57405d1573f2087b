use std::collections::VecDeque;
use std::sync::Arc;

use backstay_model::{Manifest, ObjectId, Place, Root, SnapshotId};
use bytes::{Bytes, BytesMut};

use crate::Error;
use crate::chunk::{self, CHUNK_MAX, LIST_BYTES_MAX};
use crate::seal::Kind;
use crate::session::Session;
use crate::task::{Task, compute};

/// Streams shorter than this share an object with others.
pub(crate) const SMALL_BYTES: u64 = 64 << 10;
/// Chunks of one stream that are sealed and stored side by side.
const FLYING_MAX: usize = 8;
const BUFFER_BYTES: usize = CHUNK_MAX + (1 << 20);
const PIECE_BYTES: usize = 1 << 20;

/// A snapshot in the making. It exists for nobody until [`SnapshotWriter::commit`] returns. Cheap to clone;
/// streams may be written side by side.
#[derive(Clone)]
pub struct SnapshotWriter {
    session: Arc<Session>,
}

impl SnapshotWriter {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session }
    }

    /// The reserved id: greater than every snapshot's of the environment.
    pub fn id(&self) -> &SnapshotId {
        &self.session.id
    }

    /// Begins a stream. Dropping the writer before `finish` abandons it.
    pub fn stream(&self) -> StreamWriter {
        StreamWriter::new(&self.session, true)
    }

    /// Stores a small stream at once.
    pub async fn bytes(&self, bytes: Vec<u8>) -> Result<Root, Error> {
        let mut stream = self.stream();
        stream.push(Bytes::from(bytes)).await?;
        stream.finish().await
    }

    /// Whether what is written is sealed.
    pub fn is_sealed(&self) -> bool {
        self.session.is_sealed()
    }

    /// Bytes written to the store by this snapshot so far.
    pub fn bytes_stored(&self) -> u64 {
        self.session.bytes_stored()
    }

    /// Makes everything durable, checks that what it reuses is still to be had, and writes the manifest
    /// last. Refuses when the lease no longer stands or the run is too old.
    pub async fn commit(&self, manifest: Manifest) -> Result<Manifest, Error> {
        self.session.commit(manifest).await
    }
}

/// One stream in the making.
pub struct StreamWriter {
    session: Arc<Session>,
    /// Whether it may share an object with others while it is small.
    shares: bool,
    /// What was not cut yet; nothing once a push failed or was dropped half-way.
    buffer: Option<BytesMut>,
    bytes: u64,
    flying: VecDeque<Task<Result<(ObjectId, usize), Error>>>,
    /// What the list holds; its head was moved to `list_stream` when it grew too long.
    list: Vec<u8>,
    list_stream: Option<Box<StreamWriter>>,
}

impl StreamWriter {
    pub(crate) fn new(session: &Arc<Session>, shares: bool) -> Self {
        Self {
            session: Arc::clone(session),
            shares,
            buffer: Some(BytesMut::new()),
            bytes: 0,
            flying: VecDeque::new(),
            list: Vec::new(),
            list_stream: None,
        }
    }

    pub async fn push(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            let buffer = self.buffer.as_mut().ok_or_else(torn)?;
            buffer.extend_from_slice(&piece);
            if buffer.len() >= BUFFER_BYTES {
                self.cut(false).await?;
            }
        }
        Ok(())
    }

    pub async fn finish(mut self) -> Result<Root, Error> {
        let nothing_cut = self.list.is_empty() && self.flying.is_empty() && self.list_stream.is_none();
        if nothing_cut && (self.bytes == 0 || self.shares && self.bytes < SMALL_BYTES) {
            return self.small().await;
        }
        self.cut(true).await?;
        while !self.flying.is_empty() {
            self.settle().await?;
        }
        self.root().await
    }

    /// Empty, or stored with others: its digest is over its bytes.
    async fn small(self) -> Result<Root, Error> {
        let buffer = self.buffer.ok_or_else(torn)?;
        let digest = self.session.keys().id(Kind::Stream, &buffer);
        let place = if buffer.is_empty() { Place::Empty } else { self.session.share(digest, &buffer).await? };
        Ok(Root { digest, bytes: self.bytes, place })
    }

    /// Where the chunks lie.
    async fn root(&mut self) -> Result<Root, Error> {
        let list = std::mem::take(&mut self.list);
        let place = if let Some(mut stream) = self.list_stream.take() {
            Box::pin(stream.push(list.into())).await?;
            Place::LongList(Box::new(Box::pin(stream.finish()).await?))
        } else if let [(id, _)] = chunk::entries(&list).unwrap_or_default().as_slice() {
            Place::Chunk(*id)
        } else {
            Place::List(self.session.keep(Kind::List, list.into(), None).await?)
        };
        let digest = place.id().ok_or_else(torn)?;
        Ok(Root { digest, bytes: self.bytes, place })
    }

    /// Cuts off what is sure to be a chunk, and lets it be stored.
    async fn cut(&mut self, last: bool) -> Result<(), Error> {
        let mut rest = self.buffer.take().ok_or_else(torn)?.freeze();
        let (bytes, seed) = (rest.clone(), self.session.keys().seed);
        for length in compute(move || chunk::cuts(seed, &bytes, last)).await? {
            self.launch(rest.split_to(length)).await?;
        }
        let buffer = self.buffer.insert(BytesMut::new());
        if !last {
            buffer.reserve(BUFFER_BYTES + PIECE_BYTES);
            buffer.extend_from_slice(&rest);
        }
        Ok(())
    }

    async fn launch(&mut self, chunk: Bytes) -> Result<(), Error> {
        while self.flying.len() >= FLYING_MAX {
            self.settle().await?;
        }
        let bytes = chunk.len();
        let room = self.session.room_for(bytes).await?;
        let session = Arc::clone(&self.session);
        self.flying
            .push_back(Task::start(async move { Ok((session.keep(Kind::Chunk, chunk, Some(room)).await?, bytes)) }));
        Ok(())
    }

    /// Waits for the oldest chunk in flight and writes it into the list.
    async fn settle(&mut self) -> Result<(), Error> {
        let Some(task) = self.flying.pop_front() else { return Ok(()) };
        let (id, bytes) = task.end().await??;
        if self.list.len() + chunk::ENTRY_BYTES > LIST_BYTES_MAX {
            let list = std::mem::take(&mut self.list);
            let stream = self.list_stream.get_or_insert_with(|| Box::new(Self::new(&self.session, false)));
            Box::pin(stream.push(list.into())).await?;
        }
        chunk::push_entry(&mut self.list, &id, bytes);
        Ok(())
    }
}

/// A stream in which a push failed is not written on.
fn torn() -> Error {
    Error::Stopped { action: "writing a stream" }
}
