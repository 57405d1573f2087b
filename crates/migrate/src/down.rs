use backstay_run::Context;
use serde::Serialize;

use crate::aftermath::{self, Aftermath};
use crate::bookkeeping::{self, Direction};
use crate::cuts::Batch;
use crate::folder::{Folder, Migration, Script};
use crate::history::History;
use crate::session::{Mode, Session};
use crate::{Error, RunOptions, Target, stepwise, transaction};

/// How far to go down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownTo {
    /// This many of the newest migrations.
    Steps(usize),
    /// Until this version is the newest; 0 for none left.
    Version(i64),
}

/// What going down did, read back from the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DownReport {
    pub reverted: Vec<String>,
    pub head: Option<i64>,
    pub aftermath: Aftermath,
}

/// Runs the down files of the newest migrations, newest first. A down file that the folder lacks is
/// taken from what an earlier run kept in the database.
pub async fn down(
    context: &Context,
    target: &Target,
    folder: &Folder,
    to: DownTo,
    options: &RunOptions,
) -> Result<DownReport, Error> {
    let mut session = Session::open(context, target, options, Mode::Real).await?;
    let done = down_in(&mut session, folder, to).await;
    session.close().await;
    done
}

async fn down_in(session: &mut Session<'_>, folder: &Folder, to: DownTo) -> Result<DownReport, Error> {
    let before = aftermath::look(session).await?;
    let failed = session.target.failed("read the history");
    let history = session.history().await.map_err(&failed)?;
    let resumable = bookkeeping::resumable(&mut session.connection, Direction::Down).await.map_err(&failed)?;
    let mut chosen = Vec::new();
    for version in versions(&history, to) {
        chosen.push(way_down(session, folder, &history, version, &resumable).await?);
    }
    for group in grouped(&chosen, session.options.per_file) {
        if group.outside {
            for migration in &group.migrations {
                stepwise::apply(session, migration, Direction::Down).await?;
            }
        } else if let transaction::Applied::NeedsCommitBefore(index) =
            transaction::apply(session, &group, Direction::Down).await?
        {
            let (first, rest) = group.migrations.split_at(index);
            for part in [first, rest] {
                let batch = Batch { migrations: part.to_vec(), outside: false };
                transaction::apply(session, &batch, Direction::Down).await?;
            }
        }
    }
    let history = session.history().await.map_err(&failed)?;
    let aftermath = aftermath::after(session, &before, !chosen.is_empty()).await?;
    let reverted =
        chosen.iter().filter_map(|migration| migration.down.as_ref()).map(|down| down.file.clone()).collect();
    Ok(DownReport { reverted, head: history.head().map(|applied| applied.version), aftermath })
}

fn versions(history: &History, to: DownTo) -> Vec<i64> {
    let newest_first = history.applied.iter().rev().map(|applied| applied.version);
    match to {
        DownTo::Steps(steps) => newest_first.take(steps).collect(),
        DownTo::Version(last) => newest_first.take_while(|version| *version > last).collect(),
    }
}

fn grouped(chosen: &[Migration], per_file: bool) -> Vec<Batch<'_>> {
    let mut groups: Vec<Batch<'_>> = Vec::new();
    for migration in chosen {
        let outside = migration.down.as_ref().is_some_and(|down| down.no_transaction);
        match groups.last_mut() {
            Some(last) if !per_file && !outside && !last.outside => last.migrations.push(migration),
            _ => groups.push(Batch { migrations: vec![migration], outside }),
        }
    }
    groups
}

/// A version with its down file, from the folder or from what the database keeps.
async fn way_down(
    session: &mut Session<'_>,
    folder: &Folder,
    history: &History,
    version: i64,
    resumable: &[i64],
) -> Result<Migration, Error> {
    let refused = |why: String| Error::Refused { why };
    if history.is_half(version) && !resumable.contains(&version) {
        return Err(refused(format!("version {version} stands half done; what it left must be looked at")));
    }
    let found = folder.find(version);
    let kept = if session.bookkeeping
        && bookkeeping::standing(&mut session.connection).await.map_err(|source| session.query(source))?
            == bookkeeping::Standing::Ready
    {
        bookkeeping::kept_down(&mut session.connection, version).await.map_err(|source| session.query(source))?
    } else {
        None
    };
    let in_folder = found.and_then(|migration| migration.down.clone());
    let down = in_folder.or_else(|| kept.and_then(|(file, sql)| Script::from_text(&file, &sql)));
    let Some(down) = down else {
        return Err(refused(format!(
            "version {version} has no down file, neither in the folder nor kept in the database"
        )));
    };
    let faults = down.faults();
    if !faults.is_empty() {
        return Err(Error::Faults { faults });
    }
    let up = found.map_or_else(|| down.clone(), |migration| migration.up.clone());
    let description = found.map_or_else(String::new, |migration| migration.description.clone());
    Ok(Migration { version, description, up, down: Some(down) })
}
