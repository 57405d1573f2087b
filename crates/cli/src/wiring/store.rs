use std::sync::Arc;

use backstay_config::{RepositoryPlace, Unlock};
use backstay_repository::{FolderStore, Secret, Store};

use super::Project;
use crate::exit::Exit;
use crate::report::Failure;

/// The store that the settings name. Nothing is read or made yet.
pub async fn open_store(place: &RepositoryPlace) -> Result<Arc<dyn Store>, Failure> {
    match place {
        RepositoryPlace::Folder(path) => Ok(Arc::new(FolderStore::new(path))),
        RepositoryPlace::S3 { .. } => Err(Failure::new(Exit::Environment, "S3 is not there yet")),
    }
}

/// What opens the repository, read from where the settings say.
pub fn secret(project: &Project) -> Result<Secret, Failure> {
    let surroundings = project.references();
    match &project.settings.repository.unlock {
        Unlock::Key(reference) => Ok(Secret::KeyFile(reference.resolve_bytes("repository.key", surroundings.get())?)),
        Unlock::Passphrase(reference) => {
            Ok(Secret::Passphrase(reference.resolve("repository.passphrase", surroundings.get())?))
        }
        Unlock::Nothing => Ok(Secret::None),
    }
}
