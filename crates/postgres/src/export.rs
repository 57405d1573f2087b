//! Recorded databases as files that `psql` alone puts back: SQL, and rows as `COPY` reads them.

mod sql;

use std::sync::Arc;

use backstay_model::Root;
use backstay_part::{Exported, Recorded};
use backstay_repository::{ExportContent, ExportEntry, ExportPiece};

use crate::names::plain;
use crate::stage::archive::{Archive, Stretch, stream};
use crate::{DatabaseFacts, Error, ServerFacts, TableFacts, Tools};

/// Rows and schemas are secrets of those they belong to.
const PRIVATE: u32 = 0o600;
const SCRIPT: &str = include_str!("export/restore.sh");

/// What an archive holds of the databases of one server. Needs the programs of PostgreSQL and no server.
pub async fn export(recorded: &Recorded, tools: &dyn Tools) -> Result<Exported, backstay_part::Error> {
    collect(recorded, tools).await.map_err(|error| backstay_part::Error {
        part: recorded.record.name.clone(),
        action: "export",
        kind: error.kind(),
        source: Box::new(error),
    })
}

async fn collect(recorded: &Recorded, tools: &dyn Tools) -> Result<Exported, Error> {
    let server: ServerFacts = recorded.facts().map_err(|source| Error::Facts { source })?;
    let mut exported = Exported::default();
    exported.entries.push(ExportEntry::text("restore.sh", 0o755, SCRIPT));
    exported.entries.push(ExportEntry::text("roles.sql", PRIVATE, sql::roles(&server.roles)));
    exported.notes.push(format!("recorded on PostgreSQL {}", server.server_version / 10_000));
    exported.notes.push("roles.sql makes the roles that are missing, without passwords".to_owned());
    exported.secrets.push("every row of the databases, and what their schemas say".to_owned());
    exported.not_covered.push("the passwords of roles".to_owned());
    for facts in &server.databases {
        let database = OneDatabase { recorded, server: &server, facts, folder: plain(&facts.label) };
        database.add(tools, &mut exported).await?;
    }
    Ok(exported)
}

struct OneDatabase<'a> {
    recorded: &'a Recorded,
    server: &'a ServerFacts,
    facts: &'a DatabaseFacts,
    folder: String,
}

impl OneDatabase<'_> {
    async fn add(&self, tools: &dyn Tools, exported: &mut Exported) -> Result<(), Error> {
        let facts = self.facts;
        let archive = Archive::fetch(self.recorded, facts, self.server).await?;
        let entries = &mut exported.entries;
        entries.push(self.text("name", format!("{}\n", facts.name)));
        entries.push(self.text("check.sql", sql::check(facts, self.server)));
        entries.push(self.text("create.sql", sql::create(facts, self.server)));
        entries.extend(self.schema("before-rows.sql", archive.sql(tools, Stretch::BeforeRows).await?));
        for table in &facts.tables {
            self.add_rows(table, entries)?;
        }
        self.add_large_objects(entries)?;
        entries.extend(self.schema("after-rows.sql", archive.sql(tools, Stretch::AfterRows).await?));
        entries.extend(self.schema("rights.sql", archive.sql(tools, Stretch::Rights).await?));
        entries.push(self.text("finish.sql", sql::finish(facts)));
        entries.extend(self.schema("event-triggers.sql", archive.sql(tools, Stretch::EventTriggers).await?));
        entries.push(self.text("settings.sql", sql::settings(facts)));
        exported.notes.push(format!(
            "{}/: the database {}, {} tables, {} rows, encoding {}, owner {}",
            self.folder,
            facts.name,
            facts.tables.len(),
            facts.rows(),
            facts.encoding,
            facts.owner
        ));
        // What capture left out, the manifest says.
        let subscriptions = facts.objects.iter().filter(|object| object.kind == "SUBSCRIPTION");
        exported.not_covered.extend(subscriptions.map(|one| format!("{}: the subscription {}", facts.name, one.name)));
        Ok(())
    }

    fn add_rows(&self, table: &TableFacts, entries: &mut Vec<ExportEntry>) -> Result<(), Error> {
        for range in table.ranges.iter().filter(|range| range.rows > 0) {
            let number = entries.iter().filter(|entry| entry.name.ends_with(".copy")).count() + 1;
            let name = format!("rows/{number:06}-{}", plain(&format!("{}.{}", table.schema, table.name)));
            entries.push(self.text(&format!("{name}.sql"), sql::rows(self.facts, table, range.rows)));
            entries.push(self.lines(&format!("{name}.copy"), stream(self.recorded, &range.stream)?));
        }
        Ok(())
    }

    fn add_large_objects(&self, entries: &mut Vec<ExportEntry>) -> Result<(), Error> {
        let facts = &self.facts.large_objects;
        let (Some(list), Some(contents)) = (&facts.list_stream, &facts.contents_stream) else { return Ok(()) };
        if facts.count == 0 {
            return Ok(());
        }
        entries.push(self.text("large-objects/before.sql", sql::before_large_objects()));
        entries.push(self.lines("large-objects/list.copy", stream(self.recorded, list)?));
        entries.push(self.lines("large-objects/contents.copy", stream(self.recorded, contents)?));
        entries.push(self.text("large-objects/after.sql", sql::after_large_objects()));
        entries.push(self.text("large-objects/count", format!("{}\n", facts.count)));
        Ok(())
    }

    fn named(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    fn text(&self, name: &str, text: String) -> ExportEntry {
        ExportEntry::text(self.named(name), PRIVATE, text)
    }

    fn schema(&self, name: &str, file: Option<std::fs::File>) -> Option<ExportEntry> {
        let content = ExportContent::Plain(vec![ExportPiece::File(Arc::new(file?))]);
        Some(ExportEntry { name: self.named(name), mode: PRIVATE, content })
    }

    fn lines(&self, name: &str, root: &Root) -> ExportEntry {
        ExportEntry { name: self.named(name), mode: PRIVATE, content: ExportContent::Gzipped(root.clone()) }
    }
}
