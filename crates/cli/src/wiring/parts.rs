use std::path::PathBuf;
use std::sync::Arc;

use backstay_compose::{ComposeWorkload, ImagesPart, Keep, Rule};
use backstay_config::{ImageKeeping, RepositoryPlace, Runtime, Settings, Unlock};
use backstay_files::{FilesPart, Selection};
use backstay_part::{NoWorkload, Part, Workload};
use backstay_postgres::ServerPart;

use super::databases::{self, Scratch, part_name};
use super::probed::Probed;
use super::{Containers, Project};
use crate::report::Failure;

/// The release as it is reached from here.
pub struct Assembled {
    /// In the order of activation.
    pub parts: Vec<Arc<dyn Part>>,
    pub workload: Arc<dyn Workload>,
    pub not_covered: Vec<String>,
    pub containers: Containers,
    pub databases: Vec<ServerPart>,
    /// Of the Compose project, for prune and doctor.
    pub images: Option<ImagesPart>,
}

/// Every part that the settings name, and what runs on top of them.
pub async fn assemble(project: &Project, scratch: Scratch) -> Result<Assembled, Failure> {
    let settings = &project.settings;
    let containers = Containers::reach(project).await;
    let mut parts: Vec<Arc<dyn Part>> = Vec::new();
    let databases = databases::parts(project, &containers, scratch).await?;
    parts.extend(databases.iter().map(|part| Arc::new(part.clone()) as Arc<dyn Part>));
    let mut not_covered = Vec::new();
    let mut images = None;
    let mut named = Vec::new();
    if let Containers::Reached(compose) = &containers {
        let sources = compose.sources().await?;
        named.extend(sources.files);
        not_covered.extend(
            sources
                .not_there
                .iter()
                .map(|path| format!("{} is named by the Compose project and not there", path.display())),
        );
        not_covered.extend(
            sources.unknown.iter().map(|name| format!("{name} is named by a variable, which only Compose can follow")),
        );
        images = self::images(project, &containers)?;
        parts.extend(images.iter().map(|part| Arc::new(part.clone()) as Arc<dyn Part>));
    }
    if let Containers::OutOfReach(failure) = &containers {
        not_covered.push(format!("images and containers: {}", failure.what.join(": ")));
    }
    if !settings.files.include.is_empty() || !named.is_empty() {
        parts.push(Arc::new(FilesPart::new(part_name("files")?, selection(project, named))));
    }
    let workload = workload(project, &containers)?;
    let workload = Arc::new(Probed::new(workload, project, &containers).await?);
    Ok(Assembled { parts, workload, not_covered, containers, databases, images })
}

/// The images of the Compose project, where they are kept at all.
pub fn images(project: &Project, containers: &Containers) -> Result<Option<ImagesPart>, Failure> {
    match (containers, keep(&project.settings)) {
        (Containers::Reached(compose), Some(keep)) => {
            Ok(Some(ImagesPart::new(part_name("images")?, compose.clone(), keep)))
        }
        _ => Ok(None),
    }
}

fn keep(settings: &Settings) -> Option<Keep> {
    let Runtime::Compose(compose) = &settings.runtime else { return None };
    match compose.images {
        ImageKeeping::Auto => Some(Keep::Auto),
        ImageKeeping::Archive => Some(Keep::Archive),
        ImageKeeping::Registry => Some(Keep::Registry),
        ImageKeeping::None => None,
    }
}

fn workload(project: &Project, containers: &Containers) -> Result<Arc<dyn Workload>, Failure> {
    match (&project.settings.runtime, containers) {
        (Runtime::Compose(settings), Containers::Reached(compose)) => {
            let limit = settings.start_timeout.duration();
            let workload = ComposeWorkload::new(part_name("workload")?, compose.clone());
            Ok(Arc::new(workload.with_rule(Rule::default(), limit)))
        }
        (Runtime::Commands(settings), _) => super::commands::workload(project, settings),
        _ => Ok(Arc::new(NoWorkload)),
    }
}

/// What is recorded, and what never is: keys, the state of this host, a repository in a folder.
fn selection(project: &Project, named: Vec<PathBuf>) -> Selection {
    let settings = &project.settings;
    let mut never = vec![project.state.clone()];
    if let RepositoryPlace::Folder(path) = &settings.repository.place {
        never.push(path.clone());
    }
    if let Unlock::Key(reference) | Unlock::Passphrase(reference) = &settings.repository.unlock {
        never.extend(reference.path(&settings.folder));
    }
    Selection {
        root: settings.folder.clone(),
        include: settings.files.include.clone(),
        exclude: settings.files.exclude.clone(),
        named,
        only_recorded: vec![settings.file.clone()],
        never,
        files_max: settings.files.max_files,
        bytes_max: settings.files.max_bytes.bytes(),
    }
}
