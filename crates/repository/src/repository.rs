use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backstay_model::{Clock, Environment, ObjectId, Root};
use bytes::Bytes;
use futures_util::join;
use zeroize::Zeroizing;

use crate::description::{self, Cipher, Description};
use crate::lease::Lease;
use crate::names;
use crate::patient::{CallLimits, PatientStore};
use crate::seal::{Keys, Kind};
use crate::session::{Began, Session};
use crate::task::compute;
use crate::{
    Creation, Error, Flaw, LeaseTerms, Put, Secret, SnapshotWriter, Store, StoreError, StreamReader, chunk, key,
};

/// An opened repository. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    inner: Arc<Inner>,
    terms: LeaseTerms,
}

struct Inner {
    store: Arc<dyn Store>,
    options: Options,
    description: Description,
    master: Zeroizing<[u8; 32]>,
    keys: Arc<Keys>,
    /// Bundles that snapshots in the making still fill.
    open_bundles: Mutex<HashMap<ObjectId, Vec<u8>>>,
    /// The bundle read last: small streams that lie side by side are read one after the other.
    last_bundle: Mutex<Option<(ObjectId, Bytes)>>,
}

/// How a repository is opened.
#[derive(Clone)]
pub struct Options {
    /// Where lists may be kept between runs. It may be deleted at any time.
    pub cache: Option<PathBuf>,
    pub clock: Arc<dyn Clock>,
    /// This machine's name, for leases and verdicts.
    pub host: String,
}

impl Repository {
    /// Makes a repository in an empty store. With [`Secret::None`] it is not sealed: chunks and
    /// metadata lie in clear.
    pub async fn create(store: Arc<dyn Store>, secret: &Secret, options: Options) -> Result<Self, Error> {
        let location = store.location();
        let store: Arc<dyn Store> = Arc::new(PatientStore::new(store, CallLimits::default()));
        match description::find(&*store).await {
            Ok(Some((_, Some(flaw)))) => return Err(Error::damaged(names::DESCRIPTION, flaw, None)),
            Ok(None) => ensure_no_snapshots(&*store).await?,
            Err(error @ Error::Store { .. }) => return Err(error),
            // Whatever it is, something is there.
            Ok(Some((_, None))) | Err(_) => return Err(Error::AlreadyARepository { location }),
        }
        let cipher = if matches!(secret, Secret::None) { Cipher::None } else { Cipher::XChaCha20Poly1305 };
        let creates_once = store.probe().await.map_err(Error::store(names::DESCRIPTION))? == Creation::Holds;
        let description = Description::new(cipher, creates_once, options.clock.now());
        let mut own_key = None;
        if description.is_sealed() {
            let master = Zeroizing::new(rand::random::<[u8; 32]>());
            own_key = Some(key::add(&*store, &description, &master, secret, &*options.clock, &options.host).await?);
        }
        // Last, because it is what makes a folder a repository.
        let put = store.put(names::DESCRIPTION, description.write()?.into(), Put::Create).await;
        if let (Err(StoreError::AlreadyThere { .. }), Some(id)) = (&put, &own_key) {
            key::forget(&*store, id).await?;
        }
        match put {
            Err(StoreError::AlreadyThere { .. }) => return Err(Error::AlreadyARepository { location }),
            put => put.map_err(Error::store(names::DESCRIPTION))?,
        }
        description::mend(&*store, &description).await?;
        store.barrier().await.map_err(Error::store(names::DESCRIPTION))?;
        let made = Self::open_patiently(store, secret, options).await?;
        key::forget_foreign(made.store(), made.description()).await?;
        Ok(made)
    }

    pub async fn open(store: Arc<dyn Store>, secret: &Secret, options: Options) -> Result<Self, Error> {
        Self::open_patiently(Arc::new(PatientStore::new(store, CallLimits::default())), secret, options).await
    }

    async fn open_patiently(store: Arc<dyn Store>, secret: &Secret, options: Options) -> Result<Self, Error> {
        let location = store.location();
        let (found, key_paths) = join!(description::find(&*store), key::paths(&*store));
        let Some((description, _)) = found? else {
            ensure_no_snapshots(&*store).await?;
            return Err(Error::NotARepository { location });
        };
        let master = match (description.is_sealed(), secret) {
            (true, Secret::None) => return Err(Error::KeyMissing { location }),
            (true, secret) => match key::master(&*store, key_paths?, &description, secret).await {
                Err(Error::WrongKey { .. }) if description::copies_differ(&*store, &description).await => {
                    return Err(Error::damaged(names::DESCRIPTION, Flaw::Identity, None));
                }
                master => master?,
            },
            (false, Secret::None) => Keys::open_master(&description.id),
            // Whoever can write the store must not talk us into storing in clear.
            (false, _) => return Err(Error::NotSealed { location }),
        };
        let keys = Arc::new(Keys::of_master(&master, description.is_sealed()));
        let (open_bundles, last_bundle) = (Mutex::default(), Mutex::default());
        let inner = Inner { store, options, description, master, keys, open_bundles, last_bundle };
        Ok(Self { inner: Arc::new(inner), terms: LeaseTerms::default() })
    }

    /// The same repository with other terms for leases: everybody who shares it needs the same.
    #[must_use]
    pub fn with_lease_terms(mut self, terms: LeaseTerms) -> Self {
        self.terms = terms;
        self
    }

    pub(crate) fn terms(&self) -> LeaseTerms {
        self.terms
    }

