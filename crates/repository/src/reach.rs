use std::collections::{BTreeMap, BTreeSet};

use backstay_model::{Manifest, ObjectId, Place, Root};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::chunk;
use crate::{Error, Flaw, Repository};

/// What lies under `manifests/`: the manifest, and everything it reaches, so that nobody needs to
/// read a chunk to know that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) manifest: Manifest,
    pub(crate) reach: Root,
}

/// Where a small stream lies in a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Small {
    pub(crate) bundle: ObjectId,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// The objects a snapshot needs. Those that only a list names are left to the list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) chunks: BTreeSet<ObjectId>,
    pub(crate) lists: BTreeSet<ObjectId>,
    pub(crate) bundles: BTreeSet<ObjectId>,
    /// By the digest of the stream.
    pub(crate) small: BTreeMap<ObjectId, Small>,
}

const CHUNK: u8 = 1;
const LIST: u8 = 2;
const BUNDLE: u8 = 3;
const SMALL: u8 = 4;
/// More would not be ours: 30 TB in one stream.
pub(crate) const REACH_BYTES_MAX: u64 = 1 << 30;

impl Reach {
    /// One tag byte, then 32 bytes of id; for a small stream its digest, its bundle, its offset and
    /// its length.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (tag, ids) in [(CHUNK, &self.chunks), (LIST, &self.lists), (BUNDLE, &self.bundles)] {
            for id in ids {
                bytes.push(tag);
                bytes.extend_from_slice(id.as_bytes());
            }
        }
        for (digest, small) in &self.small {
            bytes.push(SMALL);
            bytes.extend_from_slice(digest.as_bytes());
            bytes.extend_from_slice(small.bundle.as_bytes());
            bytes.extend_from_slice(&small.offset.to_le_bytes());
            bytes.extend_from_slice(&small.bytes.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reach = Self::default();
        let mut rest = bytes;
        while let Some((tag, after)) = rest.split_first() {
            rest = after;
            let id = take_id(&mut rest)?;
            match *tag {
                CHUNK => drop(reach.chunks.insert(id)),
                LIST => drop(reach.lists.insert(id)),
                BUNDLE => drop(reach.bundles.insert(id)),
                SMALL => {
                    let small = Small {
                        bundle: take_id(&mut rest)?,
                        offset: take_u64(&mut rest)?,
                        bytes: take_u64(&mut rest)?,
                    };
                    reach.small.insert(id, small);
                }
                _ => return None,
            }
        }
        Some(reach)
    }

    /// The objects named here, without those that only a list names.
    pub(crate) fn direct(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.chunks.iter().chain(&self.lists).chain(&self.bundles).copied()
    }
}

fn take_id(rest: &mut &[u8]) -> Option<ObjectId> {
    let (id, after) = rest.split_first_chunk::<32>()?;
    *rest = after;
    Some(ObjectId::from_bytes(*id))
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    let (number, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(u64::from_le_bytes(*number))
}

impl Repository {
    /// Adds what `root` reaches.
    pub(crate) fn add_reach<'a>(&'a self, root: &'a Root, reach: &'a mut Reach) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            match &root.place {
                Place::Empty => {}
                Place::Chunk(id) => drop(reach.chunks.insert(*id)),
                Place::List(id) => drop(reach.lists.insert(*id)),
                Place::Shared { chunk, offset } => {
                    reach.bundles.insert(*chunk);
                    reach.small.insert(root.digest, Small { bundle: *chunk, offset: *offset, bytes: root.bytes });
                }
                Place::LongList(list) => {
                    self.add_reach(list, reach).await?;
                    let mut reader = self.read(list);
                    let mut rest = Vec::new();
                    while let Some(piece) = reader.next().await? {
                        rest.extend_from_slice(&piece);
                        let whole = rest.len() - rest.len() % chunk::ENTRY_BYTES;
                        let entries = chunk::entries(&rest[..whole]).unwrap_or_default();
                        reach.chunks.extend(entries.into_iter().map(|(id, _)| id));
                        rest.drain(..whole);
                    }
                }
            }
            Ok(())
        })
    }

    /// Everything a stored manifest reaches, but for what only lists name.
    pub(crate) async fn reach_of(&self, key: &str, stored: &Stored) -> Result<Reach, Error> {
        let bytes = self.read_whole(&stored.reach, REACH_BYTES_MAX).await?;
        let mut reach = Reach::decode(&bytes).ok_or_else(|| Error::damaged(key, Flaw::Meaning, None))?;
        self.add_reach(&stored.reach, &mut reach).await?;
        Ok(reach)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reach_is_read_back_as_written_and_a_torn_one_refused() {
        let id = |byte| ObjectId::from_bytes([byte; 32]);
        let small = Small { bundle: id(4), offset: 32, bytes: 77 };
        let reach = Reach {
            chunks: [id(1), id(2)].into(),
            lists: [id(3)].into(),
            bundles: [id(4)].into(),
            small: [(id(5), small)].into(),
        };
        let bytes = reach.encode();
        assert_eq!(Reach::decode(&bytes), Some(reach));
        assert_eq!(Reach::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Reach::decode(&[9; 33]), None);
    }
}
