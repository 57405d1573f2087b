use zeroize::Zeroizing;

use super::{Keywords, bad};
use crate::Error;

/// `postgres://user:password@host:port/database?keyword=value`. Frameworks add keywords of their own to
/// the URLs that applications are given; those mean nothing here and are passed over.
pub(super) fn parse(text: &str) -> Result<Keywords, Error> {
    let (scheme, rest) = text.trim().split_once("://").unwrap_or_default();
    let base = scheme.split('+').next().unwrap_or_default();
    if !matches!(base, "postgres" | "postgresql") {
        return Err(bad("url", format!("begins with `{scheme}`, not with postgres://")));
    }
    let (login, rest) = split_login(rest);
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (address, database) = rest.split_once('/').unwrap_or((rest, ""));
    if database.rsplit_once('@').is_some_and(|(_, after)| after.contains('/')) {
        return Err(bad("url", "has a `/` before the `@`: within a password it is written %2F"));
    }
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (host, port) = split_address(address)?;

    let mut found = Keywords::new();
    let parts = [("user", user), ("password", password), ("host", host), ("port", port), ("dbname", database)];
    for (key, value) in parts.into_iter().filter(|(_, value)| !value.is_empty()) {
        found.insert(key.to_owned(), decoded(value)?);
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let key = match key {
            "ssl-mode" => "sslmode",
            "database" => "dbname",
            "ssl" if value == "true" => {
                found.entry("sslmode".to_owned()).or_insert_with(|| Zeroizing::new("require".to_owned()));
                continue;
            }
            key => key,
        };
        found.insert(decoded(key)?.to_string(), decoded(value)?);
    }
    Ok(found)
}

/// As libpq does, a `?` or `#` before the first `@` belongs to a password that nobody escaped; and so does
/// every `@` but the last.
fn split_login(text: &str) -> (&str, &str) {
    let before_database = text.split('/').next().unwrap_or(text);
    let Some(first) = before_database.find('@') else { return ("", text) };
    let ends = before_database.get(first..).and_then(|after| after.find(['?', '#']));
    let authority = before_database.get(..ends.map_or(before_database.len(), |at| first + at)).unwrap_or_default();
    let at = authority.rfind('@').unwrap_or(first);
    (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default())
}

fn split_address(address: &str) -> Result<(&str, &str), Error> {
    if let Some(rest) = address.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or_else(|| bad("url", "has a `[` that is never closed"))?;
        return Ok((host, after.strip_prefix(':').unwrap_or_default()));
    }
    Ok(address.split_once(':').unwrap_or((address, "")))
}

fn decoded(text: &str) -> Result<Zeroizing<String>, Error> {
    let wrong = || bad("url", "has a `%` that is not followed by two hexadecimal digits of UTF-8 text");
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = after;
            continue;
        }
        let mut byte = [0];
        let digits = after.get(..2).ok_or_else(wrong)?;
        hex::decode_to_slice(digits, &mut byte).map_err(|_| wrong())?;
        bytes.push(byte[0]);
        rest = after.get(2..).unwrap_or_default();
    }
    Ok(Zeroizing::new(std::str::from_utf8(&bytes).map_err(|_| wrong())?.to_owned()))
}
