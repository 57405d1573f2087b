//! Capture of every configured database: locks first, then the snapshot, then everything under it.

pub(crate) mod copy;
mod dumped;
mod freeze;
pub(crate) mod large_objects;
mod rows;
pub(crate) mod statements;
pub(crate) mod verifiers;

use std::collections::{BTreeMap, BTreeSet};

use backstay_model::{Event, Root};
use backstay_part::{Captured, Contents};
use backstay_repository::SnapshotWriter;
use backstay_run::Context;
use bytes::Bytes;
use futures_util::try_join;
use tokio::io::AsyncReadExt;

use self::dumped::Dumped;
use self::freeze::Frozen;
use crate::catalog::relations::Relation;
use crate::catalog::{database, partitions, roles, sequences};
use crate::schema::SchemaDump;
use crate::session::connect;
use crate::{
    DatabaseFacts, Error, MatviewFacts, Moment, ServerFacts, ServerPart, Session, Settings, TableFacts, history, loss,
    schema,
};

const PIECE_BYTES: usize = 256 << 10;

/// A database to capture under a label: usually the configured one, for `settle` the one that was kept.
pub(crate) struct Source {
    pub label: String,
    pub settings: Settings,
    pub exclude_rows: Vec<String>,
}

/// Captures every configured database.
pub(crate) async fn capture(part: &ServerPart, context: &Context, writer: &SnapshotWriter) -> Result<Captured, Error> {
    let sources = part.databases().iter().map(|database| Source {
        label: database.label.clone(),
        settings: database.settings.clone(),
        exclude_rows: database.exclude_rows.clone(),
    });
    capture_sources(part, context, writer, sources.collect()).await
}

/// Captures these, one after the other: each has a moment of its own, for a snapshot is valid in one
/// database only.
pub(crate) async fn capture_sources(
    part: &ServerPart,
    context: &Context,
    writer: &SnapshotWriter,
    sources: Vec<Source>,
) -> Result<Captured, Error> {
    let work = async {
        let mut facts = ServerFacts::default();
        let mut contents = Contents::new();
        for source in &sources {
            let one = OneDatabase { part, context, writer, source };
            let captured = one.capture(&mut facts, &mut contents).await;
            facts.databases.push(captured.map_err(|error| match facts.standby {
                true => error.on_standby(source.settings.database()),
                false => error,
            })?);
        }
        captured_of(contents, &facts)
    };
    tokio::select! {
        result = work => result,
        () = context.interrupt.requested() => Err(Error::Interrupted),
    }
}

fn captured_of(contents: Contents, facts: &ServerFacts) -> Result<Captured, Error> {
    let tables: usize = facts.databases.iter().map(|database| database.tables.len()).sum();
    let rows: u64 = facts.databases.iter().map(DatabaseFacts::rows).sum();
    let count = |many: u64, one: &str| format!("{} {one}{}", grouped(many), if many == 1 { "" } else { "s" });
    let summary =
        [count(facts.databases.len() as u64, "database"), count(tables as u64, "table"), count(rows, "row")].join(", ");
    let mut captured = Captured::new(contents, facts, summary).map_err(|source| Error::Facts { source })?;
    captured.not_covered = facts
        .databases
        .iter()
        .flat_map(|database| database.not_covered.iter().map(|what| format!("{}: {what}", database.name)))
        .collect();
    Ok(captured)
}

/// `1204` as `1,204`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

struct OneDatabase<'a> {
    part: &'a ServerPart,
    context: &'a Context,
    writer: &'a SnapshotWriter,
    source: &'a Source,
}

