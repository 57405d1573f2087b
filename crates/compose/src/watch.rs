use std::collections::BTreeMap;
use std::time::Duration;

use backstay_run::Context;

use crate::{Container, Error, Look, Project, Rule, Settled};

const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// Watches the project's containers that `wanted` picks until all are ready, one has failed, or the
/// time is up.
pub(crate) async fn watch(
    project: &Project,
    context: &Context,
    rule: &Rule,
    limit: Duration,
    wanted: impl Fn(&Container) -> bool,
) -> Result<BTreeMap<String, Settled>, Error> {
    let began = context.clock.elapsed();
    let mut looks: BTreeMap<String, Vec<Look>> = BTreeMap::new();
    loop {
        let at = context.clock.elapsed();
        for container in project.containers().await?.iter().filter(|container| wanted(container)) {
            looks.entry(container.name.clone()).or_default().push(look(container, at));
        }
        let judged = rule.judge_all(&looks);
        let failed = judged.values().any(|settled| matches!(settled, Settled::Failed(_)));
        let ready = judged.values().all(|settled| *settled == Settled::Ready);
        if failed || ready || at.saturating_sub(began) >= limit {
            return Ok(judged);
        }
        tokio::select! {
            () = tokio::time::sleep(BETWEEN_LOOKS) => {}
            () = context.interrupt.requested() => return Err(Error::Interrupted),
        }
    }
}

fn look(container: &Container, at: Duration) -> Look {
    Look {
        at,
        state: container.state,
        started_at: container.started_at.clone(),
        restarts: container.restarts,
        exit_code: container.exit_code,
        health: container.health,
        restarted_by_engine: container.restarted_by_engine,
    }
}
