//! A migration is a run like any other: nobody else changes what runs meanwhile, and it is in the history.

use backstay_model::{Outcome, RunId, SnapshotId};
use backstay_repository::LeasePurpose;
use backstay_run::{Beginning, Claim, Run};
use serde_json::json;

use super::Site;
use crate::report::Failure;
use crate::restored;
use crate::wiring::Release;

/// Keeps restores, deploys and other migrations of this environment away until it is released.
pub async fn claim<'r>(release: &'r Release) -> Result<Claim<'r>, Failure> {
    restored::recover_first(release).await?;
    let Release { context, repository, .. } = release;
    let site = release.site();
    let purpose = LeasePurpose::Change(context.environment.clone());
    Ok(Claim::take(context, repository, site.lent, purpose, site.lease_wait).await?)
}

/// The run's record, written before anything is done to the database.
pub async fn begin(
    release: &Release,
    site: &Site,
    command: &'static str,
    snapshot: Option<&SnapshotId>,
) -> Result<Run, Failure> {
    let work = json!({ "database": site.database });
    let beginning = Beginning { command, snapshot: snapshot.cloned(), before: None, undoes: None, work };
    let mut run = Run::begin(&release.context, &release.repository, &release.journals, beginning).await?;
    run.enter("migrate");
    Ok(run)
}

/// Writes down how it ended, and hands the ending on.
pub async fn end<T>(run: Run, ended: Result<T, Failure>, remark: impl FnOnce(&T) -> String) -> Result<T, Failure> {
    match ended {
        Ok(done) => {
            run.end(Outcome::Done, Some(remark(&done))).await;
            Ok(done)
        }
        Err(failure) => {
            let failure = failure.of_run(&run.record().id);
            run.end(failure.outcome(), Some(failure.what.join(": "))).await;
            Err(failure)
        }
    }
}

/// The files by name, where there are few.
pub fn files(how: &str, names: &[String]) -> String {
    match names {
        [first, .., last] => format!("{how} {} files, {first} to {last}", names.len()),
        [only] => format!("{how} {only}"),
        [] => "nothing was pending any more".to_owned(),
    }
}

/// The run that takes a failed migration back has a name of its own.
pub fn next_run(release: &Release) -> RunId {
    RunId::new(release.context.clock.now(), rand::random())
}
