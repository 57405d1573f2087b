use backstay_part::{Captured, Token};
use backstay_repository::SnapshotWriter;
use backstay_run::Context;

use crate::capture::{Source, capture_sources};
use crate::swap::{Switch, connect_alone, connect_outside, look_up};
use crate::{Error, ServerPart, swap};

/// Captures the kept databases under the labels of those they were. Nothing where nothing was kept.
pub(crate) async fn capture_kept(
    part: &ServerPart,
    context: &Context,
    activated: &Token,
    writer: &SnapshotWriter,
) -> Result<Option<Captured>, Error> {
    let switch = Switch::read(activated)?;
    let mut session = connect_outside(part, &switch.names(), "settle").await?;
    let entries = look_up(&mut session, &switch.names()).await?;
    session.close().await;
    let mut sources = Vec::new();
    for trio in switch.databases.iter().filter(|trio| entries.contains_key(&trio.kept)) {
        let Some(database) = part.database(&trio.label) else {
            let reason = format!("the configuration has no database {} any more", trio.label);
            return Err(Error::Refused { action: "capture what was kept", reasons: vec![reason] });
        };
        sources.push(Source {
            label: trio.label.clone(),
            settings: database.settings.with_database(&trio.kept),
            exclude_rows: database.exclude_rows.clone(),
        });
    }
    if sources.is_empty() {
        return Ok(None);
    }
    capture_sources(part, context, writer, sources).await.map(Some)
}

pub(crate) async fn settle(part: &ServerPart, _context: &Context, activated: &Token) -> Result<(), Error> {
    let switch = Switch::read(activated)?;
    let mut session = connect_alone(part, &switch.names(), "settle", &switch.run).await?;
    swap::settle(&mut session, &switch).await?;
    session.close().await;
    Ok(())
}
