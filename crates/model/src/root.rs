use serde::{Deserialize, Serialize};

use crate::ObjectId;

/// Where one stream of bytes lies in the repository, and what it must be when it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The keyed digest of the whole stream: two streams are equal if and only if this is.
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
