use crate::arguments::{Pin, Unpin};
use crate::chosen;
use crate::report::{Failure, Report};
use crate::surroundings::Surroundings;
use crate::wiring::Project;

pub async fn pin(surroundings: &Surroundings, arguments: Pin) -> Result<Report, Failure> {
    let project = Project::find(surroundings)?;
    let repository = project.repository().await?;
    let id = chosen::entry(&project, &repository, &arguments.id).await?.manifest.id;
    repository.pin(&project.settings.environment, &id, &arguments.why).await?;
    Ok(Report::changed(format!("Snapshot {id} is pinned: prune keeps it.")).of_snapshot(&id))
}

pub async fn unpin(surroundings: &Surroundings, arguments: Unpin) -> Result<Report, Failure> {
    let project = Project::find(surroundings)?;
    let repository = project.repository().await?;
    let id = chosen::entry(&project, &repository, &arguments.id).await?.manifest.id;
    repository.unpin(&project.settings.environment, &id).await?;
    Ok(Report::changed(format!("Snapshot {id} is not pinned any more: the retention policy decides.")).of_snapshot(&id))
}
