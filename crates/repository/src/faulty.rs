use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Creation, Listed, Put, Store, StoreError};

/// What goes wrong at one call of a [`FaultyStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The call fails and did nothing, as after a 503.
    Fails,
    /// The call never returns.
    Hangs,
    /// A write reached the store cut in half, and failed.
    Tears,
    /// The call was done twice; a second creation finds the first.
    Repeats,
    /// A write succeeded and its reply was lost.
    LosesReply,
    /// A creation is refused although nothing is there, as a 412 after a lost reply.
    Refuses,
    /// No space was left.
    Full,
    /// A listing does not show what was put last.
    ListsLate,
    /// From this call on nothing reaches the store: the process died. What was put since the last
    /// barrier may or may not be there.
    Crashes,
}

/// A store that goes wrong where it is told to, or where a seed says.
#[derive(Debug, Clone)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    calls: u64,
    planned: BTreeMap<u64, Fault>,
    random: Option<Random>,
    crashed: bool,
    /// Put since the last barrier, in order; a crash keeps any of them.
    unsure: Vec<(String, Bytes)>,
    keeps_order: bool,
    last_put: Option<String>,
    /// Each call as `put objects/…`, for tests that ask what was done.
    log: Vec<String>,
}

#[derive(Debug)]
struct Random {
    state: u64,
    one_in: u64,
    faults: Vec<Fault>,
}

impl FaultyStore {
    pub fn new(inner: Arc<dyn Store>) -> Self {
        let state = State {
            calls: 0,
            planned: BTreeMap::new(),
            random: None,
            crashed: false,
            unsure: Vec::new(),
            keeps_order: true,
            last_put: None,
            log: Vec::new(),
        };
        Self { inner, state: Arc::new(Mutex::new(state)) }
    }

    /// Lets call number `call`, counted from zero, go wrong.
    #[must_use]
    pub fn with(self, call: u64, fault: Fault) -> Self {
        self.state().planned.insert(call, fault);
        self
    }

    /// Lets about one call in `one_in` go wrong, the same ones for the same seed and order of calls.
    #[must_use]
    pub fn seeded(self, seed: u64, one_in: u64, faults: &[Fault]) -> Self {
        self.state().random = Some(Random { state: seed | 1, one_in: one_in.max(1), faults: faults.to_vec() });
        self
    }

    /// Holds writes back until the barrier; a crash leaves every second of them.
    #[must_use]
    pub fn reordering(self) -> Self {
        self.state().keeps_order = false;
        self
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    pub fn log(&self) -> Vec<String> {
        self.state().log.clone()
    }

    pub fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next(&self, action: &'static str, key: &str) -> Result<Option<Fault>, StoreError> {
        let fault = {
            let mut state = self.state();
            let call = state.calls;
            state.calls += 1;
            state.log.push(format!("{action} {key}"));
            if state.crashed { Some(Fault::Crashes) } else { state.fault(call) }
        };
        match fault {
            Some(Fault::Crashes) => {
                self.crash().await?;
                Err(failed(action, key, "the process died"))
            }
            Some(Fault::Fails) => Err(failed(action, key, "503 slow down")),
            Some(Fault::Hangs) => std::future::pending().await,
            fault => Ok(fault),
        }
    }

    async fn crash(&self) -> Result<(), StoreError> {
        let unsure = {
            let mut state = self.state();
            state.crashed = true;
            std::mem::take(&mut state.unsure)
        };
        for (key, bytes) in unsure.into_iter().step_by(2) {
            self.inner.put(&key, bytes, Put::Replace).await?;
        }
        self.inner.barrier().await
    }

    async fn write(&self, key: &str, bytes: Bytes, put: Put) -> Result<(), StoreError> {
        let held_back = {
            let mut state = self.state();
            state.last_put = Some(key.to_owned());
            let held_back = !state.keeps_order && put == Put::Replace;
            if held_back {
                state.unsure.retain(|(held, _)| held != key);
                state.unsure.push((key.to_owned(), bytes.clone()));
            }
            held_back
        };
        if held_back { Ok(()) } else { self.inner.put(key, bytes, put).await }
    }
}

impl State {
    fn fault(&mut self, call: u64) -> Option<Fault> {
        if let Some(fault) = self.planned.get(&call) {
            return Some(*fault);
        }
        let random = self.random.as_mut()?;
        random.state ^= random.state << 13;
        random.state ^= random.state >> 7;
        random.state ^= random.state << 17;
        let choice = (random.state >> 32) as usize % random.faults.len().max(1);
        random.state.is_multiple_of(random.one_in).then(|| random.faults.get(choice).copied()).flatten()
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.next("get", key).await?;
        let waiting = self.state().unsure.iter().rev().find(|(held, _)| held == key).map(|(_, bytes)| bytes.clone());
        match waiting {
            Some(bytes) => Ok(bytes),
            None => self.inner.get(key).await,
        }
    }

    async fn put(&self, key: &str, bytes: Bytes, put: Put) -> Result<(), StoreError> {
        match self.next("put", key).await? {
            Some(Fault::Full) => Err(StoreError::Full { key: key.to_owned() }),
            Some(Fault::Refuses) if put == Put::Create => Err(StoreError::AlreadyThere { key: key.to_owned() }),
            Some(Fault::Tears) => {
                let half = bytes.slice(..bytes.len() / 2);
                self.inner.put(key, half, put).await?;
                Err(failed("put", key, "the connection was cut"))
            }
            Some(Fault::Repeats) => {
                self.write(key, bytes.clone(), put).await?;
                self.write(key, bytes, put).await
            }
            Some(Fault::LosesReply) => {
                self.write(key, bytes, put).await?;
                Err(failed("put", key, "the reply was lost"))
            }
            _ => self.write(key, bytes, put).await,
        }
    }

    async fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        let fault = self.next("list", folder).await?;
        let mut listed = self.inner.list(folder).await?;
        if fault == Some(Fault::ListsLate) {
            let last = self.state().last_put.clone();
            listed.retain(|listed| Some(&listed.key) != last.as_ref());
        }
        Ok(listed)
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.next("remove", key).await?;
        self.state().unsure.retain(|(held, _)| held != key);
        self.inner.remove(key).await
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        self.next("barrier", "").await?;
        let unsure = std::mem::take(&mut self.state().unsure);
        for (key, bytes) in unsure.into_iter().rev() {
            self.inner.put(&key, bytes, Put::Replace).await?;
        }
        self.inner.barrier().await
    }

    async fn probe(&self) -> Result<Creation, StoreError> {
        self.inner.probe().await
    }
}

fn failed(action: &'static str, key: &str, why: &str) -> StoreError {
    StoreError::Failed { action, key: key.to_owned(), source: why.into() }
}
