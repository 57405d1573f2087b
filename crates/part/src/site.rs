use std::sync::Arc;
use std::time::Duration;

use backstay_model::{PartName, RunId};
use backstay_repository::{Lease, Repository};
use backstay_run::{Context, Journals};

use crate::{Part, Workload};

/// One environment of a project as this process reaches it: its parts, what runs on them, and where
/// its snapshots and its journals lie.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    pub context: &'a Context,
    pub repository: &'a Repository,
    pub journals: &'a Journals,
    /// In the order of activation; they are reverted the other way round.
    pub parts: &'a [Arc<dyn Part>],
    pub workload: &'a dyn Workload,
    /// The lease that the caller holds already, and the caller's run. Without one a lease is taken.
    pub lent: Option<(&'a Lease, &'a RunId)>,
    /// How long to wait for somebody else's lease.
    pub lease_wait: Duration,
}

impl<'a> Site<'a> {
    pub fn part(&self, name: &PartName) -> Option<&'a Arc<dyn Part>> {
        self.parts.iter().find(|part| part.name() == name)
    }

    /// The same site, in the name of another run.
    #[must_use]
    pub fn within(&self, context: &'a Context) -> Self {
        Self { context, ..*self }
    }
}
