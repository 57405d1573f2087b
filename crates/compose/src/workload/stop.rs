use std::time::Duration;

use backstay_run::Context;

use super::{ComposeWorkload, Observed};
use crate::engine::failed;
use crate::error::is_absent;
use crate::{Container, Error};

const GRACE_DEFAULT: i64 = 10;
/// What the engine may take beyond a container's own grace.
const REQUEST_SLACK: Duration = Duration::from_secs(60);

/// Stops dependents before what they depend on, each with its own grace.
pub(super) async fn stop(workload: &ComposeWorkload, context: &Context, observed: &Observed) -> Result<(), Error> {
    let mut writers = workload.writers().await?;
    let mut graph: std::collections::BTreeMap<String, Vec<String>> =
        observed.services.iter().map(|(name, service)| (name.clone(), service.depends_on.clone())).collect();
    for writer in &writers {
        // What began since it was observed writes as well.
        let depends_on = writer.depends_on.iter().map(|one| one.service.clone());
        graph.entry(writer.service.clone()).or_insert_with(|| depends_on.collect());
    }
    let order = super::order::dependencies_first(&graph);
    for service in order.iter().rev() {
        if context.interrupt.is_requested() {
            return Err(Error::Interrupted);
        }
        let (now, later): (Vec<_>, Vec<_>) = writers.into_iter().partition(|one| one.service == *service);
        writers = later;
        let stopped = now.iter().map(|container| stop_one(workload, container));
        futures_util::future::try_join_all(stopped).await?;
        // What does its work once is not started again, and so it does not count as what runs.
        let is_one_shot = observed.services.get(service).is_some_and(|one| one.one_shot);
        now.iter().filter(|_| !is_one_shot).for_each(|container| workload.project.made_quiet(container));
    }
    let mut left: Vec<String> = workload.writers().await?.into_iter().map(|one| one.service).collect();
    left.dedup();
    if left.is_empty() { Ok(()) } else { Err(Error::StillRunning { services: left }) }
}

pub(super) async fn stop_one(workload: &ComposeWorkload, container: &Container) -> Result<(), Error> {
    let grace = container.grace.unwrap_or(GRACE_DEFAULT);
    let limit = Duration::from_secs(grace.max(0).unsigned_abs()) + REQUEST_SLACK;
    let docker = workload.project.engine().docker.clone().with_timeout(limit);
    // Without a time of ours the engine takes the container's own.
    let options = None::<bollard::query_parameters::StopContainerOptions>;
    match docker.stop_container(&container.id, options).await {
        Err(error) if !is_absent(&error) => Err(failed("stop", &container.name)(error)),
        _ => Ok(()),
    }
}
