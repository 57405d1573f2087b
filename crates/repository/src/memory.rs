use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Listed, Put, Store, StoreError};

/// A store in memory. Clones share what they hold, as processes share a folder.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    held: Arc<Mutex<BTreeMap<String, Bytes>>>,
}

impl MemoryStore {
    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every key, in order.
    pub fn keys(&self) -> Vec<String> {
        self.held().keys().cloned().collect()
    }

    /// Takes what `key` holds and leaves what `change` makes of it; nothing to remove it.
    pub fn tamper(&self, key: &str, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) {
        let mut held = self.held();
        let bytes = held.remove(key).unwrap_or_default().to_vec();
        if let Some(bytes) = change(bytes) {
            held.insert(key.to_owned(), bytes.into());
        }
    }

    /// A store of its own with the same content.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { held: Arc::new(Mutex::new(self.held().clone())) }
    }

    /// The sum of all that is held.
    pub fn bytes(&self) -> u64 {
        self.held().values().map(|bytes| bytes.len() as u64).sum()
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.held().get(key).cloned().ok_or_else(|| StoreError::NotThere { key: key.to_owned() })
    }

    async fn put(&self, key: &str, bytes: Bytes, put: Put) -> Result<(), StoreError> {
        let mut held = self.held();
        if put == Put::Create && held.contains_key(key) {
            return Err(StoreError::AlreadyThere { key: key.to_owned() });
        }
        held.insert(key.to_owned(), bytes);
        Ok(())
    }

    async fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        let prefix = format!("{folder}/");
        let held = self.held();
        let within = held.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        Ok(within.map(|(key, bytes)| Listed { key: key.clone(), bytes: bytes.len() as u64 }).collect())
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.held().remove(key);
        Ok(())
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
