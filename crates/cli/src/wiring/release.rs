use std::sync::Arc;

use backstay_compose::ImagesPart;
use backstay_model::RunId;
use backstay_part::{Part, Site, Workload};
use backstay_postgres::ServerPart;
use backstay_repository::{Lease, LeasePurpose, Repository};
use backstay_run::{Context, Journals};

use super::databases::Scratch;
use super::parts::{Assembled, assemble};
use super::{Containers, Project};
use crate::report::Failure;
use crate::surroundings::Surroundings;

/// The whole release as this process reaches it: what every command that changes something works on.
pub struct Release {
    pub project: Project,
    pub context: Context,
    pub repository: Repository,
    pub journals: Journals,
    pub parts: Vec<Arc<dyn Part>>,
    pub workload: Arc<dyn Workload>,
    /// What belongs to the release and no part covers, in words for a person.
    pub not_covered: Vec<String>,
    pub containers: Containers,
    /// The parts of databases again, for what only they can do.
    pub databases: Vec<ServerPart>,
    /// The images part again, for what only it can do.
    pub images: Option<ImagesPart>,
    /// The run this command was started by, and a lease to work under beside it.
    joined: Option<(Lease, RunId)>,
}

impl Release {
    /// Opens the repository, reaches the databases and the engine, and changes nothing.
    pub async fn open(surroundings: &Surroundings) -> Result<Self, Failure> {
        Self::open_with(surroundings, Scratch::Beside).await
    }

    /// The same, to prove and never to switch: copies may be built on the scratch server.
    pub async fn open_to_prove(surroundings: &Surroundings) -> Result<Self, Failure> {
        Self::open_with(surroundings, Scratch::Allowed).await
    }

    async fn open_with(surroundings: &Surroundings, scratch: Scratch) -> Result<Self, Failure> {
        let project = Project::find(surroundings)?;
        let context = project.context();
        let (repository, assembled) = tokio::join!(project.repository(), assemble(&project, scratch));
        let repository = repository?;
        let Assembled { parts, workload, not_covered, containers, databases, images } = assembled?;
        let joined = join(&project, &context, &repository).await?;
        let journals = Journals::at(&project.state);
        Ok(Self {
            project,
            context,
            repository,
            journals,
            parts,
            workload,
            not_covered,
            containers,
            databases,
            images,
            joined,
        })
    }

    pub fn site(&self) -> Site<'_> {
        Site {
            context: &self.context,
            repository: &self.repository,
            journals: &self.journals,
            parts: &self.parts,
            workload: self.workload.as_ref(),
            lent: self.joined.as_ref().map(|(lease, run)| (lease, run)),
            lease_wait: self.project.settings.repository.lease_wait.duration(),
        }
    }
}

/// `guard` tells the commands that its deploy runs which run they belong to. They work under a shared
/// lease of their own, because the exclusive one is guard's.
async fn join(
    project: &Project,
    context: &Context,
    repository: &Repository,
) -> Result<Option<(Lease, RunId)>, Failure> {
    let Some(run) = Surroundings::variable("BACKSTAY_RUN") else { return Ok(None) };
    let run: RunId = run.parse().map_err(|error| Failure::usage(format!("BACKSTAY_RUN: {error}")))?;
    let wait = project.settings.repository.lease_wait.duration();
    let lease = repository.lease(LeasePurpose::Write, &context.run, wait, context.listener.as_ref()).await?;
    Ok(Some((lease, run)))
}
