//! The schema as pg_dump writes it, taken apart into one digest per object.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::session::UNLIMITED;
use crate::{Error, ObjectFacts, Settings, Tool, ToolCall, Tools};

/// A schema archive in a file of ours that nobody else can read.
pub(crate) struct SchemaDump {
    pub archive: NamedTempFile,
    pub version: String,
    /// What pg_dump complained of without failing.
    pub said: Vec<String>,
}

/// One digest for each object of a database as it is now.
pub(crate) async fn objects(
    tools: &dyn Tools,
    settings: &Settings,
    major: u32,
    lock_timeout: Duration,
) -> Result<Vec<ObjectFacts>, Error> {
    let dump = dump(tools, settings, major, None, lock_timeout).await?;
    objects_of(tools, major, dump.archive.path()).await
}

/// Dumps the schema of a database, under an exported snapshot where one is given, by a pg_dump at least
/// as new as the server.
pub(crate) async fn dump(
    tools: &dyn Tools,
    settings: &Settings,
    major: u32,
    snapshot: Option<&str>,
    lock_timeout: Duration,
) -> Result<SchemaDump, Error> {
    let archive = NamedTempFile::new().map_err(|source| Error::Spool { source })?;
    let mut arguments: Vec<String> =
        ["--schema-only", "--format=custom", "--compress=0", "--no-password"].into_iter().map(str::to_owned).collect();
    arguments.push(format!("--lock-wait-timeout={}", lock_timeout.as_millis()));
    arguments.extend(snapshot.map(|snapshot| format!("--snapshot={snapshot}")));
    let call = ToolCall {
        tool: Tool::PgDump,
        major,
        settings: Some(settings),
        arguments,
        jobs: 1,
        options: UNLIMITED.map(|(name, value)| format!("-c {name}={value}")).join(" "),
        list: None,
        input: None,
        output: Some(archive.path()),
    };
    let outcome = tools.run(call).await?;
    Ok(SchemaDump { archive, version: outcome.version, said: outcome.said })
}

/// One digest for each object of an archive.
pub(crate) async fn objects_of(tools: &dyn Tools, major: u32, archive: &Path) -> Result<Vec<ObjectFacts>, Error> {
    let text = NamedTempFile::new().map_err(|source| Error::Spool { source })?;
    let call = ToolCall {
        tool: Tool::PgRestore,
        major,
        settings: None,
        arguments: vec!["--file=-".to_owned()],
        jobs: 1,
        options: String::new(),
        list: None,
        input: Some(archive),
        output: Some(text.path()),
    };
    tools.run(call).await?;
    let spool = |source| Error::Spool { source };
    tokio::task::spawn_blocking(move || {
        let file = text.reopen().map_err(spool)?;
        digests(BufReader::new(file)).map_err(spool)
    })
    .await
    .map_err(|error| Error::Spool { source: std::io::Error::other(error) })?
}

/// Where an object would be put, said by statements that stand before it and belong to nobody.
#[derive(Default)]
struct Placement {
    tablespace: Vec<u8>,
    access_method: Vec<u8>,
}

struct Open {
    key: (String, String, String),
    hash: Sha256,
}

fn digests(mut text: impl BufRead) -> std::io::Result<Vec<ObjectFacts>> {
    let mut found: BTreeMap<(String, String, String), Sha256> = BTreeMap::new();
    let mut placement = Placement::default();
    let mut open: Option<Open> = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        if text.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if let Some(key) = header(&line) {
            close(&mut found, open.take());
            let mut hash = found.remove(&key).unwrap_or_default();
            if matches!(key.0.as_str(), "TABLE" | "MATERIALIZED VIEW" | "INDEX" | "CONSTRAINT") {
                hash.update(&placement.tablespace);
            }
            if matches!(key.0.as_str(), "TABLE" | "MATERIALIZED VIEW") {
                hash.update(&placement.access_method);
            }
            open = Some(Open { key, hash });
        } else if line.starts_with(b"-- PostgreSQL database dump complete") {
            close(&mut found, open.take());
        } else if line.starts_with(b"SET default_tablespace = ") {
            placement.tablespace.clone_from(&line);
        } else if line.starts_with(b"SET default_table_access_method = ") {
            placement.access_method.clone_from(&line);
        } else if let Some(open) = open.as_mut().filter(|_| !is_frame(&line)) {
            open.hash.update(&line);
        }
    }
    close(&mut found, open.take());
    let objects = found.into_iter().map(|((kind, schema, name), hash)| ObjectFacts {
        kind,
        schema,
        name,
        digest: hex::encode(hash.finalize()),
    });
    Ok(objects.collect())
}

fn close(found: &mut BTreeMap<(String, String, String), Sha256>, open: Option<Open>) {
    if let Some(Open { key, hash }) = open {
        found.insert(key, hash);
    }
}

/// Lines that stand between objects: blank ones, the rules around a heading, random keys.
fn is_frame(line: &[u8]) -> bool {
    line == b"\n" || line == b"--\n" || line.starts_with(b"\\restrict ") || line.starts_with(b"\\unrestrict ")
}

/// `-- Name: orders; Type: TABLE; Schema: public; Owner: shop`
fn header(line: &[u8]) -> Option<(String, String, String)> {
    let text = std::str::from_utf8(line).ok()?.strip_prefix("-- Name: ")?;
    let (rest, _owner) = text.rsplit_once("; Owner: ")?;
    let (rest, schema) = rest.rsplit_once("; Schema: ")?;
    let (name, kind) = rest.rsplit_once("; Type: ")?;
    let schema = if schema == "-" { "" } else { schema };
    Some((kind.to_owned(), schema.to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "--
-- PostgreSQL database dump
--

\\restrict abc

SET statement_timeout = 0;

SET default_tablespace = '';

--
-- Name: a; Type: TABLE; Schema: public; Owner: me
--

CREATE TABLE public.a (
    id integer
);


ALTER TABLE public.a OWNER TO me;

SET default_tablespace = fast;

--
-- Name: b; Type: TABLE; Schema: public; Owner: me
--

CREATE TABLE public.b ();

--
-- Name: p; Type: PUBLICATION; Schema: -; Owner: me
--

CREATE PUBLICATION p;

--
-- PostgreSQL database dump complete
--

\\unrestrict abc
";

    fn digest_of<'a>(objects: &'a [ObjectFacts], name: &str) -> &'a str {
        &objects.iter().find(|object| object.name == name).unwrap().digest
    }

    #[test]
    fn every_object_has_a_digest_that_moves_with_it_alone() {
        let objects = digests(DUMP.as_bytes()).unwrap();
        let names: Vec<_> = objects.iter().map(|o| (o.kind.as_str(), o.schema.as_str(), o.name.as_str())).collect();
        assert_eq!(names, [("PUBLICATION", "", "p"), ("TABLE", "public", "a"), ("TABLE", "public", "b")]);

        let other_key = digests(DUMP.replace("abc", "xyz").as_bytes()).unwrap();
        assert_eq!(objects, other_key);

        let changed = digests(DUMP.replace("id integer", "id bigint").as_bytes()).unwrap();
        assert_ne!(digest_of(&objects, "a"), digest_of(&changed, "a"));
        assert_eq!(digest_of(&objects, "b"), digest_of(&changed, "b"));

        let moved = digests(DUMP.replace("= fast", "= slow").as_bytes()).unwrap();
        assert_eq!(digest_of(&objects, "a"), digest_of(&moved, "a"));
        assert_ne!(digest_of(&objects, "b"), digest_of(&moved, "b"));
        assert_eq!(digest_of(&objects, "p"), digest_of(&moved, "p"));
    }
}
