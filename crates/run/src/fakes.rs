//! For tests: a wire that trips at the n-th effect, and journals and stores that are strung to it.
//!
//! An effect is whatever outlives the process. Each calls [`Tripwire::point`] before it happens and
//! again after, so that a test which kills the run at every point tries both "it never happened" and
//! "it happened and nobody heard". The list of points makes itself.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use backstay_model::RunId;
use backstay_repository::{Listed, Put, Store, StoreError};
use bytes::Bytes;
use tokio::sync::watch;

use crate::journal::Page;

/// What happens at the point the wire was laid at.
pub enum Trip {
    /// The process is dead: nothing it calls ever returns again.
    Die,
    /// This call fails, and the next one like it works.
    Fail,
    /// This call and all that come after fail: the engine, the server or the disk is gone.
    Gone,
    /// Something happens meanwhile.
    Meanwhile(Box<dyn FnOnce() + Send>),
}

/// Counts the effects of one process. Cheap to clone.
#[derive(Clone)]
pub struct Tripwire {
    inner: Arc<Inner>,
}

struct Inner {
    wire: Mutex<Wire>,
    dead: watch::Sender<bool>,
}

#[derive(Default)]
struct Wire {
    points: Vec<String>,
    laid: Option<(usize, Trip)>,
    dead: bool,
    gone: Option<&'static str>,
}

/// The error of a call that was told to fail.
#[derive(Debug, thiserror::Error)]
#[error("told to fail at `{0}`")]
pub struct Tripped(pub String);

impl Default for Tripwire {
    fn default() -> Self {
        let wire = Mutex::new(Wire::default());
        Self { inner: Arc::new(Inner { wire, dead: watch::Sender::new(false) }) }
    }
}

impl Tripwire {
    /// A wire that trips at the point of this number, counted from zero.
    pub fn at(point: usize, trip: Trip) -> Self {
        let wire = Self::default();
        wire.wire().laid = Some((point, trip));
        wire
    }

    /// The names of the points passed so far.
    pub fn points(&self) -> Vec<String> {
        self.wire().points.clone()
    }

    pub fn is_dead(&self) -> bool {
        self.wire().dead
    }

    /// Returns once the process is dead.
    pub async fn died(&self) {
        let mut receiver = self.inner.dead.subscribe();
        let _ = receiver.wait_for(|dead| *dead).await;
    }

    /// Passes one point. `kind` is what is gone when it is: `store`, `journal`, `part`, `workload`.
    pub async fn point(&self, kind: &'static str, name: impl Into<String>) -> Result<(), Tripped> {
        let name = format!("{kind}: {}", name.into());
        match self.pass(kind, &name) {
            Passed::On => Ok(()),
            Passed::Fails => Err(Tripped(name)),
            Passed::Dead => std::future::pending().await,
        }
    }

    fn pass(&self, kind: &'static str, name: &str) -> Passed {
        let mut wire = self.wire();
        if wire.dead {
            return Passed::Dead;
        }
        let number = wire.points.len();
        wire.points.push(name.to_owned());
        if wire.gone == Some(kind) {
            return Passed::Fails;
        }
        if wire.laid.as_ref().is_none_or(|(at, _)| *at != number) {
            return Passed::On;
        }
        match wire.laid.take() {
            Some((_, Trip::Die)) => {
                wire.dead = true;
                self.inner.dead.send_replace(true);
                Passed::Dead
            }
            Some((_, Trip::Fail)) => Passed::Fails,
            Some((_, Trip::Gone)) => {
                wire.gone = Some(kind);
                Passed::Fails
            }
            Some((_, Trip::Meanwhile(happens))) => {
                drop(wire);
                happens();
                Passed::On
            }
            None => Passed::On,
        }
    }

    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.inner.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Passed {
    On,
    Fails,
    Dead,
}

/// What a journal holds, and the page to write on where nobody else holds it.
type OpenedPage = (Vec<u8>, Option<Box<dyn Page>>);
type Pages = Arc<Mutex<BTreeMap<RunId, MemoryPage>>>;

#[derive(Clone, Default)]
struct MemoryPage {
    bytes: Vec<u8>,
    holder: Weak<()>,
}

/// The journals of one host, in memory. Each process of the host has its own clone, with its own wire.
#[derive(Clone, Default)]
pub struct MemoryShelf {
    pages: Pages,
    wire: Tripwire,
}

impl MemoryShelf {
    /// The same journals, seen by another process.
    #[must_use]
    pub fn strung_to(&self, wire: &Tripwire) -> Self {
        Self { pages: self.pages.clone(), wire: wire.clone() }
    }

    /// A host of its own with the same journals.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { pages: Arc::new(Mutex::new(lock(&self.pages).clone())), wire: Tripwire::default() }
    }