impl OneDatabase<'_> {
    async fn capture(&self, server: &mut ServerFacts, contents: &mut Contents) -> Result<DatabaseFacts, Error> {
        let label = &self.source.label;
        let mut session = connect(&self.source.settings, "capture").await?;
        describe_server(&mut session, server).await?;
        // Before the snapshot: see there.
        let counters = loss::read_counters(&mut session).await?;
        let Dumped { frozen, sequences, dump } =
            dumped::freeze_and_dump(session, self.part, self.context, &self.source.settings).await?;
        let Frozen { mut session, relations, moment, snapshot } = frozen;
        let mut facts = database::read(&mut session, label).await?;
        facts.sequences = sequences;
        facts.sequences_lost = sequences::lost_on_standby(&mut session).await?.len() as u64;
        facts.moment = Moment { counters, ..moment };
        facts.not_covered = self.not_covered(&mut session, &relations).await?;
        facts.matviews = relations.iter().filter(|relation| relation.kind == "m").map(matview).collect();
        facts.roles = roles::needed(&mut session).await?;
        let wanted: BTreeSet<_> =
            facts.roles.iter().cloned().chain(server.roles.drain(..).map(|role| role.name)).collect();
        server.roles = roles::describe(&mut session, &wanted).await?;
        contents.extend(verifiers::capture(&mut session, self.writer, server, &mut facts.not_covered).await?);
        facts.migrations = history::heads(&mut session).await?;
        let mut tables = self.tables(&session, &relations)?;
        let scattered = partitions::scattered(&mut session).await?;
        for table in &mut tables {
            if let Some(tree) = scattered.get(&(table.schema.clone(), table.name.clone())) {
                tree.order(&mut table.columns);
                tree.order(&mut table.generated);
            }
        }

        facts.schema_stream = format!("{label}/schema");
        let root = self.store(&dump, &facts.schema_stream).await?;
        contents.insert(facts.schema_stream.clone(), root);
        facts.not_covered.extend(dump.said.iter().map(|line| format!("pg_dump says: {line}")));

        let (block_bytes,): (i32,) = session
            .row("read the block size", "select pg_catalog.current_setting('block_size')::pg_catalog.int4")
            .await?;
        let plan = rows::Plan {
            part: backstay_part::Part::name(self.part),
            context: self.context,
            writer: self.writer,
            settings: &self.source.settings,
            snapshot: &snapshot,
            label,
            workers: self.part.options().workers,
            block_bytes: u64::try_from(block_bytes).unwrap_or(8192),
        };
        let major = session.major();
        let objects = schema::objects_of(self.part.tools().as_ref(), major, dump.archive.path());
        let (objects, rows) = try_join!(objects, rows::copy_all(&mut session, &relations, tables, &plan))?;
        (facts.objects, server.pg_dump) = (objects, dump.version);
        contents.extend(rows.contents);
        facts.tables = rows.tables;
        let (large_objects, streams) = self.large_objects(&mut session).await?;
        facts.large_objects = large_objects;
        contents.extend(streams);
        session.execute("end reading", "rollback").await?;
        session.close().await;
        Ok(facts)
    }

    /// The tables to copy, in order of their names. Rows that policies would hide fail them all by name.
    fn tables(&self, session: &Session, relations: &[Relation]) -> Result<Vec<TableFacts>, Error> {
        let excluded = |relation: &Relation| self.source.exclude_rows.iter().any(|name| names(name, relation));
        for name in &self.source.exclude_rows {
            if !relations.iter().any(|relation| relation.is_table() && names(name, relation)) {
                self.context.warn(format!("exclude_rows names {name}, which is no table of {}", session.database));
            }
        }
        let hidden: Vec<_> = relations
            .iter()
            .filter(|relation| relation.holds_rows() && relation.hidden_rows && !excluded(relation))
            .map(|relation| format!("{} (row security hides rows from this user)", relation.title()))
            .collect();
        if !hidden.is_empty() {
            return Err(Error::Unreadable { database: session.database.clone(), tables: hidden });
        }
        let facts = |relation: &Relation| TableFacts {
            schema: relation.schema.clone(),
            name: relation.name.clone(),
            rows_of: relation.rows_of(),
            unlogged: relation.unlogged,
            columns: relation.columns.clone(),
            generated: relation.generated.clone(),
            large_indexes: relation.large_indexes.clone(),
            excluded: relation.holds_rows() && (excluded(relation) || lost_on_standby(session, relation)),
            ..TableFacts::default()
        };
        Ok(relations.iter().filter(|relation| relation.is_table()).map(facts).collect())
    }

    async fn not_covered(&self, session: &mut Session, relations: &[Relation]) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        for relation in relations {
            let title = relation.title();
            if relation.kind == "f" {
                found.push(format!("the rows of the foreign table {title}, which are elsewhere"));
            } else if lost_on_standby(session, relation) {
                found.push(format!("the rows of the unlogged table {title}, which a standby does not have"));
            } else if relation.holds_rows() && self.source.exclude_rows.iter().any(|name| names(name, relation)) {
                found.push(format!("the rows of {title}, which the configuration leaves out"));
            } else if let (Some(extension), false) = (&relation.extension, relation.is_configuration())
                && relation.kind == "r"
                && relation.heap_bytes > 0
            {
                found.push(format!("the rows of {title}, which extension {extension} fills itself"));
            }
        }
        let lost = |name| format!("the unlogged sequence {name}, which a standby does not have");
        found.extend(sequences::lost_on_standby(session).await?.into_iter().map(lost));
        found.extend(database::not_covered(session).await?);
        Ok(found)
    }

    async fn store(&self, dump: &SchemaDump, subject: &str) -> Result<Root, Error> {
        let failed = |source| Error::Store { subject: subject.to_owned(), source };
        let spool = |source| Error::Spool { source };
        let mut file = tokio::fs::File::from_std(dump.archive.reopen().map_err(spool)?);
        let mut stream = self.writer.stream();
        loop {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            if file.read_buf(&mut piece).await.map_err(spool)? == 0 {
                break;
            }
            stream.push(Bytes::from(piece)).await.map_err(failed)?;
        }
        stream.finish().await.map_err(failed)
    }

    async fn large_objects(
        &self,
        session: &mut Session,
    ) -> Result<(crate::LargeObjectFacts, BTreeMap<String, Root>), Error> {
        let part = backstay_part::Part::name(self.part);
        let subject = format!("{} large objects", session.database);
        let moved = |bytes| {
            self.context.hear(Event::TransferMoved { part: part.clone(), subject: subject.clone(), bytes });
        };
        let (facts, streams) = large_objects::capture(session, self.writer, &self.source.label, &moved).await?;
        Ok((facts, streams.into_iter().collect()))
    }
}

/// Whether a name of the configuration, quoted or not, means this relation.
fn names(name: &str, relation: &Relation) -> bool {
    name == relation.title() || name == relation.qualified()
}

fn lost_on_standby(session: &Session, relation: &Relation) -> bool {
    session.standby && relation.unlogged && relation.holds_rows()
}

fn matview(relation: &Relation) -> MatviewFacts {
    MatviewFacts { schema: relation.schema.clone(), name: relation.name.clone(), populated: relation.populated }
}

async fn describe_server(session: &mut Session, facts: &mut ServerFacts) -> Result<(), Error> {
    facts.server_version = session.version;
    facts.standby = session.standby;
    let sql = "select pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'execute')";
    let (allowed,): (bool,) = session.row("look at the server", sql).await?;
    if allowed {
        let sql = "select system_identifier::pg_catalog.text from pg_catalog.pg_control_system()";
        let (identifier,): (String,) = session.row("look at the server", sql).await?;
        facts.system_identifier = Some(identifier);
    }
    Ok(())
}

#[cfg(test)]
#[path = "capture_tests.rs"]
mod tests;
