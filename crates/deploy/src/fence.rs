use async_trait::async_trait;
use backstay_part::{Condition, Error as PartError, Site, Token, Workload};
use backstay_run::{Context, FENCED, Interrupt, Mark, Run};

use crate::Error;

/// What ran before guard stopped it, for a deploy that is to start it again.
pub(crate) struct Fenced {
    observed: Token,
    services: Vec<String>,
}

/// Stops the writers. Where that goes wrong, what was stopped already runs again.
pub(crate) async fn close(site: &Site<'_>, run: &mut Run) -> Result<Fenced, Error> {
    run.enter(FENCED);
    let services = site.workload.running(site.context).await?;
    let fenced = Fenced { observed: site.workload.observe(site.context).await?, services };
    run.note(FENCED, Mark::Intent, &fenced.observed).await?;
    // Whoever ends this run elsewhere has to know what it stopped.
    run.publish().await?;
    let stopped = site.workload.stop(site.context, &fenced.observed).await;
    if let Err(error) = stopped {
        fenced.open(site).await;
        return Err(error.into());
    }
    run.note(FENCED, Mark::Done, &fenced.services).await?;
    Ok(fenced)
}

impl Fenced {
    /// For a deploy that does not come: what it was stopped for runs again. The error that kept the deploy away is
    /// the one to tell; this one is a warning.
    pub async fn open(&self, site: &Site<'_>) {
        if let Err(error) = self.start_again(site).await {
            let why = backstay_model::with_causes(&error);
            site.context.warn(format!("what was stopped for the deploy does not run again: {why}"));
        }
    }

    /// After a deploy that left everything as it was.
    pub async fn start_again(&self, site: &Site<'_>) -> Result<(), PartError> {
        // Nobody who asked the deploy to stop asked for an outage.
        let calm = Context { interrupt: Interrupt::default(), ..site.context.clone() };
        site.workload.start(&calm, &self.observed).await
    }

    /// After a deploy that stands: it was to start everything itself.
    pub async fn name_what_is_missing(&self, site: &Site<'_>) {
        let Ok(running) = site.workload.running(site.context).await else { return };
        let missing: Vec<&str> =
            self.services.iter().filter(|one| !running.contains(one)).map(String::as_str).collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            site.context.warn(format!("stopped for the deploy and not started by it: {missing}"));
        }
    }
}

/// A workload of which guard has stopped a part: who takes the deploy back starts that too.
pub(crate) struct StoppedBefore<'a> {
    pub workload: &'a dyn Workload,
    pub fenced: &'a Fenced,
}

#[async_trait]
impl Workload for StoppedBefore<'_> {
    fn describe(&self) -> String {
        self.workload.describe()
    }

    async fn running(&self, context: &Context) -> Result<Vec<String>, PartError> {
        self.workload.running(context).await
    }

    async fn observe(&self, context: &Context) -> Result<Token, PartError> {
        self.workload.observe_besides(context, &self.fenced.observed).await
    }

    async fn stop(&self, context: &Context, observed: &Token) -> Result<(), PartError> {
        self.workload.stop(context, observed).await
    }

    async fn start(&self, context: &Context, observed: &Token) -> Result<(), PartError> {
        self.workload.start(context, observed).await
    }

    async fn probe(&self, context: &Context) -> Result<Condition, PartError> {
        self.workload.probe(context).await
    }
}
