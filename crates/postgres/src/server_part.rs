use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backstay_model::{Finding, PartKind, PartName, PartPlan, RunId};
use backstay_part::{Captured, Comparison, Part, Proof, Recorded, Standing, Token, WarmCopy};
use backstay_repository::SnapshotWriter;
use backstay_run::Context;

use crate::stage::Purpose;
use crate::swap::Written;
use crate::{Error, Leftover, RescueReport, Settings, Tools, capture, loss, preflight, prove, settle, stage, swap};

/// All configured databases of one server: they are captured one by one and swapped in one transaction.
#[derive(Clone)]
pub struct ServerPart {
    name: PartName,
    databases: Vec<Database>,
    tools: Arc<dyn Tools>,
    options: Options,
}

/// One configured database.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its name in the configuration.
    pub label: String,
    pub settings: Settings,
    /// The same database on the server's standbys, whose sessions outlive a switch unless they are ended there.
    pub standbys: Vec<Settings>,
    /// Tables, as `schema.table`, whose rows are left out.
    pub exclude_rows: Vec<String>,
    /// SQL that has to be true on a staged copy: each a query of one row whose only column is boolean.
    pub assertions: Vec<String>,
}

/// How the part goes about its work.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long one attempt waits for a lock on a table.
    pub lock_timeout: Duration,
    /// How long attempts go on.
    pub lock_wait: Duration,
    /// Connections that copy rows side by side.
    pub workers: usize,
    /// Another server for staged copies that are only proven.
    pub scratch: Option<Settings>,
}

impl Default for Options {
    fn default() -> Self {
        Self { lock_timeout: Duration::from_secs(3), lock_wait: Duration::from_secs(60), workers: 4, scratch: None }
    }
}

impl ServerPart {
    /// `databases` are all on one server, each under a label of its own.
    pub fn new(name: PartName, databases: Vec<Database>, tools: Arc<dyn Tools>, options: Options) -> Self {
        Self { name, databases, tools, options }
    }

    pub fn databases(&self) -> &[Database] {
        &self.databases
    }

    pub fn database(&self, label: &str) -> Option<&Database> {
        self.databases.iter().find(|database| database.label == label)
    }

    /// The server that staged copies are built on.
    pub(crate) fn server(&self) -> Result<&Settings, Error> {
        let first = self.databases.first().map(|database| &database.settings);
        let none = || Error::Settings { subject: "databases", why: "are none".to_owned() };
        self.options.scratch.as_ref().or(first).ok_or_else(none)
    }

    pub fn tools(&self) -> &Arc<dyn Tools> {
        &self.tools
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) fn with_workers(mut self, workers: usize) -> Self {
        self.options.workers = workers;
        self
    }

    /// The databases on this server that runs made or renamed and that are not live.
    pub async fn leftovers(&self) -> Result<Vec<Leftover>, Error> {
        let mut session = swap::connect_outside(self, &[], "look").await?;
        let leftovers = swap::leftovers(&mut session).await?;
        session.close().await;
        Ok(leftovers)
    }

    /// Writes the rows that only the kept databases have, inserted or changed there, as COPY files
    /// into `folder`, which is made for its owner alone, with a script that loads them and a README.
    pub async fn rescue(&self, context: &Context, activated: &Token, folder: &Path) -> Result<RescueReport, Error> {
        loss::rescue(self, context, activated, folder).await
    }

    fn explain<T>(&self, action: &'static str, result: Result<T, Error>) -> Result<T, backstay_part::Error> {
        result.map_err(|error| backstay_part::Error {
            part: self.name.clone(),
            action,
            kind: error.kind(),
            source: Box::new(error),
        })
    }
}

#[async_trait]
impl Part for ServerPart {
    fn name(&self) -> &PartName {
        &self.name
    }

    fn kind(&self) -> PartKind {
        PartKind::Database
    }

    async fn preflight(&self, context: &Context) -> Result<Vec<Finding>, backstay_part::Error> {
        self.explain("examine", preflight::preflight(self, context).await)
    }

    async fn capture(&self, context: &Context, writer: &SnapshotWriter) -> Result<Captured, backstay_part::Error> {
        self.explain("capture", capture::capture(self, context, writer).await)
    }

