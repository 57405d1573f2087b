//! Env files as Compose and the shells' friends write them.
//!
//! `NAME=value`, with or without `export`; comments; single quotes keep everything as it stands;
//! double quotes know `\n \r \t \" \\ \$`; quoted values may run over several lines. `${NAME}` and
//! `${NAME:-otherwise}` are replaced outside single quotes; a bare `$` stays, because the programs
//! that read such files do not agree on it and passwords hold it.

use zeroize::Zeroizing;

/// The line an env file stops making sense on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub line: usize,
}

/// The value that `wanted` has in `text`; where it stands twice, the last one.
pub(crate) fn find(
    text: &str,
    wanted: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Zeroizing<String>>, Malformed> {
    let entries = entries(text, variable)?;
    Ok(entries.into_iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value))
}

type Entries = Vec<(String, Zeroizing<String>)>;

fn entries(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Entries, Malformed> {
    let mut entries: Entries = Vec::new();
    let mut reader = Reader { text: text.trim_start_matches('\u{feff}'), line: 1 };
    while let Some(name) = reader.name()? {
        let (value, literal) = reader.value()?;
        let value = if literal { value } else { expand(&value, &entries, variable) };
        entries.push((name, value));
    }
    Ok(entries)
}

struct Reader<'a> {
    text: &'a str,
    line: usize,
}

impl Reader<'_> {
    /// Moves past `bytes` of the text.
    fn skip(&mut self, bytes: usize) {
        self.line += self.text[..bytes].matches('\n').count();
        self.text = &self.text[bytes..];
    }

    fn malformed(&self) -> Malformed {
        Malformed { line: self.line }
    }

    /// The next name, past its `=`.
    fn name(&mut self) -> Result<Option<String>, Malformed> {
        loop {
            self.skip(self.text.len() - self.text.trim_start().len());
            if self.text.is_empty() {
                return Ok(None);
            }
            let end = self.text.find('\n').unwrap_or(self.text.len());
            let line = &self.text[..end];
            if line.starts_with('#') {
                self.skip(end);
                continue;
            }
            let bare = line.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])).unwrap_or(line);
            let Some((name, _)) = bare.split_once('=') else {
                // Compose reads a name without a value as "from the shell": it sets nothing here.
                if is_name(bare.trim()) {
                    self.skip(end);
                    continue;
                }
                return Err(self.malformed());
            };
            let name = name.trim();
            if !is_name(name) {
                return Err(self.malformed());
            }
            let name = name.to_owned();
            let equals = line.find('=').unwrap_or(0);
            self.skip(equals + 1);
            return Ok(Some(name));
        }
    }

    /// The value that begins here, and whether it is to be taken as it stands.
    fn value(&mut self) -> Result<(Zeroizing<String>, bool), Malformed> {
        self.skip(self.text.len() - self.text.trim_start_matches([' ', '\t']).len());
        match self.text.bytes().next() {
            Some(b'\'') => Ok((self.single_quoted()?, true)),
            Some(b'"') => Ok((self.double_quoted()?, false)),
            _ => Ok((self.bare(), false)),
        }
    }

    fn single_quoted(&mut self) -> Result<Zeroizing<String>, Malformed> {
        let end = self.text[1..].find('\'').ok_or_else(|| self.malformed())? + 1;
        let value = Zeroizing::new(self.text[1..end].to_owned());
        self.close(end + 1)?;
        Ok(value)
    }

    fn double_quoted(&mut self) -> Result<Zeroizing<String>, Malformed> {
        let mut value = Zeroizing::new(String::with_capacity(self.text.len().min(4096)));
        let mut letters = self.text.char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => {
                    self.close(at + 1)?;
                    return Ok(value);
                }
                '\\' => match letters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 'r')) => value.push('\r'),
                    Some((_, 't')) => value.push('\t'),
                    // Kept apart from a `${` that is to be replaced; `expand` takes the mark away.
                    Some((_, '$')) => value.push_str(ESCAPED_DOLLAR),
                    Some((_, quoted @ ('"' | '\\'))) => value.push(quoted),
                    Some((_, other)) => value.extend(['\\', other]),
                    None => break,
                },
                other => value.push(other),
            }
        }
        Err(self.malformed())
    }

    /// Moves past a closing quote; only a comment may stand after it on its line.
    fn close(&mut self, past: usize) -> Result<(), Malformed> {
        self.skip(past);
        let end = self.text.find('\n').unwrap_or(self.text.len());
        let rest = self.text[..end].trim();
        if !rest.is_empty() && !rest.starts_with('#') {
            return Err(self.malformed());
        }
        self.skip(end);
        Ok(())
    }

    fn bare(&mut self) -> Zeroizing<String> {
        let end = self.text.find('\n').unwrap_or(self.text.len());
        let line = &self.text[..end];
        let comment = [" #", "\t#"].iter().filter_map(|mark| line.find(mark)).min().unwrap_or(end);
        let value = Zeroizing::new(line[..comment].trim().to_owned());
        self.skip(end);
        value
    }
}