    pub(crate) async fn create(&self, run: &RunId) -> io::Result<Box<dyn Page>> {
        self.wire.point("journal", "create").await.map_err(io::Error::other)?;
        let page = {
            let mut pages = lock(&self.pages);
            if pages.contains_key(run) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            pages.insert(run.clone(), MemoryPage::default());
            self.hold(&mut pages, run)
        };
        self.wire.point("journal", "created").await.map_err(io::Error::other)?;
        page.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(crate) fn open(&self, run: &RunId) -> io::Result<OpenedPage> {
        let mut pages = lock(&self.pages);
        let page = pages.get_mut(run).ok_or(io::ErrorKind::NotFound)?;
        if page.holder.strong_count() > 0 {
            return Ok((page.bytes.clone(), None));
        }
        if let Ok(decoded) = crate::line::decode(&page.bytes) {
            page.bytes.truncate(decoded.whole);
        }
        let bytes = page.bytes.clone();
        Ok((bytes, self.hold(&mut pages, run)))
    }

    pub(crate) fn read(&self, run: &RunId) -> io::Result<(Vec<u8>, bool)> {
        let pages = lock(&self.pages);
        let page = pages.get(run).ok_or(io::ErrorKind::NotFound)?;
        Ok((page.bytes.clone(), page.holder.strong_count() > 0))
    }

    pub(crate) fn list(&self) -> Vec<RunId> {
        lock(&self.pages).keys().cloned().collect()
    }

    fn hold(&self, pages: &mut BTreeMap<RunId, MemoryPage>, run: &RunId) -> Option<Box<dyn Page>> {
        let holder = Arc::new(());
        pages.get_mut(run)?.holder = Arc::downgrade(&holder);
        Some(Box::new(HeldPage { shelf: self.clone(), run: run.clone(), _holder: holder }))
    }
}

struct HeldPage {
    shelf: MemoryShelf,
    run: RunId,
    _holder: Arc<()>,
}

impl HeldPage {
    fn write(&self, bytes: &[u8]) {
        if let Some(page) = lock(&self.shelf.pages).get_mut(&self.run) {
            page.bytes.extend_from_slice(bytes);
        }
    }
}

#[async_trait]
impl Page for HeldPage {
    async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let name = std::str::from_utf8(bytes).ok().and_then(step_of).unwrap_or("a line").to_owned();
        let wire = self.shelf.wire.clone();
        wire.point("journal", format!("before {name}")).await.map_err(io::Error::other)?;
        let (torn, rest) = bytes.split_at(bytes.len() / 2);
        self.write(torn);
        wire.point("journal", format!("half of {name}")).await.map_err(io::Error::other)?;
        self.write(rest);
        wire.point("journal", format!("after {name}")).await.map_err(io::Error::other)
    }
}

fn step_of(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("\"step\":\"")?;
    rest.split_once('"').map(|(step, _)| step)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A store as one process reaches it.
#[derive(Debug)]
pub struct StrungStore {
    store: Arc<dyn Store>,
    wire: Tripwire,
    awake: AtomicBool,
}

impl std::fmt::Debug for Tripwire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tripwire after {} points", self.wire().points.len())
    }
}

impl StrungStore {
    /// Until it is woken nothing counts, so that a repository can be opened in peace.
    pub fn new(store: Arc<dyn Store>, wire: &Tripwire) -> Self {
        Self { store, wire: wire.clone(), awake: AtomicBool::new(false) }
    }

    pub fn wake(&self) {
        self.awake.store(true, Ordering::SeqCst);
    }

    async fn point(&self, action: &'static str, when: &str, key: &str) -> Result<(), StoreError> {
        if !self.awake.load(Ordering::SeqCst) {
            return Ok(());
        }
        // Ids differ from run to run; the folder is what a person wants to read.
        let folder = key.split('/').next().unwrap_or(key);
        let point = self.wire.point("store", format!("{when} {action} {folder}")).await;
        point.map_err(|source| StoreError::Failed { action, key: key.to_owned(), source: Box::new(source) })
    }
}

#[async_trait]
impl Store for StrungStore {
    fn location(&self) -> String {
        self.store.location()
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.point("get", "before", key).await?;
        self.store.get(key).await
    }

    async fn put(&self, key: &str, bytes: Bytes, put: Put) -> Result<(), StoreError> {
        self.point("put", "before", key).await?;
        self.store.put(key, bytes, put).await?;
        self.point("put", "after", key).await
    }

    async fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError> {
        self.point("list", "before", folder).await?;
        self.store.list(folder).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.point("remove", "before", key).await?;
        self.store.remove(key).await?;
        self.point("remove", "after", key).await
    }

    async fn barrier(&self) -> Result<(), StoreError> {
        self.point("barrier", "before", "").await?;
        self.store.barrier().await
    }
}
