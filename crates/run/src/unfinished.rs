use backstay_model::{Outcome, RunId, RunRecord};
use backstay_repository::Repository;
use serde_json::Value;

use crate::run::{first_line, last_line};
use crate::{Context, Entry, Error, Journals};

/// A run of this project and environment that did not end.
#[derive(Debug, Clone)]
pub struct Unfinished {
    pub record: RunRecord,
    /// Its journal: this host's, or as far as it was published.
    pub entries: Vec<Entry>,
    /// Whether this host has its journal.
    pub here: bool,
    /// Whether it is at work: known where its journal is here, else only its lease can tell.
    pub alive: Option<bool>,
    /// How another host ended it meanwhile: what is left of it here has to follow.
    pub ended_elsewhere: Option<Outcome>,
}

impl Unfinished {
    /// What its command wrote down when it began.
    pub fn work(&self) -> Option<Value> {
        first_line(&self.entries).map(|(_, work)| work)
    }

    /// Who it is, for a person: `restore 20251022_153000_4f2a on web1`.
    pub fn describe(&self) -> String {
        format!("{} {} on {}", self.record.command, self.record.id, self.record.host)
    }
}

/// The runs of this project and environment that did not end, newest first. Records of runs that
/// ended and could not say so in the repository are written there where `publish` is asked for.
pub async fn unfinished(
    context: &Context,
    repository: &Repository,
    journals: &Journals,
    publish: bool,
) -> Result<Vec<Unfinished>, Error> {
    let records = repository.runs(&context.environment).await;
    let records = records.map_err(|source| Error::Record { action: "read", run: context.run.clone(), source })?;
    let mut records: Vec<RunRecord> =
        records.into_iter().filter(|record| record.project == context.project && record.id != context.run).collect();
    let mut found = Vec::new();
    for run in journals.list().await? {
        if run == context.run {
            continue;
        }
        let record = take(&mut records, &run);
        match local(context, repository, journals, &run, record, publish).await? {
            Local::Ended => {}
            Local::Unfinished(unfinished) => found.push(*unfinished),
        }
    }
    found.extend(records.into_iter().filter(|record| record.ended_at.is_none()).map(elsewhere));
    found.sort_by(|a, b| b.record.id.cmp(&a.record.id));
    Ok(found)
}

enum Local {
    Ended,
    Unfinished(Box<Unfinished>),
}

async fn local(
    context: &Context,
    repository: &Repository,
    journals: &Journals,
    run: &RunId,
    record: Option<RunRecord>,
    publish: bool,
) -> Result<Local, Error> {
    let (entries, alive) = match journals.read(run).await {
        // What is known to have ended needs no journal.
        Err(Error::Damaged { .. }) if record.as_ref().is_some_and(|record| record.ended_at.is_some()) => {
            return Ok(Local::Ended);
        }
        read => read?,
    };
    let published = record.as_ref().map(published).unwrap_or_default();
    if let Some(last) = last_line(&entries) {
        let known = record.is_some_and(|record| record.ended_at.is_some());
        if publish && !last.published && !known {
            put(context, repository, last.record, &entries).await?;
        }
        return Ok(Local::Ended);
    }
    // Where another host went on with the run, or this one died while it took the run over, each has
    // lines that the other lacks.
    let entries = union(entries, published);
    // A journal without its first line belongs to a run that died before it did anything.
    let Some((first, _)) = first_line(&entries) else { return Ok(Local::Ended) };
    let ended_elsewhere = record.as_ref().filter(|record| record.ended_at.is_some()).and_then(|record| record.outcome);
    let record = record.unwrap_or(first);
    let unfinished = Unfinished { record, entries, here: true, alive: Some(alive), ended_elsewhere };
    Ok(Local::Unfinished(Box::new(unfinished)))
}

async fn put(
    context: &Context,
    repository: &Repository,
    mut record: RunRecord,
    entries: &[Entry],
) -> Result<(), Error> {
    record.journal =
        serde_json::to_value(entries).map_err(|source| Error::Encode { run: record.id.clone(), source })?;
    if let Err(source) = repository.put_run(&record).await {
        context.warn(Error::Record { action: "write", run: record.id, source }.to_string());
    }
    Ok(())
}

fn elsewhere(record: RunRecord) -> Unfinished {
    let entries = published(&record);
    Unfinished { record, entries, here: false, alive: None, ended_elsewhere: None }
}

fn published(record: &RunRecord) -> Vec<Entry> {
    serde_json::from_value(record.journal.clone()).unwrap_or_default()
}

fn union(mut entries: Vec<Entry>, published: Vec<Entry>) -> Vec<Entry> {
    let missing: Vec<Entry> = published.into_iter().filter(|entry| !entries.contains(entry)).collect();
    entries.extend(missing);
    entries
}

fn take(records: &mut Vec<RunRecord>, run: &RunId) -> Option<RunRecord> {
    let index = records.iter().position(|record| record.id == *run)?;
    Some(records.swap_remove(index))
}
