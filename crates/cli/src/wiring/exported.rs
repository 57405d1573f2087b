use backstay_model::{Manifest, PartKind};
use backstay_part::Recorded;
use backstay_repository::Repository;
use backstay_snapshot::ExportedPart;

use super::databases;
use crate::report::Failure;

/// What each part puts into an archive, from what was recorded: neither server, engine nor files need to be here.
pub async fn exported(repository: &Repository, manifest: &Manifest) -> Result<Vec<ExportedPart>, Failure> {
    let mut parts = Vec::new();
    for record in &manifest.parts {
        let recorded = Recorded::open(repository, record).await?;
        let exported = match record.kind {
            PartKind::Database => backstay_postgres::export(&recorded, databases::tools().as_ref()).await?,
            PartKind::Images => backstay_compose::export(&recorded)?,
            PartKind::Files => backstay_files::export(&recorded)?,
        };
        parts.push(ExportedPart { record: record.clone(), exported });
    }
    Ok(parts)
}
