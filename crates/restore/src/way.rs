use backstay_model::RunId;
use backstay_part::Site;
use backstay_run::{Unfinished, unfinished};

use crate::Error;
use crate::recover::{Ending, recover_one};

/// Commands that change nothing that runs: several may go on at once.
const BESIDE: [&str; 4] = ["snapshot", "prove", "check", "prune"];
const OURS: [&str; 6] = ["guard", "restore", "undo", "settle", "migrate run", "migrate down"];

/// A run that has to end before another may change what runs.
#[derive(Debug, Clone)]
pub struct InTheWay {
    pub run: RunId,
    /// Who it is, for a person: `restore 20251022_153000_4f2a on web1`.
    pub who: String,
    /// Whether it is at work, where that is known.
    pub alive: Option<bool>,
    /// Its journal is on this host.
    pub here: bool,
    /// What it said last.
    pub remark: Option<String>,
}

impl std::fmt::Display for InTheWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.alive {
            Some(true) => write!(f, "{} is at work", self.who),
            _ => write!(f, "{} did not end", self.who),
        }
    }
}

impl InTheWay {
    pub(crate) fn new(unfinished: &Unfinished) -> Self {
        Self {
            run: unfinished.record.id.clone(),
            who: unfinished.describe(),
            alive: unfinished.alive,
            here: unfinished.here,
            remark: unfinished.record.remark.clone(),
        }
    }
}

/// The unfinished runs of this project and environment, newest first. Changes nothing.
pub async fn in_the_way(site: &Site<'_>) -> Result<Vec<InTheWay>, Error> {
    let found = unfinished(site.context, site.repository, site.journals, false).await?;
    Ok(found.iter().filter(|run| !goes_on_beside(run)).map(InTheWay::new).collect())
}

/// Ends what died before. The caller holds the lease for changing, so of the runs that change what
/// runs, all that did not end are dead.
pub(crate) async fn clear(site: &Site<'_>, lender: Option<&RunId>) -> Result<(), Error> {
    for dead in unfinished(site.context, site.repository, site.journals, true).await? {
        if lender == Some(&dead.record.id) || goes_on_beside(&dead) {
            continue;
        }
        let who = || Error::InTheWay(Box::new(InTheWay::new(&dead)));
        if dead.alive == Some(true) || !is_ours(&dead) {
            return Err(who());
        }
        site.context.warn(format!("{} did not end; it is recovered first", dead.describe()));
        if recover_one(site, &dead).await?.ending == Ending::Undecided {
            return Err(who());
        }
    }
    Ok(())
}

/// A snapshot or a proof that may well be at work somewhere: only one that died here is known dead.
pub(crate) fn goes_on_beside(run: &Unfinished) -> bool {
    BESIDE.contains(&run.record.command.as_str()) && run.alive != Some(false)
}

pub(crate) fn is_ours(run: &Unfinished) -> bool {
    let command = run.record.command.as_str();
    OURS.contains(&command) || BESIDE.contains(&command)
}
