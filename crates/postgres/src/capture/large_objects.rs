use backstay_repository::SnapshotWriter;

use super::copy::{Sink, copy_out};
use crate::{Error, LargeObjectFacts, RowHash, RowSum, Session};

/// Bytes of a large object in one line.
const PIECE_BYTES: u64 = 256 << 10;
/// Large objects sized and copied by one statement.
const BATCH: usize = 500;
const DENIED: &str = "42501";

/// The two sinks that large objects go to.
pub(crate) struct Sinks {
    pub list: Sink,
    pub contents: Sink,
}

/// Reads all large objects that the session's transaction sees: owner, grants and comment of each, and
/// its bytes. `streams` names where they go; without, they are only fingerprinted.
pub(crate) async fn read(
    session: &mut Session,
    sinks: &mut Sinks,
    hash: RowHash,
    moved: &(dyn Fn(u64) + Send + Sync),
) -> Result<LargeObjectFacts, Error> {
    let (mut list, mut contents) = (RowSum::by(hash), RowSum::by(hash));
    let mut facts = LargeObjectFacts::default();
    let mut after: i64 = -1;
    loop {
        let sql = format!(
            "select oid::pg_catalog.int8 from pg_catalog.pg_largeobject_metadata
             where oid::pg_catalog.int8 > {after} order by oid limit {BATCH}"
        );
        let oids: Vec<(i64,)> = session.rows("list the large objects", &sql).await?;
        let Some((last,)) = oids.last() else { break };
        after = *last;
        let sized = sizes(session, &oids).await?;
        facts.count += sized.len() as u64;
        facts.bytes += sized.iter().map(|(_, size)| u64::try_from(*size).unwrap_or_default()).sum::<u64>();
        let listed = sized.iter().map(|(oid, size)| format!("({oid}, {size})")).collect::<Vec<_>>().join(", ");
        copy_out(session, "the list of large objects", &list_sql(&listed), &mut sinks.list, &mut list, moved).await?;
        let sql = contents_sql(&listed);
        copy_out(session, "the large objects", &sql, &mut sinks.contents, &mut contents, moved).await?;
    }
    facts.list_fingerprint = list.fingerprint();
    facts.contents_fingerprint = contents.fingerprint();
    Ok(facts)
}

/// Opening one to measure it keeps it open until the transaction, or a part of it, is rolled back.
async fn sizes(session: &mut Session, oids: &[(i64,)]) -> Result<Vec<(i64, i64)>, Error> {
    let listed = oids.iter().map(|(oid,)| oid.to_string()).collect::<Vec<_>>().join(",");
    let sql = format!(
        "select o, pg_catalog.lo_lseek64(pg_catalog.lo_open(o::pg_catalog.oid, x'40000'::pg_catalog.int4), 0, 2)
         from pg_catalog.unnest('{{{listed}}}'::pg_catalog.int8[]) as o"
    );
    session.execute("mark a place", "savepoint sizes").await?;
    let sized = match session.rows("measure the large objects", &sql).await {
        Err(Error::Query { source, .. }) if source.sqlstate().as_deref() == Some(DENIED) => {
            return Err(Error::Unreadable { database: session.database.clone(), tables: vec![source.to_string()] });
        }
        other => other?,
    };
    session.execute("go back", "rollback to savepoint sizes; release savepoint sizes").await?;
    Ok(sized)
}

fn list_sql(listed: &str) -> String {
    format!(
        "copy (select m.oid, pg_catalog.pg_get_userbyid(m.lomowner), m.lomacl::pg_catalog.text[],
                      pg_catalog.obj_description(m.oid, 'pg_largeobject'), v.size
               from (values {listed}) as v(oid, size)
               join pg_catalog.pg_largeobject_metadata m on m.oid = v.oid::pg_catalog.oid
               order by m.oid) to stdout with (format text)"
    )
}

fn contents_sql(listed: &str) -> String {
    format!(
        "copy (select v.oid, o, pg_catalog.lo_get(v.oid::pg_catalog.oid, o, {PIECE_BYTES})
               from (values {listed}) as v(oid, size)
               cross join lateral pg_catalog.generate_series(0, v.size::pg_catalog.int8 - 1, {PIECE_BYTES}) as o
              ) to stdout with (format text)"
    )
}

/// Captures them under `label`. Where there are none, nothing is stored.
pub(super) async fn capture(
    session: &mut Session,
    writer: &SnapshotWriter,
    label: &str,
    moved: &(dyn Fn(u64) + Send + Sync),
) -> Result<(LargeObjectFacts, Vec<(String, backstay_model::Root)>), Error> {
    let subject = format!("the large objects of {}", session.database);
    let mut sinks = Sinks { list: Sink::stream(writer, &subject), contents: Sink::stream(writer, &subject) };
    let mut facts = read(session, &mut sinks, RowHash::default(), moved).await?;
    if facts.count == 0 {
        return Ok((facts, Vec::new()));
    }
    let mut contents = Vec::new();
    for (name, sink, stream) in [
        ("large-objects", sinks.list, &mut facts.list_stream),
        ("large-object-contents", sinks.contents, &mut facts.contents_stream),
    ] {
        let name = format!("{label}/{name}");
        contents.extend(sink.finish().await?.map(|root| (name.clone(), root)));
        *stream = Some(name);
    }
    Ok((facts, contents))
}
