//! The names in an env file, so that a plan can say which differ and never how.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// Larger ones are compared as a whole.
pub(crate) const BYTES_MAX: u64 = 1 << 20;

/// Whether a file is written as `NAME=value`, as far as its name tells.
pub(crate) fn is_env_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name == ".env" || name.starts_with(".env.") || name.ends_with(".env")
}

/// A digest of every value, by name. Nothing where the text is not written as an env file: a line of
/// a key or a certificate must not be taken for a name.
pub(crate) fn keys(content: &[u8]) -> Option<BTreeMap<String, String>> {
    let text = std::str::from_utf8(content).ok()?;
    let mut keys = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=')?;
        let name = name.trim();
        is_name(name).then_some(())?;
        let mut value = value.trim().to_owned();
        // A quote that is not closed goes on over the next lines.
        if let Some(quote) = value.chars().next().filter(|first| matches!(first, '"' | '\'')) {
            while !is_closed(&value, quote) {
                value.push('\n');
                value.push_str(lines.next()?);
            }
        }
        keys.insert(name.to_owned(), hex::encode(Sha256::digest(value.as_bytes())));
    }
    Some(keys)
}

fn is_closed(value: &str, quote: char) -> bool {
    let mut escaped = false;
    value.chars().skip(1).any(|letter| {
        let closes = letter == quote && !escaped;
        escaped = letter == '\\' && quote == '"' && !escaped;
        closes
    })
}

/// Real names are in letters, digits and `_`; what is longer is no name.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    !text.is_empty() && text.len() <= 128 && !text.starts_with('-') && text.bytes().all(plain)
}

/// The names whose values differ, are new or are gone, sorted.
pub(crate) fn differing(recorded: &BTreeMap<String, String>, live: &BTreeMap<String, String>) -> Vec<String> {
    let all: std::collections::BTreeSet<_> = recorded.keys().chain(live.keys()).collect();
    all.into_iter()
        .filter_map(|name| match (recorded.get(name), live.get(name)) {
            (Some(a), Some(b)) if a == b => None,
            (Some(_), Some(_)) => Some(name.clone()),
            (None, _) => Some(format!("{name} (new)")),
            (_, None) => Some(format!("{name} (gone)")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_shown_of_what_differs() {
        let before = keys(b"A=1\nexport B='x\ny=2'\n# C=3\nGONE=1\n").unwrap();
        let after = keys(b"A=2\nB='x\ny=2'\nNEW=1\n").unwrap();
        assert_eq!(differing(&before, &after), ["A", "GONE (gone)", "NEW (new)"]);
        assert!(!before.contains_key("y"), "a line within quotes is no name");
    }

    #[test]
    fn what_is_not_an_env_file_has_no_names() {
        for text in ["KEY=-----BEGIN\nMIIEpQ/hunter2==\n", "A='open\nhunter2=1\n", "hunter2 secret\n", "A=1\nhunter2\n"]
        {
            assert_eq!(keys(text.as_bytes()), None, "{text}");
        }
    }
}
