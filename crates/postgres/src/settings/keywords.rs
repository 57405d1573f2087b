use zeroize::Zeroizing;

use super::{Keywords, bad};
use crate::Error;

/// libpq's keywords and the variables they default to.
pub(super) const VARIABLES: [(&str, &str); 12] = [
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("dbname", "PGDATABASE"),
    ("passfile", "PGPASSFILE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
];

/// `host=db user='o''neil' …` with libpq's quoting: single quotes, and backslash before a quote or backslash.
pub(super) fn parse(text: &str) -> Result<Keywords, Error> {
    let mut found = Keywords::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(|| bad("connection", "has a keyword without a value"))?;
        let (value, after) = value(after.trim_start())?;
        found.insert(key.trim().to_owned(), value);
        rest = after.trim_start();
    }
    Ok(found)
}

fn value(text: &str) -> Result<(Zeroizing<String>, &str), Error> {
    let quoted = text.starts_with('\'');
    let mut value = Zeroizing::new(String::new());
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\'' if quoted => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            character if !quoted && character.is_whitespace() => {
                return Ok((value, text.get(at..).unwrap_or_default()));
            }
            character => value.push(character),
        }
    }
    if quoted { Err(bad("connection", "has a quote that is never closed")) } else { Ok((value, "")) }
}
