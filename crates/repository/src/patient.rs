use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Creation, Listed, Put, Store, StoreError};

/// How long calls of a store may take before they count as hanging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// For what reads or removes one key.
    pub short: Duration,
    /// For what may have to wait for much: writing, which may lead to a barrier, and listing.
    pub long: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        Self { short: minutes(5), long: minutes(30) }
    }
}

/// A store whose calls end: one that takes too long is an error that names it. What the call was
/// about to do may still happen.
#[derive(Debug)]
pub(crate) struct PatientStore {
    inner: Arc<dyn Store>,
    limits: CallLimits,
}

impl PatientStore {
    pub(crate) fn new(inner: Arc<dyn Store>, limits: CallLimits) -> Self {
        Self { inner, limits }
    }
}

async fn within<T>(
    limit: Duration,
    action: &'static str,
    key: &str,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let ended = tokio::time::timeout(limit, call).await;
    ended.unwrap_or_else(|_| Err(StoreError::NoAnswer { action, key: key.to_owned(), limit }))
}

#[async_trait]
impl Store for PatientStore {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        within(self.limits.short, "read", key, self.inner.get(key)).await
    }

    async fn put(&self, key: &str, bytes: Bytes, put: Put) -> Result<(), StoreError> {
        within(self.limits.long, "write", key, self.inner.put(key, bytes, put)).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        within(self.limits.long, "list", folder, self.inner.list(folder)).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        within(self.limits.short, "remove", key, self.inner.remove(key)).await
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        within(self.limits.long, "make durable", "what was written", self.inner.barrier()).await
    }

    async fn probe(&self) -> Result<Creation, StoreError> {
        within(self.limits.long, "try", "the store", self.inner.probe()).await
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        within(self.limits.long, "sweep", "the store", self.inner.sweep()).await
    }
}
