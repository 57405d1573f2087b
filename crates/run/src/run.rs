use std::time::Duration;

use backstay_model::{Outcome, Phase, RunId, RunRecord, SnapshotId};
use backstay_repository::{Lease, LeasePurpose, Repository};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::journals::Opened;
use crate::{Context, Entry, Error, Journal, Journals, Mark, Steps, Unfinished};

/// The first and the last step of every journal.
pub const BEGIN: &str = "begin";
pub const END: &str = "end";
/// The step in which a run stops what writes; its intent says what ran.
pub const FENCED: &str = "fence";
/// The step of a guarded deploy: written before its command starts, so that a recovery knows that anything may have happened since.
pub const GUARDED: &str = "guarded command";

/// A lease to work under: taken for this run, or lent by the run that this one belongs to.
pub enum Claim<'a> {
    Own(Lease),
    Lent { lease: &'a Lease, by: &'a RunId },
}

impl<'a> Claim<'a> {
    /// Takes a lease, waiting up to `wait`; or uses the one that is lent.
    pub async fn take(
        context: &Context,
        repository: &Repository,
        lent: Option<(&'a Lease, &'a RunId)>,
        purpose: LeasePurpose,
        wait: Duration,
    ) -> Result<Self, Error> {
        if let Some((lease, by)) = lent {
            return Ok(Self::Lent { lease, by });
        }
        let taken = repository.lease(purpose, &context.run, wait, context.listener.as_ref()).await;
        taken.map(Self::Own).map_err(|source| Error::Lease { run: context.run.clone(), source })
    }

    pub fn lease(&self) -> &Lease {
        match self {
            Self::Own(lease) => lease,
            Self::Lent { lease, .. } => lease,
        }
    }

    /// The run that lent the lease: it is unfinished and not in the way.
    pub fn lender(&self) -> Option<&RunId> {
        match self {
            Self::Own(_) => None,
            Self::Lent { by, .. } => Some(by),
        }
    }

    /// Lets go of a lease of one's own.
    pub async fn release(self) {
        if let Self::Own(lease) = self {
            lease.release().await;
        }
    }
}

/// What is known of a run when it begins.
#[derive(Debug, Clone)]
pub struct Beginning {
    pub command: &'static str,
    pub snapshot: Option<SnapshotId>,
    pub before: Option<SnapshotId>,
    pub undoes: Option<RunId>,
    /// What the command needs to recover: it is in the journal before anything else is.
    pub work: Value,
}

/// What the first line of a journal holds: enough to recover without the repository's record.
#[derive(Debug, Serialize, Deserialize)]
struct FirstLine {
    record: RunRecord,
    work: Value,
}

/// What the last line of a journal holds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LastLine {
    pub record: RunRecord,
    pub published: bool,
}

/// A run that goes on: its journal on this host, and its record in the repository.
pub struct Run {
    context: Context,
    repository: Repository,
    journal: Journal,
    record: RunRecord,
    /// The phase that goes on, and when it began.
    phase: Option<(String, Duration)>,
}

impl Run {
    /// Begins the journal and the record of a new run.
    pub async fn begin(
        context: &Context,
        repository: &Repository,
        journals: &Journals,
        beginning: Beginning,
    ) -> Result<Self, Error> {
        let record = RunRecord {
            id: context.run.clone(),
            project: context.project.clone(),
            environment: context.environment.clone(),
            command: beginning.command.to_owned(),
            host: context.host.clone(),
            snapshot: beginning.snapshot,
            before: beginning.before,
            undoes: beginning.undoes,
            began_at: context.clock.now(),
            ended_at: None,
            outcome: None,
            remark: None,
            phases: Vec::new(),
            journal: Value::Null,
        };
        let journal = journals.create(&context.run, context.clock.clone()).await?;
        let mut run = Self { context: context.clone(), repository: repository.clone(), journal, record, phase: None };
        let first = FirstLine { record: run.record.clone(), work: beginning.work };
        run.note(BEGIN, Mark::Done, &first).await?;
        run.publish().await?;
        Ok(run)
    }

