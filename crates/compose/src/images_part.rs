mod available;
mod capture;
mod live;
mod plan;
mod stage;
mod switch;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;
use backstay_model::{Finding, PartKind, PartName, PartPlan, RunId, Severity};
use backstay_part::{Captured, Comparison, Part, Proof, Recorded, Standing, Token};
use backstay_repository::SnapshotWriter;
use backstay_run::Context;
use bollard::auth::DockerCredentials;

pub use available::Availability;

use crate::pins::PinsFolder;
use crate::{Engine, Error, Keep, Project, anchors, keep};

/// The images of one Compose project.
#[derive(Clone)]
pub struct ImagesPart {
    name: PartName,
    project: Project,
    keep: Keep,
    credentials: BTreeMap<String, DockerCredentials>,
}

impl ImagesPart {
    pub fn new(name: PartName, project: Project, keep: Keep) -> Self {
        Self { name, project, keep, credentials: BTreeMap::new() }
    }

    /// A user and a password for one registry, `registry.example.org:5000`.
    #[must_use]
    pub fn with_credentials(mut self, registry: &str, user: String, password: String) -> Self {
        let credentials = DockerCredentials {
            username: Some(user),
            password: Some(password),
            serveraddress: Some(registry.to_owned()),
            ..DockerCredentials::default()
        };
        self.credentials.insert(registry.to_owned(), credentials);
        self
    }

    /// Lets go of the tags and anchors of a snapshot that was pruned, on this engine. Returns how
    /// many tags there were.
    pub async fn release(&self, kept_for: &str) -> Result<usize, Error> {
        keep::release(self.engine(), self.project.name(), kept_for).await
    }

    /// The names of everything that is anchored on this engine: snapshots' ids, and what runs keep.
    pub async fn kept(&self) -> Result<BTreeSet<String>, Error> {
        Ok(anchors::kept_for(self.engine(), self.project.name()).await?.into_iter().collect())
    }

    fn engine(&self) -> &Engine {
        self.project.engine()
    }

    fn pins(context: &Context) -> PinsFolder {
        PinsFolder(Project::state(context))
    }

    fn credentials_for(&self, reference: &str) -> Option<DockerCredentials> {
        let registry = reference.split_once('/').map_or("docker.io", |(registry, _)| registry);
        self.credentials.get(registry).cloned()
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(Error) -> backstay_part::Error + '_ {
        move |error| error.in_part(&self.name, action)
    }

    async fn look_around(&self) -> Result<Vec<Finding>, Error> {
        let engine = self.engine();
        let text = format!("Docker {} at {}", engine.version(), engine.settings().host);
        let mut findings = vec![Finding::new(Severity::Good, "engine", text)];
        let live = live::live(&self.project).await?;
        for (service, live) in &live {
            let Some(id) = live.image() else { continue };
            if live.running > 0 && engine.image(id).await?.is_none() {
                let text = format!("the image that {service} runs is no longer on this machine");
                let hint = format!("recreate it: docker compose up -d --force-recreate {service}");
                findings.push(Finding::new(Severity::NotReady, service.clone(), text).with_hint(hint));
            }
        }
        if live.values().all(|live| live.running == 0) {
            let text = format!("no container of project {} runs", self.project.name());
            findings.push(Finding::new(Severity::Warning, self.project.name(), text));
        }
        for difference in self.project.drift().await? {
            let hint = "what runs is not what the files say: deploy it, or put the files back";
            findings.push(Finding::new(Severity::Warning, "drift", difference).with_hint(hint));
        }
        Ok(findings)
    }

    async fn image_ids(&self) -> Result<BTreeMap<String, BTreeSet<String>>, Error> {
        let live = live::live(&self.project).await?;
        Ok(live
            .into_iter()
            .filter(|(_, live)| live.running > 0)
            .map(|(service, live)| (service, live.images))
            .collect())
    }
}

impl fmt::Debug for ImagesPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImagesPart").field("name", &self.name).field("keep", &self.keep).finish_non_exhaustive()
    }
}

#[async_trait]
impl Part for ImagesPart {
    fn name(&self) -> &PartName {
        &self.name
    }

    fn kind(&self) -> PartKind {
        PartKind::Images
    }

    async fn preflight(&self, _context: &Context) -> Result<Vec<Finding>, backstay_part::Error> {
        self.look_around().await.map_err(self.failed("look at"))
    }

    async fn look(&self, _context: &Context) -> Result<Option<serde_json::Value>, backstay_part::Error> {
        let ids = self.image_ids().await.map_err(self.failed("look at"))?;
        serde_json::to_value(ids).map(Some).map_err(Error::Token).map_err(self.failed("look at"))
    }

    async fn capture(&self, context: &Context, writer: &SnapshotWriter) -> Result<Captured, backstay_part::Error> {
        let mut captured = capture::capture(self, context, writer).await.map_err(self.failed("capture"))?;
        captured.not_covered.extend(capture::uncovered(self, &self.name).await.map_err(self.failed("capture"))?);
        Ok(captured)
    }

    async fn plan(&self, _context: &Context, recorded: &Recorded) -> Result<PartPlan, backstay_part::Error> {
        plan::plan(self, recorded).await.map_err(self.failed("plan"))
    }

    async fn stage(&self, context: &Context, recorded: &Recorded) -> Result<Token, backstay_part::Error> {
        stage::stage(self, context, recorded).await.map_err(self.failed("stage"))
    }

    async fn stage_kept(&self, context: &Context, activated: &Token) -> Result<Token, backstay_part::Error> {
        stage::stage_kept(self, context, activated).await.map_err(self.failed("stage"))
    }

    async fn prove(&self, _: &Context, recorded: &Recorded, staged: &Token) -> Result<Proof, backstay_part::Error> {
        stage::prove(self, recorded, staged).await.map_err(self.failed("prove"))
    }

    async fn activate(&self, context: &Context, staged: &Token) -> Result<Token, backstay_part::Error> {
        switch::activate(self, context, staged).await.map_err(self.failed("activate"))
    }

    async fn revert(&self, context: &Context, staged: &Token) -> Result<(), backstay_part::Error> {
        switch::revert(self, context, staged).await.map_err(self.failed("revert"))
    }

    async fn standing(&self, context: &Context, staged: &Token) -> Result<Standing, backstay_part::Error> {
        switch::standing(self, context, staged).await.map_err(self.failed("look at"))
    }

    async fn compare<'a>(
        &'a self,
        _context: &'a Context,
        _activated: &Token,
    ) -> Result<Option<Comparison<'a>>, backstay_part::Error> {
        Ok(None)
    }

    async fn capture_kept(
        &self,
        context: &Context,
        activated: &Token,
        writer: &SnapshotWriter,
    ) -> Result<Option<Captured>, backstay_part::Error> {
        switch::capture_kept(self, context, activated, writer).await.map_err(self.failed("capture"))
    }

    async fn settle(&self, context: &Context, activated: &Token) -> Result<(), backstay_part::Error> {
        switch::settle(self, context, activated).await.map_err(self.failed("settle"))
    }

    async fn abandon(&self, context: &Context, run: &RunId, _: Option<&Token>) -> Result<(), backstay_part::Error> {
        switch::abandon(self, context, run).await.map_err(self.failed("abandon"))
    }
}
