use std::sync::Arc;

use async_trait::async_trait;
use backstay_health::{Baseline, Probe, Rule, watch};
use backstay_part::{Condition, Error, Token, Workload};
use backstay_run::Context;

use super::hooks::Hooks;
use super::probes::configured;
use super::{Containers, Project};
use crate::report::Failure;

/// A workload as the settings want it: the user's hooks run around it, and it is healthy when it says so
/// itself and every configured probe agrees.
pub struct Probed {
    workload: Arc<dyn Workload>,
    probes: Vec<Probe>,
    rule: Rule,
    hooks: Hooks,
}

impl Probed {
    pub async fn new(workload: Arc<dyn Workload>, project: &Project, containers: &Containers) -> Result<Self, Failure> {
        let (probes, rule) = configured(project, containers).await?;
        Ok(Self { workload, probes, rule, hooks: Hooks::of(project) })
    }
}

#[async_trait]
impl Workload for Probed {
    fn describe(&self) -> String {
        self.workload.describe()
    }

    async fn running(&self, context: &Context) -> Result<Vec<String>, Error> {
        self.workload.running(context).await
    }

    async fn observe(&self, context: &Context) -> Result<Token, Error> {
        self.workload.observe(context).await
    }

    async fn observe_besides(&self, context: &Context, before: &Token) -> Result<Token, Error> {
        self.workload.observe_besides(context, before).await
    }

    async fn stop(&self, context: &Context, observed: &Token) -> Result<(), Error> {
        self.hooks.before_fence(context).await?;
        self.workload.stop(context, observed).await
    }

    async fn start(&self, context: &Context, observed: &Token) -> Result<(), Error> {
        self.workload.start(context, observed).await?;
        self.hooks.after_start(context).await
    }

    async fn probe(&self, context: &Context) -> Result<Condition, Error> {
        if self.probes.is_empty() {
            return self.workload.probe(context).await;
        }
        // Both at once; what the workload says of itself comes first where it is bad.
        let looked = async {
            match self.workload.probe(context).await {
                Ok(Condition::Healthy) => Ok(()),
                other => Err(other),
            }
        };
        // Patient: what was just started may need a while. A request to stop is heeded later.
        let (nothing_before, calm) = (Baseline::new(), backstay_run::Interrupt::default());
        let verdict = watch(&self.probes, &self.rule, &nothing_before, true, &context.clock, &calm);
        match tokio::try_join!(looked, async { Ok(verdict.await) }) {
            Ok(((), verdict)) => Ok(verdict.condition),
            Err(other) => other,
        }
    }
}
