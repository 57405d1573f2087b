//! Every step of a part and of a workload is done twice, and nobody can tell.

use std::sync::Arc;

use async_trait::async_trait;
use backstay_model::{Finding, Outcome, PartKind, PartName, PartPlan, RunId};
use backstay_part::{Captured, Comparison, Condition, Error, Part, Proof, Recorded, Site, Standing, Token, Workload};
use backstay_repository::SnapshotWriter;
use backstay_run::Context;

use crate::ground::{Ground, Host, restore};
use crate::{Choices, settle, undo};

struct Twice(Arc<dyn Part>);

#[async_trait]
impl Part for Twice {
    fn name(&self) -> &PartName {
        self.0.name()
    }

    fn kind(&self) -> PartKind {
        self.0.kind()
    }

    async fn preflight(&self, context: &Context) -> Result<Vec<Finding>, Error> {
        self.0.preflight(context).await
    }

    async fn capture(&self, context: &Context, writer: &SnapshotWriter) -> Result<Captured, Error> {
        self.0.capture(context, writer).await?;
        self.0.capture(context, writer).await
    }

    async fn plan(&self, context: &Context, recorded: &Recorded) -> Result<PartPlan, Error> {
        self.0.plan(context, recorded).await
    }

    async fn stage(&self, context: &Context, recorded: &Recorded) -> Result<Token, Error> {
        self.0.stage(context, recorded).await?;
        self.0.stage(context, recorded).await
    }

    async fn stage_kept(&self, context: &Context, activated: &Token) -> Result<Token, Error> {
        self.0.stage_kept(context, activated).await?;
        self.0.stage_kept(context, activated).await
    }

    async fn prove(&self, context: &Context, recorded: &Recorded, staged: &Token) -> Result<Proof, Error> {
        self.0.prove(context, recorded, staged).await?;
        self.0.prove(context, recorded, staged).await
    }

    async fn activate(&self, context: &Context, staged: &Token) -> Result<Token, Error> {
        let once = self.0.activate(context, staged).await?;
        let twice = self.0.activate(context, staged).await?;
        assert_eq!(once, twice);
        Ok(twice)
    }

    async fn revert(&self, context: &Context, staged: &Token) -> Result<(), Error> {
        self.0.revert(context, staged).await?;
        self.0.revert(context, staged).await
    }

    async fn standing(&self, context: &Context, staged: &Token) -> Result<Standing, Error> {
        self.0.standing(context, staged).await
    }

    async fn compare<'a>(&'a self, context: &'a Context, activated: &Token) -> Result<Option<Comparison<'a>>, Error> {
        self.0.compare(context, activated).await
    }

    async fn capture_kept(
        &self,
        context: &Context,
        activated: &Token,
        writer: &SnapshotWriter,
    ) -> Result<Option<Captured>, Error> {
        self.0.capture_kept(context, activated, writer).await
    }

    async fn settle(&self, context: &Context, activated: &Token) -> Result<(), Error> {
        self.0.settle(context, activated).await?;
        self.0.settle(context, activated).await
    }

    async fn abandon(&self, context: &Context, run: &RunId, staged: Option<&Token>) -> Result<(), Error> {
        self.0.abandon(context, run, staged).await?;
        self.0.abandon(context, run, None).await
    }

    async fn left(&self, context: &Context, run: &RunId) -> Result<Vec<String>, Error> {
        self.0.left(context, run).await
    }

    async fn discard(&self, context: &Context, run: &RunId) -> Result<(), Error> {
        self.0.discard(context, run).await?;
        self.0.discard(context, run).await
    }
}

struct WorksTwice<'a>(&'a dyn Workload);

#[async_trait]
impl Workload for WorksTwice<'_> {
    fn describe(&self) -> String {
        self.0.describe()
    }

    async fn running(&self, context: &Context) -> Result<Vec<String>, Error> {
        self.0.running(context).await
    }

    async fn observe(&self, context: &Context) -> Result<Token, Error> {
        self.0.observe(context).await
    }

    async fn observe_besides(&self, context: &Context, before: &Token) -> Result<Token, Error> {
        self.0.observe_besides(context, before).await
    }

    async fn stop(&self, context: &Context, observed: &Token) -> Result<(), Error> {
        self.0.stop(context, observed).await?;
        self.0.stop(context, observed).await
    }

    async fn start(&self, context: &Context, observed: &Token) -> Result<(), Error> {
        self.0.start(context, observed).await?;
        self.0.start(context, observed).await
    }

    async fn probe(&self, context: &Context) -> Result<Condition, Error> {
        self.0.probe(context).await
    }
}

async fn doubly<T>(site: &Site<'_>, act: impl AsyncFnOnce(&Site<'_>) -> T) -> T {
    let parts: Vec<Arc<dyn Part>> =
        site.parts.iter().map(|part| Arc::new(Twice(part.clone())) as Arc<dyn Part>).collect();
    let workload = WorksTwice(site.workload);
    act(&Site { parts: &parts, workload: &workload, ..*site }).await
}

#[tokio::test]
async fn each_step_repeated_after_success_is_harmless() {
    let (then, now) = (["rows of then", "image 1", "config 1"], ["rows of today", "image 2", "config 2"]);
    let ground = Ground::with_release(then, now).await;
    let once = ground.fork();
    let undo = async |site: &Site<'_>| undo(site, None, &Choices::default()).await.unwrap().outcome;
    let settle = async |site: &Site<'_>| settle(site, None, false).await.map(drop).unwrap();
    let restored = async |site: &Site<'_>| restore(site).await.unwrap().outcome;
    assert_eq!(once.calmly(Host::One, restored).await, Outcome::Done);
    assert_eq!(ground.calmly(Host::One, async |site: &Site<'_>| doubly(site, restored).await).await, Outcome::Done);
    assert_eq!(ground.look(), once.look());
    assert_eq!(once.calmly(Host::One, undo).await, Outcome::Done);
    assert_eq!(ground.calmly(Host::One, async |site: &Site<'_>| doubly(site, undo).await).await, Outcome::Done);
    assert_eq!(ground.look(), once.look());
    once.calmly(Host::One, settle).await;
    ground.calmly(Host::One, async |site: &Site<'_>| doubly(site, settle).await).await;
    assert_eq!(ground.look(), once.look());
    let sick = Ground::with_release(["rows of then", "sick", "config 1"], now).await;
    let outcome = sick.calmly(Host::One, async |site: &Site<'_>| doubly(site, restored).await).await;
    assert_eq!((outcome, sick.look().live["images"].as_str()), (Outcome::TakenBack, "image 2"));
}
