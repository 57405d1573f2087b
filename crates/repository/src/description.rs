use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::join;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::chunk::{CHUNK_AVERAGE, CHUNK_MAX, CHUNK_MIN};
use crate::names::{DESCRIPTION, DESCRIPTION_COPY};
use crate::{Damage, Error, Flaw, Put, Store, StoreError};

/// The format this version writes, and the newest it reads.
pub(crate) const FORMAT: u64 = 1;

/// What `backstay.json` says, in clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) format: u64,
    pub(crate) id: String,
    pub(crate) cipher: Cipher,
    pub(crate) chunking: Chunking,
    /// Whether the store refused to create twice; where not, leases alone protect.
    pub(crate) creates_once: bool,
    pub(crate) created_at: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cipher {
    #[serde(rename = "xchacha20-poly1305")]
    XChaCha20Poly1305,
    #[serde(rename = "none")]
    None,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunking {
    pub(crate) algorithm: String,
    pub(crate) min: usize,
    pub(crate) average: usize,
    pub(crate) max: usize,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u64,
}

impl Description {
    pub(crate) fn new(cipher: Cipher, creates_once: bool, now: DateTime<Utc>) -> Self {
        let algorithm = "fastcdc-2020-level-1".to_owned();
        Self {
            format: FORMAT,
            id: hex::encode(rand::random::<[u8; 16]>()),
            cipher,
            chunking: Chunking { algorithm, min: CHUNK_MIN, average: CHUNK_AVERAGE, max: CHUNK_MAX },
            creates_once,
            created_at: now,
        }
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.cipher != Cipher::None
    }

    /// JSON whose last member is the digest of everything before it.
    pub(crate) fn write(&self) -> Result<Vec<u8>, Error> {
        let encode = |source| Error::Encode { subject: DESCRIPTION.to_owned(), source };
        let mut text = serde_json::to_string(self).map_err(encode)?;
        text.pop();
        let sum = sum_of(&text);
        Ok(format!("{text}{MARK}{sum}\"}}\n").into_bytes())
    }

    pub(crate) fn read(location: &str, stored: &[u8]) -> Result<Self, Error> {
        let damaged = |flaw| Error::damaged(DESCRIPTION, flaw, None);
        let text = std::str::from_utf8(stored).map_err(|_| damaged(Flaw::Meaning))?;
        // The format comes first: a newer one may be laid out otherwise from there on.
        if let Ok(FormatOnly { format }) = serde_json::from_str(text)
            && format > FORMAT
        {
            return Err(Error::NewerFormat { location: location.to_owned(), found: format, known: FORMAT });
        }
        let (summed, sum) = text.rsplit_once(MARK).ok_or_else(|| damaged(Flaw::Meaning))?;
        if sum.strip_suffix("\"}\n") != Some(sum_of(summed).as_str()) {
            return Err(damaged(Flaw::Digest));
        }
        serde_json::from_str(text).map_err(|_| damaged(Flaw::Meaning))
    }
}

/// The description a store holds, and what is wrong with the first copy where it is read from the second.
/// Nothing where there is neither.
pub(crate) async fn find(store: &dyn Store) -> Result<Option<(Description, Option<Flaw>)>, Error> {
    let flaw = match read(store, DESCRIPTION).await {
        Ok(Some(description)) => return Ok(Some((description, None))),
        Ok(None) => Flaw::Missing,
        Err(Error::Damaged(damage)) => damage.flaw,
        Err(error) => return Err(error),
    };
    match (read(store, DESCRIPTION_COPY).await, flaw) {
        (Ok(Some(description)), flaw) => Ok(Some((description, Some(flaw)))),
        (Ok(None), Flaw::Missing) => Ok(None),
        (Ok(None) | Err(Error::Damaged(_)), flaw) => Err(Error::damaged(DESCRIPTION, flaw, None)),
        (Err(error), _) => Err(error),
    }
}

/// Whether the second copy is of another repository than the first.
pub(crate) async fn copies_differ(store: &dyn Store, first: &Description) -> bool {
    matches!(read(store, DESCRIPTION_COPY).await, Ok(Some(second)) if second != *first)
}

/// What is wrong with the copies, each against what is known to be right. Repositories made by early
/// versions get their second one with the next snapshot.
pub(crate) async fn damage(store: &dyn Store, right: &Description) -> Result<Vec<Damage>, Error> {
    let mut found = Vec::new();
    for key in [DESCRIPTION, DESCRIPTION_COPY] {
        let flaw = match read(store, key).await {
            Ok(Some(description)) if description == *right => continue,
            Ok(None) if key == DESCRIPTION_COPY => continue,
            Ok(None) => Flaw::Missing,
            Ok(Some(_)) => Flaw::Identity,
            Err(Error::Damaged(damage)) => damage.flaw,
            Err(Error::NewerFormat { .. }) => Flaw::Meaning,
            Err(error) => return Err(error),
        };
        found.push(Damage { key: key.to_owned(), flaw, object: None, snapshots: Vec::new() });
    }
    Ok(found)
}

/// Writes again whichever copy is not as it should be.
pub(crate) async fn mend(store: &dyn Store, right: &Description) -> Result<(), Error> {
    let bytes = Bytes::from(right.write()?);
    let mut mended = false;
    let copies = join!(read(store, DESCRIPTION), read(store, DESCRIPTION_COPY));
    for (key, copy) in [(DESCRIPTION, copies.0), (DESCRIPTION_COPY, copies.1)] {
        if !matches!(copy, Ok(Some(description)) if description == *right) {
            store.put(key, bytes.clone(), Put::Replace).await.map_err(Error::store(key))?;
            mended = true;
        }
    }
    if mended { store.barrier().await.map_err(Error::store(DESCRIPTION)) } else { Ok(()) }
}

async fn read(store: &dyn Store, key: &str) -> Result<Option<Description>, Error> {
    match store.get(key).await {
        Err(StoreError::NotThere { .. }) => Ok(None),
        stored => Description::read(&store.location(), &stored.map_err(Error::store(key))?).map(Some),
    }
}

const MARK: &str = ",\"sum\":\"";

fn sum_of(text: &str) -> String {
    hex::encode(Sha256::new().chain_update(DESCRIPTION).chain_update(text).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_back_and_every_flipped_bit_of_it_found() {
        let description = Description::new(Cipher::None, true, DateTime::UNIX_EPOCH);
        let stored = description.write().unwrap();
        assert_eq!(Description::read("here", &stored).unwrap(), description);
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Description::read("here", &flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_as_such_whatever_else_it_says() {
        let read = Description::read("here", br#"{"format": 2, "entirely": ["new"]}"#);
        assert!(matches!(read, Err(Error::NewerFormat { found: 2, known: 1, .. })), "{read:?}");
    }
}
