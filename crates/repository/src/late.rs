use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Creation, Listed, Put, Store, StoreError};

/// A store whose listings show a new key only some calls after it was put; reading it by name works at
/// once. Clones share what is held back, as processes share a bucket.
#[derive(Debug, Clone)]
pub struct LateStore {
    inner: Arc<dyn Store>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    random: u64,
    lateness_max: u64,
    calls: u64,
    /// The call from which on a listing shows the key.
    shown_from: HashMap<String, u64>,
}

impl LateStore {
    /// Each new key is held back for up to `lateness_max` calls of anybody, as the seed says.
    pub fn new(inner: Arc<dyn Store>, seed: u64, lateness_max: u64) -> Self {
        let state = State { random: seed | 1, lateness_max, calls: 0, shown_from: HashMap::new() };
        Self { inner, state: Arc::new(Mutex::new(state)) }
    }

    /// Lets listings show all there is.
    pub fn settle(&self) {
        self.state().shown_from.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.calls += 1;
        state
    }
}

#[async_trait]
impl Store for LateStore {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        drop(self.state());
        self.inner.get(key).await
    }

    async fn put(&self, key: &str, bytes: Bytes, put: Put) -> Result<(), StoreError> {
        let is_new = matches!(self.inner.get(key).await, Err(StoreError::NotThere { .. }));
        self.inner.put(key, bytes, put).await?;
        if is_new {
            let mut state = self.state();
            state.random ^= state.random << 13;
            state.random ^= state.random >> 7;
            state.random ^= state.random << 17;
            let shown = state.calls + (state.random >> 20) % state.lateness_max.max(1);
            state.shown_from.insert(key.to_owned(), shown);
        }
        Ok(())
    }

    async fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        let mut listed = self.inner.list(folder).await?;
        let state = self.state();
        listed.retain(|listed| state.shown_from.get(&listed.key).is_none_or(|shown| *shown <= state.calls));
        Ok(listed)
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        drop(self.state());
        self.inner.remove(key).await
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        self.inner.barrier().await
    }

    async fn probe(&self) -> Result<Creation, StoreError> {
        self.inner.probe().await
    }
}