    async fn plan(&self, context: &Context, recorded: &Recorded) -> Result<PartPlan, backstay_part::Error> {
        self.explain("plan for", stage::plan(self, context, recorded).await)
    }

    async fn stage(&self, context: &Context, recorded: &Recorded) -> Result<Token, backstay_part::Error> {
        self.explain("stage", stage::stage(self, context, recorded, Purpose::Use).await)
    }

    async fn stage_for_proof(&self, context: &Context, recorded: &Recorded) -> Result<Token, backstay_part::Error> {
        self.explain("stage", stage::stage(self, context, recorded, Purpose::Proof).await)
    }

    async fn take_warm(&self, context: &Context, recorded: &Recorded) -> Result<Option<Token>, backstay_part::Error> {
        self.explain("take up the warm copy of", stage::warm::take(self, context, recorded).await)
    }

    async fn keep_warm(
        &self,
        context: &Context,
        recorded: &Recorded,
        staged: &Token,
    ) -> Result<(), backstay_part::Error> {
        self.explain("keep a warm copy of", stage::warm::keep(self, context, recorded, staged).await)
    }

    async fn warm(&self, _context: &Context) -> Result<Vec<WarmCopy>, backstay_part::Error> {
        self.explain("look for warm copies of", stage::warm::list(self).await)
    }

    async fn cool(&self, _context: &Context, kept: &[String]) -> Result<Vec<String>, backstay_part::Error> {
        self.explain("drop the warm copies of", stage::warm::cool(self, kept).await)
    }

    async fn stage_kept(&self, context: &Context, activated: &Token) -> Result<Token, backstay_part::Error> {
        self.explain("stage", stage::stage_kept(self, context, activated).await)
    }

    async fn prove(
        &self,
        context: &Context,
        recorded: &Recorded,
        staged: &Token,
    ) -> Result<Proof, backstay_part::Error> {
        self.explain("prove", prove::prove(self, context, recorded, staged).await)
    }

    async fn activate(&self, context: &Context, staged: &Token) -> Result<Token, backstay_part::Error> {
        self.explain("activate", swap::activate(self, context, staged).await)
    }

    async fn revert(&self, context: &Context, staged: &Token) -> Result<(), backstay_part::Error> {
        self.explain("revert", swap::revert(self, context, staged).await)
    }

    async fn standing(&self, context: &Context, staged: &Token) -> Result<Standing, backstay_part::Error> {
        self.explain("look at", swap::standing(self, context, staged).await)
    }

    async fn compare<'a>(
        &'a self,
        context: &'a Context,
        activated: &Token,
    ) -> Result<Option<Comparison<'a>>, backstay_part::Error> {
        let both = self.explain("compare", loss::Both::open(self, context, activated).await)?;
        let compared = |both: loss::Both| async { self.explain("compare", both.compare(self, context).await) };
        Ok(both.map(|both| Box::pin(compared(both)) as Comparison<'a>))
    }

    async fn capture_kept(
        &self,
        context: &Context,
        activated: &Token,
        writer: &SnapshotWriter,
    ) -> Result<Option<Captured>, backstay_part::Error> {
        self.explain("capture what was kept of", settle::capture_kept(self, context, activated, writer).await)
    }

    async fn settle(&self, context: &Context, activated: &Token) -> Result<(), backstay_part::Error> {
        self.explain("settle", settle::settle(self, context, activated).await)
    }

    async fn abandon(
        &self,
        context: &Context,
        run: &RunId,
        _staged: Option<&Token>,
    ) -> Result<(), backstay_part::Error> {
        self.explain("abandon what was staged of", stage::abandon(self, context, run, Written::Stays).await)
    }

    async fn left(&self, _context: &Context, run: &RunId) -> Result<Vec<String>, backstay_part::Error> {
        self.explain("look for copies of", stage::left(self, run).await)
    }

    async fn discard(&self, context: &Context, run: &RunId) -> Result<(), backstay_part::Error> {
        self.explain("discard what was left of", stage::abandon(self, context, run, Written::Goes).await)
    }
}
