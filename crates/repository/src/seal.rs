use std::fmt;

use backstay_model::ObjectId;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;
use zstd::zstd_safe::CParameter;

use crate::Flaw;

pub(crate) type KeyedDigest = Hmac<Sha256>;

const NONCE_BYTES: usize = 24;
const DIGEST_BYTES: usize = 32;
const ZSTD_LEVEL: i32 = 1;
const MATCH_BYTES_MIN: u32 = 6;
/// What unpacking may at most yield: a metadata record is the largest thing there is.
pub(crate) const RECORD_BYTES_MAX: usize = 64 << 20;
pub(crate) const OBJECT_BYTES_MAX: usize = 8 << 20;

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

/// What a keyed digest is over, so that equal bytes of two kinds never share an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Chunk = 1,
    List = 2,
    Stream = 3,
    /// Small streams side by side. Its id covers only the 32 random bytes it begins with, because
    /// it is named before it is full; the streams in it carry their own digests.
    Bundle = 4,
}

/// Random bytes at the head of a bundle, from which its id is made.
pub(crate) const BUNDLE_SALT: usize = 32;

/// Everything derived from the master key.
pub(crate) struct Keys {
    object: Option<XChaCha20Poly1305>,
    record: Option<XChaCha20Poly1305>,
    identity: Zeroizing<[u8; 32]>,
    pub(crate) seed: u64,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    pub(crate) fn of_master(master: &[u8; 32], sealed: bool) -> Self {
        let cipher = |purpose| sealed.then(|| XChaCha20Poly1305::new((&*derive(master, purpose)).into()));
        let seed = derive(master, "backstay 1 cut points");
        let mut eight = [0; 8];
        eight.copy_from_slice(&seed[..8]);
        Self {
            object: cipher("backstay 1 seal objects"),
            record: cipher("backstay 1 seal records"),
            identity: derive(master, "backstay 1 identity"),
            // Zero would mean no seed at all.
            seed: u64::from_le_bytes(eight).max(1),
        }
    }

    /// The master of a repository that is not sealed: anybody can make it again.
    pub(crate) fn open_master(repository: &str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(Sha256::new().chain_update(b"backstay 1 open ").chain_update(repository).finalize().into())
    }

    pub(crate) fn digest(&self, kind: Kind) -> KeyedDigest {
        let mut digest = keyed(&*self.identity);
        digest.update(&[kind as u8]);
        digest
    }

    pub(crate) fn id(&self, kind: Kind, plaintext: &[u8]) -> ObjectId {
        let covered = if kind == Kind::Bundle { plaintext.get(..BUNDLE_SALT).unwrap_or_default() } else { plaintext };
        let mut digest = self.digest(kind);
        digest.update(covered);
        finish(digest)
    }

    pub(crate) fn seal_object(&self, id: &ObjectId, plaintext: &[u8]) -> Vec<u8> {
        seal(self.object.as_ref(), id.as_bytes(), plaintext)
    }

    pub(crate) fn open_object(&self, id: &ObjectId, kind: Kind, stored: &[u8]) -> Result<Vec<u8>, Flaw> {
        let plaintext = open(self.object.as_ref(), id.as_bytes(), stored, OBJECT_BYTES_MAX)?;
        if self.id(kind, &plaintext) == *id { Ok(plaintext) } else { Err(Flaw::Identity) }
    }

    /// Seals metadata, bound to the path it is stored under.
    pub(crate) fn seal_record(&self, path: &str, plaintext: &[u8]) -> Vec<u8> {
        seal(self.record.as_ref(), path.as_bytes(), plaintext)
    }

    pub(crate) fn open_record(&self, path: &str, stored: &[u8]) -> Result<Vec<u8>, Flaw> {
        open(self.record.as_ref(), path.as_bytes(), stored, RECORD_BYTES_MAX)
    }
}

pub(crate) fn finish(digest: KeyedDigest) -> ObjectId {
    ObjectId::from_bytes(digest.finalize().into_bytes().into())
}

pub(crate) fn keyed(key: &[u8]) -> KeyedDigest {
    <KeyedDigest as KeyInit>::new_from_slice(key).unwrap_or_else(|_| unreachable!("an HMAC takes keys of every length"))
}

pub(crate) fn derive(key: &[u8], purpose: &str) -> Zeroizing<[u8; 32]> {
    let mut digest = keyed(key);
    digest.update(purpose.as_bytes());
    Zeroizing::new(digest.finalize().into_bytes().into())
}

/// Encrypts without compression or digest: for keys.
pub(crate) fn wrap(key: &[u8; 32], bound_to: &[u8], plaintext: &[u8]) -> Vec<u8> {
    encrypt(&XChaCha20Poly1305::new(key.into()), bound_to, plaintext)
}

pub(crate) fn unwrap(key: &[u8; 32], bound_to: &[u8], wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    decrypt(&XChaCha20Poly1305::new(key.into()), bound_to, wrapped).map(Zeroizing::new)
}

/// Ends `body` with the digest that ties it to its name.
pub(crate) fn with_digest(name: &[u8], mut body: Vec<u8>) -> Vec<u8> {
    let digest = Sha256::new().chain_update(name).chain_update(&body).finalize();
    body.extend_from_slice(&digest);
    body
}

/// What lies before the digest, if the digest is right. Needs no key.
pub(crate) fn without_digest<'a>(name: &[u8], stored: &'a [u8]) -> Result<&'a [u8], Flaw> {
    let (body, digest) =
        stored.len().checked_sub(DIGEST_BYTES).and_then(|length| stored.split_at_checked(length)).ok_or(Flaw::Short)?;
    let found = Sha256::new().chain_update(name).chain_update(body).finalize();
    if found[..] == *digest { Ok(body) } else { Err(Flaw::Digest) }
}

