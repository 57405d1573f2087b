use backstay_model::{Loss, Outcome, PartName, Phase, RunId, RunRecord, SnapshotId};
use backstay_part::{Condition, Site, Token};
use backstay_run::{Entry, Mark, Run, Steps};
use serde::{Deserialize, Serialize};

use crate::Error;

pub(crate) const FENCE: &str = backstay_run::FENCED;
pub(crate) const START: &str = "start";
pub(crate) const PROBE: &str = "probe";
pub(crate) const COMPARE: &str = "compare";
pub(crate) const REVERT: &str = "revert";

/// What a person decides beforehand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choices {
    /// The most rows that may be lost: by the estimate before the fence, and exactly after the switch.
    pub max_loss: Option<u64>,
    /// What is unhealthy after the switch stays instead of being taken back.
    pub keep_unhealthy: bool,
}

/// What a restore or an undo is about: the first line of its journal, all that recover needs besides
/// the tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Work {
    /// The parts to switch, in order.
    pub parts: Vec<PartName>,
    pub choices: Choices,
}

/// How a restore, an undo or a recovery of one ended.
#[derive(Debug, Clone, Serialize)]
pub struct Restored {
    pub run: RunId,
    pub command: String,
    /// The snapshot that was to be brought back.
    pub snapshot: Option<SnapshotId>,
    /// `Done`: it runs. `TakenBack`: what ran before runs again. `Stuck`: `recover` has to go on.
    pub outcome: Outcome,
    /// What runs now, in words, after reading it back.
    pub state: String,
    /// What went wrong on the way.
    pub why: Vec<String>,
    /// How healthy what runs now is.
    pub condition: Option<Condition>,
    pub loss: Option<Loss>,
    /// The parts whose earlier state is kept until it is settled.
    pub kept: Vec<PartName>,
    pub phases: Vec<Phase>,
    /// Somebody asked to stop when it was too late for that.
    pub interrupted: bool,
}

impl Restored {
    pub(crate) fn new(site: &Site<'_>, record: RunRecord, state: String) -> Self {
        Self {
            run: record.id,
            command: record.command,
            snapshot: record.snapshot,
            outcome: record.outcome.unwrap_or(Outcome::Stuck),
            state,
            why: Vec::new(),
            condition: None,
            loss: None,
            kept: Vec::new(),
            phases: record.phases,
            interrupted: site.context.interrupt.is_requested(),
        }
    }
}

pub(crate) fn stage_step(part: &PartName) -> String {
    format!("stage {part}")
}

pub(crate) fn activate_step(part: &PartName) -> String {
    format!("activate {part}")
}

/// What a command writes down of itself before anything else.
pub(crate) fn encode<T: Serialize>(site: &Site<'_>, work: &T) -> Result<serde_json::Value, Error> {
    let encoded = serde_json::to_value(work);
    encoded.map_err(|source| backstay_run::Error::Encode { run: site.context.run.clone(), source }.into())
}

/// The token that a step of a journal left.
pub(crate) fn token(entries: &[Entry], step: &str) -> Option<Token> {
    entries.done(step).map(|value| Token(value.clone()))
}

/// What the workload was seen to run before it was stopped.
pub(crate) fn observed(run: &Run) -> Result<Token, Error> {
    let observed = run.entries().intended(FENCE).cloned();
    observed.map(Token).ok_or_else(|| Error::Journal { run: run.record().id.clone() })
}

/// Removes what the run staged. The first part that cannot be cleared away is the error.
pub(crate) async fn abandon_all(site: &Site<'_>, run: &Run, parts: &[PartName], why: &str) -> Result<(), Error> {
    let mut failed = None;
    for name in parts {
        let Some(part) = site.part(name) else { continue };
        let staged = token(run.entries(), &stage_step(name));
        if let Err(source) = part.abandon(site.context, &site.context.run, staged.as_ref()).await {
            failed.get_or_insert(Error::Abandon { why: why.to_owned(), part: name.clone(), source });
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Writes a line where what is done must go on whether or not it can be written.
pub(crate) async fn note_anyway<T: Serialize + Sync>(run: &mut Run, step: &str, mark: Mark, value: &T) {
    if let Err(error) = run.note(step, mark, value).await {
        run.context().warn(backstay_model::with_causes(&error));
    }
}
