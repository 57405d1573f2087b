use std::sync::Arc;

use backstay_config::{BucketEncryption, RepositoryPlace, Unlock};
use backstay_repository::{FolderStore, Secret, Store};

use super::Project;
use crate::report::Failure;

/// The store that the settings name. Nothing is read or made yet.
pub async fn open_store(place: &RepositoryPlace) -> Result<Arc<dyn Store>, Failure> {
    match place {
        RepositoryPlace::Folder(path) => Ok(Arc::new(FolderStore::new(path))),
        RepositoryPlace::S3 { bucket, prefix, endpoint, region, path_style, encryption } => {
            let place = backstay_s3::Place {
                bucket: bucket.clone(),
                prefix: prefix.clone(),
                endpoint: endpoint.clone(),
                region: region.clone(),
                path_style: *path_style,
                encryption: encryption.as_ref().map(|encryption| match encryption {
                    BucketEncryption::Aes256 => backstay_s3::Encryption::Aes256,
                    BucketEncryption::Kms { key } => backstay_s3::Encryption::Kms { key: key.clone() },
                }),
            };
            Ok(Arc::new(backstay_s3::S3Store::connect(place).await))
        }
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
