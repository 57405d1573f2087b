use std::sync::Arc;

use async_trait::async_trait;
use backstay_model::{Clock, RunId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, line};

/// Where a step stood when the line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Written before the step is done; the value is what it takes to repeat it or take it back.
    Intent,
    Done,
    Failed,
}

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub at: DateTime<Utc>,
    pub step: String,
    pub mark: Mark,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub value: Value,
}

/// Looking steps up in entries, wherever they come from.
pub trait Steps {
    fn entry(&self, step: &str, mark: Mark) -> Option<&Entry>;

    /// The value of the newest line that says the step is done.
    fn done(&self, step: &str) -> Option<&Value> {
        self.entry(step, Mark::Done).map(|entry| &entry.value)
    }

    /// The value of the newest line that says the step was about to be done.
    fn intended(&self, step: &str) -> Option<&Value> {
        self.entry(step, Mark::Intent).map(|entry| &entry.value)
    }
}

impl Steps for [Entry] {
    fn entry(&self, step: &str, mark: Mark) -> Option<&Entry> {
        self.iter().rev().find(|entry| entry.step == step && entry.mark == mark)
    }
}

/// Where the bytes of one journal go. Holding it is holding the run's lock.
#[async_trait]
pub(crate) trait Page: Send + Sync {
    /// Returns when the bytes would survive a power cut.
    async fn append(&mut self, bytes: &[u8]) -> std::io::Result<()>;
}

/// What one run did and was about to do, line by line. While it is held, the run counts as alive.
pub struct Journal {
    pub(crate) run: RunId,
    pub(crate) page: Box<dyn Page>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) last: String,
    pub(crate) clock: Arc<dyn Clock>,
    /// After a write that failed nobody knows how much of the line is there.
    pub(crate) broken: bool,
}

impl Journal {
    pub fn run(&self) -> &RunId {
        &self.run
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Writes one line and returns when it is durable.
    pub async fn append(&mut self, step: &str, mark: Mark, value: Value) -> Result<(), Error> {
        let entry = Entry { at: self.clock.now(), step: step.to_owned(), mark, value };
        self.write(entry).await
    }

    /// Writes lines that another host published, as they were.
    pub(crate) async fn adopt(&mut self, entries: &[Entry]) -> Result<(), Error> {
        for entry in entries {
            self.write(entry.clone()).await?;
        }
        Ok(())
    }

    async fn write(&mut self, entry: Entry) -> Result<(), Error> {
        let failed = |source| Error::Journal { action: "write", run: self.run.clone(), source };
        if self.broken {
            return Err(failed(std::io::Error::other("an earlier line could not be written whole")));
        }
        let (text, checksum) =
            line::encode(&entry, &self.last).map_err(|source| Error::Encode { run: self.run.clone(), source })?;
        self.broken = true;
        self.page.append(text.as_bytes()).await.map_err(failed)?;
        self.broken = false;
        self.last = checksum;
        self.entries.push(entry);
        Ok(())
    }
}

impl Steps for Journal {
    fn entry(&self, step: &str, mark: Mark) -> Option<&Entry> {
        self.entries.as_slice().entry(step, mark)
    }
}
