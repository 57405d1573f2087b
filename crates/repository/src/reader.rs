use std::collections::VecDeque;

use backstay_model::{ObjectId, Place, Root};
use bytes::Bytes;

use crate::chunk;
use crate::names;
use crate::seal::{KeyedDigest, Kind, finish};
use crate::task::{Task, compute};
use crate::{Error, Flaw, Repository};

/// So many chunks are fetched ahead of the one that is handed out.
const AHEAD: usize = 3;

/// Reads one stream; every chunk is verified before any byte of it is handed out.
pub struct StreamReader {
    repository: Repository,
    root: Root,
    source: Source,
    flying: VecDeque<Task<Result<Bytes, Error>>>,
    /// Of what was handed out, where the root does not leave it to the ids of the chunks.
    digest: Option<KeyedDigest>,
    bytes: u64,
    /// Nothing more is read after an error.
    torn: bool,
    /// Whether damage is to name the snapshots it hurts.
    blames: bool,
}

/// Where the next chunk's id comes from.
enum Source {
    Exhausted,
    Chunk(ObjectId),
    Shared { bundle: ObjectId, offset: u64 },
    List(ObjectId),
    Entries(VecDeque<(ObjectId, u32)>),
    LongList { list: Box<StreamReader>, rest: Vec<u8>, entries: VecDeque<(ObjectId, u32)> },
}

/// What to fetch next.
enum Piece {
    Chunk(ObjectId),
    Shared { bundle: ObjectId, offset: u64 },
}

impl StreamReader {
    pub(crate) fn new(repository: &Repository, root: &Root) -> Self {
        let source = match &root.place {
            Place::Empty => Source::Exhausted,
            Place::Chunk(id) => Source::Chunk(*id),
            Place::Shared { chunk, offset } => Source::Shared { bundle: *chunk, offset: *offset },
            Place::List(id) => Source::List(*id),
            Place::LongList(list) => {
                let list = Box::new(Self::new(repository, list));
                Source::LongList { list, rest: Vec::new(), entries: VecDeque::new() }
            }
        };
        Self {
            // Whoever reads chunks by their names has verified those. In snapshots of early versions the digest is
            // over the bytes once more.
            digest: (root.place.id() != Some(root.digest)).then(|| repository.keys().digest(Kind::Stream)),
            repository: repository.clone(),
            root: root.clone(),
            source,
            flying: VecDeque::new(),
            bytes: 0,
            torn: false,
            blames: true,
        }
    }

    /// For looking whom damage hurts, which must not ask that question again.
    pub(crate) fn without_blame(mut self) -> Self {
        self.blames = false;
        self
    }

    /// The next piece, or nothing at the end, which is reached only when the whole stream was as
    /// its root says.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if std::mem::replace(&mut self.torn, true) {
            return Err(Error::Stopped { action: "reading a stream" });
        }
        match self.advance().await {
            Ok(piece) => {
                self.torn = false;
                Ok(piece)
            }
            Err(error) => {
                self.flying.clear();
                Err(if self.blames { self.repository.naming_the_hurt(error).await } else { error })
            }
        }
    }

    async fn advance(&mut self) -> Result<Option<Bytes>, Error> {
        while self.flying.len() < AHEAD
            && let Some(piece) = self.piece().await?
        {
            self.flying.push_back(self.fetch(piece));
        }
        let Some(task) = self.flying.pop_front() else {
            let differs = self.digest.clone().is_some_and(|digest| finish(digest) != self.root.digest);
            return if self.bytes == self.root.bytes && !differs { Ok(None) } else { Err(self.not_the_stream()) };
        };
        let mut chunk = task.end().await??;
        self.bytes += chunk.len() as u64;
        if self.bytes > self.root.bytes {
            return Err(self.not_the_stream());
        }
        if let Some(mut digest) = self.digest.take() {
            (self.digest, chunk) = compute(move || {
                hmac::Mac::update(&mut digest, &chunk);
                (Some(digest), chunk)
            })
            .await?;
        }
        Ok(Some(chunk))
    }

    fn not_the_stream(&self) -> Error {
        let (key, object) = match &self.root.place {
            Place::Chunk(id) | Place::List(id) | Place::Shared { chunk: id, .. } => (names::object(id), Some(*id)),
            Place::Empty | Place::LongList(_) => (self.root.digest.to_string(), None),
        };
        Error::damaged(key, Flaw::Stream, object)
    }

    fn fetch(&self, piece: Piece) -> Task<Result<Bytes, Error>> {
        let repository = self.repository.clone();
        let bytes = self.root.bytes;
        Task::start(async move {
            match piece {
                Piece::Chunk(id) => repository.object(&id, Kind::Chunk).await,
                Piece::Shared { bundle, offset } => {
                    let whole = repository.bundle(&bundle).await?;
                    let start = usize::try_from(offset).unwrap_or(usize::MAX);
                    let end = usize::try_from(bytes).ok().and_then(|bytes| start.checked_add(bytes));
                    match end {
                        Some(end) if end <= whole.len() => Ok(whole.slice(start..end)),
                        _ => Err(Error::damaged(names::object(&bundle), Flaw::Stream, Some(bundle))),
                    }
                }
            }
        })
    }

    async fn piece(&mut self) -> Result<Option<Piece>, Error> {
        loop {
            match &mut self.source {
                Source::Exhausted => return Ok(None),
                Source::Chunk(id) => {
                    let piece = Piece::Chunk(*id);
                    self.source = Source::Exhausted;
                    return Ok(Some(piece));
                }
                Source::Shared { bundle, offset } => {
                    let piece = Piece::Shared { bundle: *bundle, offset: *offset };
                    self.source = Source::Exhausted;
                    return Ok(Some(piece));
                }
                Source::List(id) => {
                    let id = *id;
                    self.source = Source::Entries(self.repository.list_object(&id).await?.into());
                }
                Source::Entries(entries) => return Ok(entries.pop_front().map(|(id, _)| Piece::Chunk(id))),
                Source::LongList { list, rest, entries } => {
                    if let Some((id, _)) = entries.pop_front() {
                        return Ok(Some(Piece::Chunk(id)));
                    }
                    let Some(piece) = Box::pin(list.next()).await? else {
                        return if rest.is_empty() { Ok(None) } else { Err(self.not_the_stream()) };
                    };
                    rest.extend_from_slice(&piece);
                    let whole = rest.len() - rest.len() % chunk::ENTRY_BYTES;
                    entries.extend(chunk::entries(&rest[..whole]).unwrap_or_default());
                    rest.drain(..whole);
                }
            }
        }
    }
}
