use sha2::{Digest, Sha256};

use crate::Entry;

const CHECKSUM_DIGITS: usize = 16;

/// One line of a journal: a checksum over the line before and this one, a space, and JSON.
pub(crate) fn encode(entry: &Entry, before: &str) -> Result<(String, String), serde_json::Error> {
    let json = serde_json::to_string(entry)?;
    let checksum = checksum(before, &json);
    Ok((format!("{checksum} {json}\n"), checksum))
}

/// What a journal's bytes hold.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub entries: Vec<Entry>,
    /// The checksum of the last whole line.
    pub last: String,
    /// The length of the whole lines; what follows is the torn tail of a write that died.
    pub whole: usize,
}

/// Reads lines up to a torn tail. A line that is wrong although others follow it is an error: its
/// number, counted from one.
pub(crate) fn decode(bytes: &[u8]) -> Result<Decoded, usize> {
    let mut decoded = Decoded { entries: Vec::new(), last: String::new(), whole: 0 };
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match decode_line(line, &decoded.last) {
            Some((entry, checksum)) => {
                decoded.entries.push(entry);
                decoded.last = checksum;
                decoded.whole += line.len();
            }
            None if decoded.whole + line.len() == bytes.len() => break,
            None => return Err(index + 1),
        }
    }
    Ok(decoded)
}

fn decode_line(line: &[u8], before: &str) -> Option<(Entry, String)> {
    let text = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (found, json) = text.split_at_checked(CHECKSUM_DIGITS)?;
    let json = json.strip_prefix(' ')?;
    if found != checksum(before, json) {
        return None;
    }
    Some((serde_json::from_str(json).ok()?, found.to_owned()))
}

fn checksum(before: &str, json: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(before.as_bytes());
    digest.update(b"\n");
    digest.update(json.as_bytes());
    let mut text = hex::encode(digest.finalize());
    text.truncate(CHECKSUM_DIGITS);
    text
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::Mark;

    fn journal(steps: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut last = String::new();
        for step in steps {
            let entry = Entry {
                at: DateTime::UNIX_EPOCH,
                step: (*step).to_owned(),
                mark: Mark::Done,
                value: json!({"of": step, "text": "ends\nhere"}),
            };
            let (line, checksum) = encode(&entry, &last).unwrap();
            bytes.extend_from_slice(line.as_bytes());
            last = checksum;
        }
        bytes
    }

    proptest! {
        #[test]
        fn a_journal_torn_anywhere_gives_its_whole_lines(cut in 0usize..1000) {
            let bytes = journal(&["begin", "stage", "fence"]);
            let cut = cut.min(bytes.len());
            let decoded = decode(&bytes[..cut]).unwrap();
            let whole = bytes[..cut].iter().filter(|byte| **byte == b'\n').count();
            prop_assert_eq!(decoded.entries.len(), whole);
            prop_assert!(bytes[..decoded.whole].ends_with(b"\n") || decoded.whole == 0);
        }

        #[test]
        fn a_flipped_bit_is_never_read_as_an_entry(at in 0usize..1000, bit in 0u8..8) {
            let sound = journal(&["begin", "stage", "fence"]);
            let mut bytes = sound.clone();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let untouched = sound[..at].iter().filter(|byte| **byte == b'\n').count();
            match decode(&bytes) {
                Ok(decoded) => prop_assert!(decoded.entries.len() <= untouched),
                Err(line) => prop_assert_eq!(line, untouched + 1),
            }
        }
    }

    #[test]
    fn a_line_that_was_taken_out_is_noticed() {
        let bytes = journal(&["begin", "stage", "fence"]);
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(decode(&[lines[0], lines[2], lines[2]].concat()).unwrap_err(), 2);
    }
}
