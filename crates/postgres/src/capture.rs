use backstay_part::Captured;
use backstay_repository::SnapshotWriter;
use backstay_run::Context;

use crate::{Error, ServerPart, Settings};

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

pub(crate) async fn capture_sources(
    _part: &ServerPart,
    _context: &Context,
    _writer: &SnapshotWriter,
    _sources: Vec<Source>,
) -> Result<Captured, Error> {
    todo!()
}
