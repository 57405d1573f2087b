use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Listed, Put, Store, StoreError};

/// A store in a folder of this machine, or of one it mounts.
#[derive(Debug)]
pub struct FolderStore {
    root: PathBuf,
}

impl FolderStore {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
}

#[async_trait]
impl Store for FolderStore {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    async fn get(&self, _key: &str) -> Result<Bytes, StoreError> {
        todo!()
    }

    async fn put(&self, _key: &str, _bytes: Bytes, _put: Put) -> Result<(), StoreError> {
        todo!()
    }

    async fn list(&self, _folder: &str) -> Result<Vec<Listed>, StoreError> {
        todo!()
    }

    async fn remove(&self, _key: &str) -> Result<(), StoreError> {
        todo!()
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        todo!()
    }
}