fn seal(cipher: Option<&XChaCha20Poly1305>, name: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let packed = pack(plaintext);
    let body = match cipher {
        Some(cipher) => encrypt(cipher, name, &packed),
        None => packed,
    };
    with_digest(name, body)
}

fn open(cipher: Option<&XChaCha20Poly1305>, name: &[u8], stored: &[u8], limit: usize) -> Result<Vec<u8>, Flaw> {
    let body = without_digest(name, stored)?;
    match cipher {
        Some(cipher) => unpack(&decrypt(cipher, name, body).ok_or(Flaw::Seal)?, limit),
        None => unpack(body, limit),
    }
}

fn encrypt(cipher: &XChaCha20Poly1305, bound_to: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let nonce: [u8; NONCE_BYTES] = rand::random();
    let sealed = cipher
        .encrypt(&XNonce::from(nonce), Payload { msg: plaintext, aad: bound_to })
        .unwrap_or_else(|_| unreachable!("nothing here is as long as the cipher's limit"));
    let mut body = Vec::with_capacity(NONCE_BYTES + sealed.len() + DIGEST_BYTES);
    body.extend_from_slice(&nonce);
    body.extend_from_slice(&sealed);
    body
}

fn decrypt(cipher: &XChaCha20Poly1305, bound_to: &[u8], body: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = body.split_at_checked(NONCE_BYTES)?;
    let nonce: [u8; NONCE_BYTES] = nonce.try_into().ok()?;
    cipher.decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad: bound_to }).ok()
}

/// Level 1, but for matches from six bytes on instead of seven: of rows as text it leaves a sixtieth less, and takes no
/// longer.
fn compress(plaintext: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
    compressor.set_parameter(CParameter::MinMatch(MATCH_BYTES_MIN))?;
    compressor.compress(plaintext)
}

fn pack(plaintext: &[u8]) -> Vec<u8> {
    let mut packed = vec![ZSTD];
    match compress(plaintext) {
        Ok(smaller) if smaller.len() < plaintext.len() => packed.extend_from_slice(&smaller),
        _ => {
            packed[0] = PLAIN;
            packed.extend_from_slice(plaintext);
        }
    }
    packed
}

fn unpack(packed: &[u8], limit: usize) -> Result<Vec<u8>, Flaw> {
    match packed.split_first() {
        Some((&PLAIN, plaintext)) => Ok(plaintext.to_vec()),
        Some((&ZSTD, frame)) => {
            let bytes = zstd::zstd_safe::get_frame_content_size(frame).ok().flatten().ok_or(Flaw::Packing)?;
            let bytes = usize::try_from(bytes).map_err(|_| Flaw::Packing)?;
            if bytes > limit {
                return Err(Flaw::Packing);
            }
            zstd::bulk::decompress(frame, bytes).map_err(|_| Flaw::Packing)
        }
        _ => Err(Flaw::Packing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(sealed: bool) -> Keys {
        Keys::of_master(&[7; 32], sealed)
    }

    #[test]
    fn what_was_sealed_opens_under_its_own_name_only() {
        for sealed in [true, false] {
            let keys = keys(sealed);
            let plaintext = b"rows and rows and rows and rows and rows".to_vec();
            let id = keys.id(Kind::Chunk, &plaintext);
            let stored = keys.seal_object(&id, &plaintext);
            assert_eq!(keys.open_object(&id, Kind::Chunk, &stored).unwrap(), plaintext);
            assert_eq!(keys.open_object(&id, Kind::List, &stored), Err(Flaw::Identity));
            let other = keys.id(Kind::Chunk, b"other");
            assert_eq!(keys.open_object(&other, Kind::Chunk, &stored), Err(Flaw::Digest));

            let record = keys.seal_record("pins/a", b"why");
            assert_eq!(keys.open_record("pins/a", &record).unwrap(), b"why");
            assert!(keys.open_record("pins/b", &record).is_err());
        }
    }

    #[test]
    fn a_record_moved_with_its_digest_made_anew_is_still_refused() {
        let keys = keys(true);
        let record = keys.seal_record("pins/a", b"why");
        let body = without_digest(b"pins/a", &record).unwrap().to_vec();
        assert_eq!(keys.open_record("pins/b", &with_digest(b"pins/b", body)), Err(Flaw::Seal));
    }

    #[test]
    fn every_flipped_bit_is_found_without_a_key() {
        let keys = keys(true);
        let id = keys.id(Kind::Chunk, b"x");
        let stored = keys.seal_object(&id, b"x");
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(without_digest(id.as_bytes(), &flipped).is_err(), "bit {bit}");
        }
        for length in 0..stored.len() {
            assert!(without_digest(id.as_bytes(), &stored[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn the_same_bytes_have_another_id_under_another_key_and_kind() {
        let keys = keys(true);
        let other = Keys::of_master(&[8; 32], true);
        assert_ne!(keys.id(Kind::Chunk, b"a"), other.id(Kind::Chunk, b"a"));
        assert_ne!(keys.id(Kind::Chunk, b"a"), keys.id(Kind::List, b"a"));
        assert_ne!(keys.seed, other.seed);
    }

    #[test]
    fn a_frame_that_claims_to_be_huge_is_not_unpacked() {
        let mut packed = vec![ZSTD];
        packed.extend_from_slice(&zstd::bulk::compress(&vec![0; 100_000], 1).unwrap());
        assert_eq!(unpack(&packed, 99_999), Err(Flaw::Packing));
        assert_eq!(unpack(&packed, 100_000).unwrap().len(), 100_000);
    }
}