    /// Goes on with a run that died: with its own journal where it died here, else with the one it
    /// published. The context says the dead run's id from here on.
    pub async fn resume(
        context: &Context,
        repository: &Repository,
        journals: &Journals,
        dead: &Unfinished,
    ) -> Result<Self, Error> {
        let id = dead.record.id.clone();
        let mut journal = if dead.here {
            match journals.open(&id, context.clock.clone()).await? {
                Opened::Alive(_) => return Err(Error::Alive { run: id }),
                Opened::Free(journal) => journal,
            }
        } else {
            journals.create(&id, context.clock.clone()).await?
        };
        let missing: Vec<Entry> =
            dead.entries.iter().filter(|entry| !journal.entries().contains(entry)).cloned().collect();
        journal.adopt(&missing).await?;
        let context = Context { run: id, ..context.clone() };
        Ok(Self { context, repository: repository.clone(), journal, record: dead.record.clone(), phase: None })
    }

    pub fn context(&self) -> &Context {
        &self.context
    }

    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    pub fn entries(&self) -> &[Entry] {
        self.journal.entries()
    }

    /// The snapshot that the run made or goes back to, once it is known.
    pub fn set_snapshot(&mut self, snapshot: SnapshotId) {
        self.record.snapshot = Some(snapshot);
    }

    /// A phase begins, or goes on, and with that the one before ends.
    pub fn enter(&mut self, name: &str) {
        let now = self.context.clock.elapsed();
        if let Some((name, began)) = self.phase.replace((name.to_owned(), now)) {
            let milliseconds = u64::try_from(now.saturating_sub(began).as_millis()).unwrap_or(u64::MAX);
            match self.record.phases.iter_mut().find(|phase| phase.name == name) {
                Some(phase) => phase.milliseconds += milliseconds,
                None => self.record.phases.push(Phase { name, milliseconds }),
            }
        }
    }

    /// Writes one line of the journal and returns when it is durable.
    pub async fn note<T: Serialize + Sync>(&mut self, step: &str, mark: Mark, value: &T) -> Result<(), Error> {
        let value =
            serde_json::to_value(value).map_err(|source| Error::Encode { run: self.context.run.clone(), source })?;
        self.journal.append(step, mark, value).await
    }

    /// Puts what the journal holds so far where another host finds it.
    pub async fn publish(&mut self) -> Result<(), Error> {
        let encode = |source| Error::Encode { run: self.context.run.clone(), source };
        self.record.journal = serde_json::to_value(self.journal.entries()).map_err(encode)?;
        let put = self.repository.put_run(&self.record).await;
        put.map_err(|source| Error::Record { action: "write", run: self.context.run.clone(), source })
    }

    /// The run stops here unfinished: a person or a recovery goes on with it.
    pub async fn pause(mut self, outcome: Outcome, remark: String) -> RunRecord {
        self.enter(END);
        self.record.outcome = Some(outcome);
        self.record.remark = Some(remark);
        if let Err(error) = self.publish().await {
            self.context.warn(format!("{error}; this host's journal has it"));
        }
        self.record
    }

    /// The run is over as its record says already: only this host's journal did not know.
    pub async fn close(mut self) -> Result<RunRecord, Error> {
        let record = RunRecord { journal: Value::Null, ..self.record.clone() };
        self.note(END, Mark::Done, &LastLine { record, published: true }).await?;
        Ok(self.record)
    }

    /// The run is over. What happened has happened: a record that cannot be written now is written by
    /// a later run from the journal.
    pub async fn end(mut self, outcome: Outcome, remark: Option<String>) -> RunRecord {
        self.enter(END);
        self.record.ended_at = Some(self.context.clock.now());
        self.record.outcome = Some(outcome);
        self.record.remark = remark;
        let published = match self.publish().await {
            Ok(()) => true,
            Err(error) => {
                self.context.warn(format!("{error}; a later run writes it"));
                false
            }
        };
        let record = RunRecord { journal: Value::Null, ..self.record.clone() };
        if let Err(error) = self.note(END, Mark::Done, &LastLine { record, published }).await {
            self.context.warn(error.to_string());
        }
        self.record
    }
}

/// The record that a journal's first line holds, and what its command needs.
pub(crate) fn first_line(entries: &[Entry]) -> Option<(RunRecord, Value)> {
    let first: FirstLine = serde_json::from_value(entries.done(BEGIN)?.clone()).ok()?;
    Some((first.record, first.work))
}

/// What a journal says of how its run ended.
pub(crate) fn last_line(entries: &[Entry]) -> Option<LastLine> {
    serde_json::from_value(entries.done(END)?.clone()).ok()
}