    /// Where it lies, for people.
    pub fn location(&self) -> String {
        self.inner.store.location()
    }

    /// Whether what it stores is sealed.
    pub fn is_sealed(&self) -> bool {
        self.inner.description.is_sealed()
    }

    /// Whether the store, when the repository was made, was found to create nothing twice. Where not,
    /// leases alone protect.
    pub fn creates_once(&self) -> bool {
        self.inner.description.creates_once
    }

    /// What the store does now with a second creation. Writes to it, and removes what it wrote.
    pub async fn probe(&self) -> Result<Creation, Error> {
        self.store().probe().await.map_err(Error::store("what tries the store"))
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.inner.store
    }

    pub(crate) fn description(&self) -> &Description {
        &self.inner.description
    }

    pub(crate) fn master(&self) -> &Zeroizing<[u8; 32]> {
        &self.inner.master
    }

    pub(crate) fn keys(&self) -> &Arc<Keys> {
        &self.inner.keys
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.inner.options.clock
    }

    pub(crate) fn options(&self) -> &Options {
        &self.inner.options
    }

    /// Begins a snapshot under a lease for writing or changing and reserves its id.
    pub async fn begin(&self, lease: &Lease, environment: &Environment) -> Result<SnapshotWriter, Error> {
        if !lease.purpose().may_write() {
            return Err(Error::LeaseTooNarrow { purpose: lease.purpose().describe(), action: "take a snapshot" });
        }
        let began = Began { at: self.clock().now(), elapsed: self.clock().elapsed() };
        let standing = lease.standing();
        // None of them waits for another; and none is left half-way where another fails.
        let (id, mended, doomed, present) = join!(
            self.reserve(&standing, environment),
            description::mend(self.store(), self.description()),
            self.doomed(),
            self.present(environment),
        );
        mended?;
        let session = Session::new(self, environment, id?, standing, (present?, doomed?), began);
        Ok(SnapshotWriter::new(Arc::new(session)))
    }

    pub fn read(&self, root: &Root) -> StreamReader {
        StreamReader::new(self, root)
    }

    /// A whole stream at once, refused where it is longer than `limit`.
    pub async fn read_whole(&self, root: &Root, limit: u64) -> Result<Vec<u8>, Error> {
        if root.bytes > limit {
            return Err(Error::TooLong { bytes: root.bytes, limit });
        }
        let mut whole = Vec::new();
        let mut reader = self.read(root);
        while let Some(piece) = reader.next().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }

    /// The plaintext of an object, verified.
    pub(crate) async fn object(&self, id: &ObjectId, kind: Kind) -> Result<Bytes, Error> {
        let key = names::object(id);
        let stored = match self.store().get(&key).await {
            Err(StoreError::NotThere { .. }) => return Err(Error::damaged(key, Flaw::Missing, Some(*id))),
            stored => stored.map_err(Error::store(&key))?,
        };
        let (keys, id) = (Arc::clone(self.keys()), *id);
        let opened = compute(move || keys.open_object(&id, kind, &stored)).await?;
        opened.map(Bytes::from).map_err(|flaw| Error::damaged(key, flaw, Some(id)))
    }

    /// The chunks a list object names.
    pub(crate) async fn list_object(&self, id: &ObjectId) -> Result<Vec<(ObjectId, u32)>, Error> {
        let list = self.object(id, Kind::List).await?;
        chunk::entries(&list).map_err(|flaw| Error::damaged(names::object(id), flaw, Some(*id)))
    }

    /// A bundle, which may still be open in this process.
    pub(crate) async fn bundle(&self, id: &ObjectId) -> Result<Bytes, Error> {
        if let Some(open) = self.open_bundle(id) {
            return Ok(open.into());
        }
        if let Some((last, bytes)) = &*self.last_bundle()
            && last == id
        {
            return Ok(bytes.clone());
        }
        let bytes = self.object(id, Kind::Bundle).await?;
        *self.last_bundle() = Some((*id, bytes.clone()));
        Ok(bytes)
    }

    fn last_bundle(&self) -> MutexGuard<'_, Option<(ObjectId, Bytes)>> {
        self.inner.last_bundle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_bundles(&self) -> MutexGuard<'_, HashMap<ObjectId, Vec<u8>>> {
        self.inner.open_bundles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns where the bytes begin and how long the bundle is with them.
    pub(crate) fn append_to_bundle(&self, id: &ObjectId, bytes: &[u8]) -> (u64, usize) {
        let mut bundles = self.open_bundles();
        let bundle = bundles.entry(*id).or_default();
        let offset = bundle.len() as u64;
        bundle.extend_from_slice(bytes);
        (offset, bundle.len())
    }

    pub(crate) fn open_bundle(&self, id: &ObjectId) -> Option<Vec<u8>> {
        self.open_bundles().get(id).cloned()
    }

    pub(crate) fn forget_bundle(&self, id: &ObjectId) {
        self.open_bundles().remove(id);
    }
}

/// Snapshots without a description are a repository that lost it. To make another one there would make
/// them unreadable for good.
async fn ensure_no_snapshots(store: &dyn Store) -> Result<(), Error> {
    match store.list(names::MANIFESTS).await {
        Ok(listed) if listed.is_empty() => Ok(()),
        Ok(_) => Err(Error::damaged(names::DESCRIPTION, Flaw::Missing, None)),
        // There is not even a folder.
        Err(StoreError::NotThere { .. }) => Ok(()),
        Err(source) => Err(Error::Store { subject: names::MANIFESTS.to_owned(), source }),
    }
}
