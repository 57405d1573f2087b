use async_trait::async_trait;
use backstay_run::Context;
use serde::{Deserialize, Serialize};

use crate::{Error, Token};

/// What runs on top of the parts and must be quiet while they change.
#[async_trait]
pub trait Workload: Send + Sync {
    /// What it is, for plans: `the Compose project shop`.
    fn describe(&self) -> String;

    /// What `stop` would stop, by name. Empty where nothing runs.
    async fn running(&self, context: &Context) -> Result<Vec<String>, Error>;

    /// What runs now and how: all that `stop` and `start` need. It is journaled before `stop`, so that
    /// a run that dies half-way through stopping still knows what to start. Changes nothing.
    async fn observe(&self, context: &Context) -> Result<Token, Error>;

    /// What runs now and, besides it, what ran when `before` was observed and was stopped since by this very run:
    /// all of it is to run in the end. Changes nothing.
    async fn observe_besides(&self, context: &Context, before: &Token) -> Result<Token, Error> {
        let _ = before;
        self.observe(context).await
    }

    /// Makes the observed writers quiet. Stopping what is stopped is no error.
    async fn stop(&self, context: &Context, observed: &Token) -> Result<(), Error>;

    /// Starts what was observed, with the images and files that now are live, and returns when it runs
    /// those images, compared by id. Starting what runs as it should is no error.
    async fn start(&self, context: &Context, observed: &Token) -> Result<(), Error>;

    /// Looks whether it is healthy, for as long as it takes to know.
    async fn probe(&self, context: &Context) -> Result<Condition, Error>;
}

/// What a look at a workload says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    Healthy,
    Unhealthy { failures: Vec<String> },
    Undecided { why: String },
}

/// For a project that is only databases and files: there is nothing to stop.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoWorkload;

#[async_trait]
impl Workload for NoWorkload {
    fn describe(&self) -> String {
        "no workload".to_owned()
    }

    async fn running(&self, _context: &Context) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    async fn observe(&self, _context: &Context) -> Result<Token, Error> {
        Ok(Token(serde_json::Value::Null))
    }

    async fn stop(&self, _context: &Context, _observed: &Token) -> Result<(), Error> {
        Ok(())
    }

    async fn start(&self, _context: &Context, _observed: &Token) -> Result<(), Error> {
        Ok(())
    }

    async fn probe(&self, _context: &Context) -> Result<Condition, Error> {
        Ok(Condition::Healthy)
    }
}
