use serde::{Deserialize, Serialize};

use crate::ObjectId;

/// Where one stream of bytes lies in the repository, and what it must be when it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Keyed, and over all bytes: two streams of one repository are equal if and only if this is. Of a stream in chunks
    /// it is the id of the chunk or of the list: chunks are named by their bytes, and a list by its chunks.
    pub digest: ObjectId,
    /// The length of the stream.
    pub bytes: u64,
    pub place: Place,
}

/// How a stream is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Nothing is stored for an empty stream.
    Empty,
    /// One chunk is the whole stream.
    Chunk(ObjectId),
    /// An object that lists the chunks in order.
    List(ObjectId),
    /// A list too large for one object, which is a stream in its turn.
    LongList(Box<Root>),
    /// A small stream within a chunk that it shares with others.
    Shared { chunk: ObjectId, offset: u64 },
}

impl Place {
    /// What names the chunk or the list that is the whole stream. It is made from all its bytes, so it is the stream's
    /// digest as well.
    pub fn id(&self) -> Option<ObjectId> {
        match self {
            Self::Chunk(id) | Self::List(id) => Some(*id),
            Self::LongList(list) => Some(list.digest),
            Self::Empty | Self::Shared { .. } => None,
        }
    }
}
