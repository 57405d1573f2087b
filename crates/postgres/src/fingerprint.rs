use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_128;

/// How a row is hashed. Facts say which it was, and by that one rows are compared with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RowHash {
    #[serde(rename = "sum mod 2^128 of the first 16 bytes (little-endian) of SHA-256 of each row's COPY text line")]
    Sha256,
    /// Against chance, not against malice: from malice the rows are kept by the seal on every chunk.
    #[default]
    #[serde(rename = "sum mod 2^128 of XXH3-128 (seed 0) of each row's COPY text line")]
    Xxh3,
}

impl RowHash {
    fn of(self, row: &[u8]) -> u128 {
        match self {
            Self::Sha256 => {
                let mut first = [0; 16];
                for (to, from) in first.iter_mut().zip(Sha256::digest(row)) {
                    *to = from;
                }
                u128::from_le_bytes(first)
            }
            Self::Xxh3 => xxh3_128(row),
        }
    }
}

/// 128 bits over the rows of a table, whatever their order: the sum of a hash of each row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// That of the rows of both.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> String {
        fingerprint.to_string()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u128::from_str_radix(&text, 16).map(Self)
    }
}

/// Counts and fingerprints rows as their COPY text passes, in pieces of any size.
#[derive(Debug, Clone, Default)]
pub struct RowSum {
    hash: RowHash,
    rows: u64,
    sum: u128,
    bytes: u64,
    partial: Vec<u8>,
}

impl RowSum {
    pub(crate) fn by(hash: RowHash) -> Self {
        Self { hash, ..Self::default() }
    }

    /// Takes the next piece. In COPY's text format a line feed ends a row and stands nowhere else.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        let mut rest = piece;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (row, after) = rest.split_at(end + 1);
            if self.partial.is_empty() {
                self.add(row);
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(row);
                self.add(&whole);
            }
            rest = after;
        }
        self.partial.extend_from_slice(rest);
    }

    /// Takes in what another range of the same table came to.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.sum = self.sum.wrapping_add(other.sum);
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(self.sum)
    }

    /// Whether the last row was whole.
    pub fn is_whole(&self) -> bool {
        self.partial.is_empty()
    }

    fn add(&mut self, row: &[u8]) {
        self.sum = self.sum.wrapping_add(self.hash.of(row));
        self.rows += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum_of(pieces: &[&str]) -> (u64, Fingerprint) {
        let mut sum = RowSum::default();
        for piece in pieces {
            sum.push(piece.as_bytes());
        }
        assert!(sum.is_whole());
        (sum.rows(), sum.fingerprint())
    }

    #[test]
    fn order_and_pieces_do_not_matter_but_every_row_does() {
        let whole = sum_of(&["1\ta\n2\tb\n\n"]);
        assert_eq!(whole, sum_of(&["2\t", "b\n", "\n1\ta", "\n"]));
        assert_eq!(whole.0, 3);
        assert_ne!(whole.1, sum_of(&["1\ta\n2\tb\n\n\n"]).1);
        assert_ne!(whole.1, sum_of(&["1\ta\n2\tc\n\n"]).1);
        assert_ne!(sum_of(&["1\n1\n"]).1, sum_of(&["1\n1\n1\n"]).1);
    }

    #[test]
    fn each_way_of_hashing_gives_what_it_always_gave() {
        let sum_by = |hash| {
            let mut sum = RowSum::by(hash);
            sum.push(b"1\tone\n2\ttwo\n");
            sum.fingerprint().to_string()
        };
        // Worked out with other implementations.
        assert_eq!(sum_by(RowHash::Sha256), "6c76c22b6b9415e8668ecc850fd1fe7e");
        assert_eq!(sum_by(RowHash::Xxh3), "bb71407762c75aaeb295832ff49294a4");
        let said = r#""sum mod 2^128 of the first 16 bytes (little-endian) of SHA-256 of each row's COPY text line""#;
        assert_eq!(serde_json::from_str::<RowHash>(said).unwrap(), RowHash::Sha256);
    }

    #[test]
    fn a_fingerprint_is_read_back_as_written() {
        let fingerprint = sum_of(&["x\n"]).1;
        let json = serde_json::to_string(&fingerprint).unwrap();
        assert_eq!(serde_json::from_str::<Fingerprint>(&json).unwrap(), fingerprint);
    }
}
