use backstay_postgres::MigrationHead;
use serde::Serialize;
use sqlx::Connection;

use crate::folder::{Fault, Folder};
use crate::history::{Applied, History};
use crate::plan::resumable;
use crate::{Error, Target};

/// Where a database stands: what was applied and what is pending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    pub database: String,
    pub applied: Vec<Applied>,
    /// Files that have not been applied, in order.
    pub pending: Vec<String>,
    /// Where files and history contradict each other.
    pub faults: Vec<Fault>,
    /// How far the migrations of any tool have come, by the columns of its own table.
    pub tools: Vec<MigrationHead>,
    /// Versions that stand half done; a run goes on with them.
    pub half_done: Vec<i64>,
}

/// Reads where a database stands. A role that may only read is enough; without a folder, nothing is
/// pending.
pub async fn status(target: &Target, folder: Option<&Folder>) -> Result<Status, Error> {
    let mut connection = target.connect_to_read().await?;
    let failed = target.failed("read the history");
    let history = History::read(&mut connection).await.map_err(&failed)?;
    let half_done = resumable(&mut connection).await.map_err(&failed)?;
    // Without a result: the transaction could only read.
    let _ = connection.close().await;
    let pending = folder.map(|folder| history.pending(folder)).unwrap_or_default();
    Ok(Status {
        database: target.describe(),
        pending: pending.into_iter().map(|migration| migration.up.file.clone()).collect(),
        faults: folder.map(|folder| history.faults(folder, &half_done)).unwrap_or_default(),
        half_done: half_done.into_iter().filter(|version| history.is_half(*version)).collect(),
        tools: crate::command::tools(target).await?,
        applied: history.applied,
    })
}