/// A dollar that was written with a backslash before it, until `expand` has looked at the rest.
const ESCAPED_DOLLAR: &str = "\u{0}$";

fn expand(value: &str, before: &Entries, variable: &dyn Fn(&str) -> Option<String>) -> Zeroizing<String> {
    let mut expanded = Zeroizing::new(String::with_capacity(value.len()));
    let mut rest = value;
    while let Some(at) = rest.find("${") {
        let (before_it, from) = rest.split_at(at);
        expanded.push_str(before_it);
        let Some(end) = from.find('}').filter(|_| !before_it.ends_with('\u{0}')) else {
            expanded.push_str("${");
            rest = &from[2..];
            continue;
        };
        let (name, otherwise) = from[2..end].split_once(":-").unwrap_or((&from[2..end], ""));
        let earlier = before.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.to_string());
        // What the surroundings set wins over the file, as it does for Compose.
        let found = variable(name).or(earlier).filter(|found| !found.is_empty());
        expanded.push_str(found.as_deref().unwrap_or(otherwise));
        rest = &from[end + 1..];
    }
    expanded.push_str(rest);
    Zeroizing::new(expanded.replace(ESCAPED_DOLLAR, "$"))
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !text.is_empty() && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, name: &str) -> Option<String> {
        let home = |name: &str| (name == "HOST").then(|| "db.internal".to_owned());
        find(text, name, &home).unwrap().map(|value| value.to_string())
    }

    #[test]
    fn every_way_to_write_a_value_is_read() {
        let text = concat!(
            "# a comment\n",
            "PLAIN=one two # and why\n",
            "export EXPORTED = 'kept ${HOST} # whole'\n",
            "HASH=a#b\n",
            "DOUBLE=\"line\\none \\\"quoted\\\" \\${HOST}\" # remark\n",
            "EMPTY=\n",
            "FROM_SHELL\n",
            "URL=postgres://u:p$1@${HOST}:5432/${NAME:-shop}\n",
            "LONG='-----BEGIN\nabc=\n-----END'\r\n",
            "AFTER=last\n",
            "PLAIN=again\n",
        );
        for (name, wanted) in [
            ("PLAIN", "again"),
            ("EXPORTED", "kept ${HOST} # whole"),
            ("HASH", "a#b"),
            ("DOUBLE", "line\none \"quoted\" ${HOST}"),
            ("EMPTY", ""),
            ("URL", "postgres://u:p$1@db.internal:5432/shop"),
            ("LONG", "-----BEGIN\nabc=\n-----END"),
            ("AFTER", "last"),
        ] {
            assert_eq!(value(text, name).as_deref(), Some(wanted), "{name}");
        }
        assert_eq!(value(text, "FROM_SHELL"), None);
        assert_eq!(value(text, "abc"), None, "a line within quotes is no entry");
    }

    #[test]
    fn an_entry_may_use_an_earlier_one() {
        assert_eq!(value("USER=shop\nURL=${USER}@${HOST}", "URL").as_deref(), Some("shop@db.internal"));
    }

    #[test]
    fn what_makes_no_sense_is_named_by_its_line() {
        for (text, line) in [("A=1\nB='open\nC=2\n", 2), ("A=1\nnot a line\n", 2), ("A=\"x\" y\n", 1)] {
            assert_eq!(find(text, "A", &|_| None), Err(Malformed { line }), "{text}");
        }
    }
}
