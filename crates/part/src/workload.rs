use async_trait::async_trait;
use backstay_run::Context;

use crate::{Error, Token};

/// What runs on top of the parts and must be quiet while they change.
#[async_trait]
pub trait Workload: Send + Sync {
    /// What it is, for plans: `the Compose project shop`.
    fn describe(&self) -> String;

    /// What `stop` would stop, by name. Empty where nothing runs.
    async fn running(&self, context: &Context) -> Result<Vec<String>, Error>;

    /// Makes writers quiet and returns what `start` needs. Stopping what is stopped is no error.
    async fn stop(&self, context: &Context) -> Result<Token, Error>;

    /// Starts again what `stop` stopped, with the images and files that now are live, and returns when
    /// it runs. Starting what runs as it should is no error.
    async fn start(&self, context: &Context, stopped: &Token) -> Result<(), Error>;

    /// Looks whether it is healthy, for as long as it takes to know.
    async fn probe(&self, context: &Context) -> Result<Condition, Error>;
}

/// What a look at a workload says.
#[derive(Debug, Clone, PartialEq, Eq)]
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

    async fn stop(&self, _context: &Context) -> Result<Token, Error> {
        Ok(Token(serde_json::Value::Null))
    }

    async fn start(&self, _context: &Context, _stopped: &Token) -> Result<(), Error> {
        Ok(())
    }

    async fn probe(&self, _context: &Context) -> Result<Condition, Error> {
        Ok(Condition::Healthy)
    }
}
