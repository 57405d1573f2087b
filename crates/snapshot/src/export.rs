//! A snapshot as an archive that needs no Backstay: what every part put into its folder, with a README and a
//! `restore.sh` over them.

use std::fmt::Write as _;
use std::io::Write;

use backstay_model::{Event, Manifest, PartRecord};
use backstay_part::Exported;
use backstay_repository::{ExportEntry, Repository};
use backstay_run::Context;

use crate::Error;

const SCRIPT: &str = include_str!("export/restore.sh");

/// One part of a snapshot and what it puts into the archive.
#[derive(Debug)]
pub struct ExportedPart {
    pub record: PartRecord,
    pub exported: Exported,
}

/// The folder that an archive unpacks to; its file is named after it.
pub fn export_name(manifest: &Manifest) -> String {
    format!("{}-{}-{}", manifest.project, manifest.environment, manifest.id)
}

/// Writes the archive, and returns the writer once everything reached it.
pub async fn export<W: Write + Send + 'static>(
    context: &Context,
    repository: &Repository,
    manifest: &Manifest,
    parts: &[ExportedPart],
    writer: W,
) -> Result<W, Error> {
    let failed = |source| Error::Export { snapshot: manifest.id.clone(), source };
    let seconds = u64::try_from(manifest.taken_at.timestamp()).unwrap_or_default();
    let mut archive = repository.export(&export_name(manifest), seconds, writer);
    let head = [
        ExportEntry::text("README.txt", 0o644, readme(manifest, parts)),
        ExportEntry::text("restore.sh", 0o755, script(parts)),
    ];
    for entry in &head {
        archive.append(entry, &|_| {}).await.map_err(failed)?;
    }
    for ExportedPart { record, exported } in parts {
        let step = format!("export {}", record.name);
        let (part, subject) = (record.name.clone(), record.name.to_string());
        context.hear(Event::StepBegan { step: step.clone() });
        let bytes_expected = Some(record.bytes);
        context.hear(Event::TransferBegan { part: part.clone(), subject: subject.clone(), bytes_expected });
        let moved = |bytes| context.hear(Event::TransferMoved { part: part.clone(), subject: subject.clone(), bytes });
        for entry in &exported.entries {
            let entry = ExportEntry { name: format!("{}/{}", record.name, entry.name), ..entry.clone() };
            archive.append(&entry, &moved).await.map_err(failed)?;
        }
        context.hear(Event::TransferEnded { part: part.clone(), subject: subject.clone() });
        context.hear(Event::StepEnded { step, remark: None });
    }
    archive.finish().await.map_err(failed)
}

/// The names of parts are safe within quotes: letters, digits and hyphens.
fn script(parts: &[ExportedPart]) -> String {
    let parts: Vec<_> =
        parts.iter().map(|part| format!("{}:{}", part.record.kind.as_str(), part.record.name)).collect();
    SCRIPT.replace("@PARTS@", &parts.join(" "))
}

fn readme(manifest: &Manifest, parts: &[ExportedPart]) -> String {
    let mut text = format!(
        "Snapshot {} of {}, {}\nTaken {} by Backstay {} on {}\n\n",
        manifest.id,
        manifest.project,
        manifest.environment,
        manifest.taken_at.format("%Y-%m-%d %H:%M:%S UTC"),
        manifest.origin.version,
        manifest.origin.host
    );
    text += INTRODUCTION;
    let secrets: Vec<_> = parts.iter().flat_map(|part| &part.exported.secrets).collect();
    list(&mut text, "This archive is not sealed. Whoever can read it has", &secrets);
    for ExportedPart { record, exported } in parts {
        let title = format!("{}/: {}", record.name, record.summary);
        list(&mut text, &title, &exported.notes.iter().collect::<Vec<_>>());
    }
    let mut not_covered: Vec<_> = parts.iter().flat_map(|part| &part.exported.not_covered).collect();
    not_covered.extend(&manifest.not_covered);
    list(&mut text, "Not in this archive", &not_covered);
    text + BY_HAND
}

fn list(text: &mut String, title: &str, lines: &[&String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "{title}:");
    for line in lines {
        let _ = writeln!(text, "    {line}");
    }
    text.push('\n');
}

const INTRODUCTION: &str = "\
Everything here can be put back with tar, gunzip, sha256sum, psql and docker alone:

    sh restore.sh --help                              what it can do
    sh restore.sh --check --into /srv/new             look whether it would work, change nothing
    sh restore.sh --into /srv/new                     all of it
    sh restore.sh --only database --as shop=shop_old  the databases alone, one under another name
    sh restore.sh --only files --into /srv/new        the files alone

PGHOST, PGPORT, PGUSER, and PGPASSWORD or ~/.pgpass name the PostgreSQL server. Nothing that is there is
replaced: a database must be empty or not there, and so must the folder for the files. For a whole Compose
project on a new machine: images and files first, then start the database's service alone, then the database,
then everything.

";

const BY_HAND: &str = "\
By hand, without restore.sh:

    sha256sum -c SHA256SUMS
    tar -xpf files/files.tar
    docker load -i images/SERVICE.tar
    psql -d postgres -f database/roles.sql
    psql -d postgres -v name=NEW -f database/NAME/create.sql
    psql -d NEW -f database/NAME/before-rows.sql
    gunzip -c database/NAME/rows/000001-*.gz > rows    and then, in psql: \\copy TABLE from 'rows'
    psql -d NEW -f database/NAME/after-rows.sql        then rights.sql, finish.sql, event-triggers.sql where they
                                                       are there; then settings.sql with -v name=NEW

The .sql file beside each file of rows says which table and which columns they are. A file of rows may have
several pieces; they follow on each other.
";
