//! Recorded files as the ordinary tar archive they are stored as.

use backstay_part::{ErrorKind, Exported, Recorded};
use backstay_repository::ExportEntry;

use crate::Error;
use crate::entry::{Facts, What};
use crate::part::CONTENT;

const PRIVATE: u32 = 0o600;
const SCRIPT: &str = include_str!("export/restore.sh");

/// What an archive holds of the files of a release. Needs nothing of the place they came from.
pub fn export(recorded: &Recorded) -> Result<Exported, backstay_part::Error> {
    let failed = |source: Error| backstay_part::Error {
        part: recorded.record.name.clone(),
        action: "export",
        kind: ErrorKind::Damaged,
        source: Box::new(source),
    };
    let facts: Facts =
        recorded.facts().map_err(|source| failed(Error::Json { what: "the facts of the files", source }))?;
    let missing = || failed(Error::Damaged { path: CONTENT.to_owned(), what: "the stream is missing" });
    let root = recorded.contents.get(CONTENT).ok_or_else(missing)?;
    let mut exported = Exported {
        entries: vec![
            ExportEntry::stream(CONTENT, PRIVATE, root.clone()),
            ExportEntry::text("restore.sh", 0o755, SCRIPT),
        ],
        ..Exported::default()
    };
    exported.notes.push(format!(
        "{CONTENT}: what lay under {} is in root/, all else in outside/; tar -xpf {CONTENT}",
        facts.root
    ));
    for entry in &facts.entries {
        if !entry.is_folder() {
            exported.notes.push(format!("  {}: {}", entry.path, entry.described()));
        }
        if matches!(&entry.what, What::File { keys: Some(_), .. }) {
            exported.secrets.push(format!("the file {}", entry.path));
        }
    }
    Ok(exported)
}
