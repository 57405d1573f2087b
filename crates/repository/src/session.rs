use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backstay_model::{Environment, Manifest, ObjectId, Place, Root, SnapshotId};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::claim::Sightings;
use crate::lease::Standing;
use crate::names;
use crate::present::Present;
use crate::reach::{Reach, Small, Stored};
use crate::seal::{BUNDLE_SALT, Keys, Kind};
use crate::task::compute;
use crate::writer::StreamWriter;
use crate::{Error, Put, Repository, StoreError};

/// Chunks of one snapshot in memory at once, over all its streams.
const CHUNKS_IN_FLIGHT: usize = 6;
/// A bundle is stored when it is this long.
const BUNDLE_BYTES: usize = 1 << 20;
/// What prune condemned may be gone a day later; half of that is margin for a slow commit.
const RUN_HOURS_MAX: u64 = 12;
const RESERVATIONS_MAX: usize = 50;

/// What the streams of one snapshot share while it is made.
pub(crate) struct Session {
    repository: Repository,
    environment: Environment,
    pub(crate) id: SnapshotId,
    lease: Standing,
    began: Began,
    slots: Arc<Semaphore>,
    stored: AtomicU64,
    present: Mutex<Present>,
    /// What was condemned when this began.
    doomed: HashSet<ObjectId>,
    written: Mutex<HashSet<ObjectId>>,
    bundle: tokio::sync::Mutex<Option<ObjectId>>,
}

/// When the run began, by both clocks: one may be set, the other stops while the machine sleeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Began {
    pub(crate) at: chrono::DateTime<chrono::Utc>,
    pub(crate) elapsed: std::time::Duration,
}

impl Session {
    pub(crate) fn new(
        repository: &Repository,
        environment: &Environment,
        id: SnapshotId,
        lease: Standing,
        (present, doomed): (Present, HashSet<ObjectId>),
        began: Began,
    ) -> Self {
        Self {
            repository: repository.clone(),
            environment: environment.clone(),
            id,
            lease,
            began,
            slots: Arc::new(Semaphore::new(CHUNKS_IN_FLIGHT)),
            stored: AtomicU64::new(0),
            present: Mutex::new(present),
            doomed,
            written: Mutex::default(),
            bundle: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn keys(&self) -> &Arc<Keys> {
        self.repository.keys()
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.repository.is_sealed()
    }

    pub(crate) fn bytes_stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    pub(crate) async fn slot(&self) -> Result<OwnedSemaphorePermit, Error> {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        slot.map_err(|_| Error::Stopped { action: "writing a stream" })
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> MutexGuard<'_, HashSet<ObjectId>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, id: &ObjectId) -> bool {
        self.written().contains(id) || self.present().objects.contains(id)
    }

    /// Stores an object unless it is there already.
    pub(crate) async fn keep(self: &Arc<Self>, kind: Kind, plaintext: Bytes) -> Result<ObjectId, Error> {
        let session = Arc::clone(self);
        let (id, sealed) = compute(move || {
            let keys = session.keys();
            let id = keys.id(kind, &plaintext);
            let sealed = (!session.has(&id)).then(|| keys.seal_object(&id, &plaintext));
            (id, sealed)
        })
        .await?;
        if let Some(sealed) = sealed {
            self.put(&id, sealed).await?;
        }
        Ok(id)
    }

    async fn put(&self, id: &ObjectId, sealed: Vec<u8>) -> Result<(), Error> {
        let bytes = sealed.len() as u64;
        let key = names::object(id);
        self.repository.store().put(&key, sealed.into(), Put::Replace).await.map_err(Error::store(key))?;
        self.written().insert(*id);
        self.stored.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Puts a small stream beside others.
    pub(crate) async fn share(self: &Arc<Self>, digest: ObjectId, bytes: &[u8]) -> Result<Place, Error> {
        let mut open = self.bundle.lock().await;
        if let Some(small) = self.present().small.get(&digest).copied() {
            return Ok(Place::Shared { chunk: small.bundle, offset: small.offset });
        }
        let bundle = match *open {
            Some(bundle) => bundle,
            None => *open.insert(self.new_bundle()),
        };
        let (offset, length) = self.repository.append_to_bundle(&bundle, bytes);
        let small = Small { bundle, offset, bytes: bytes.len() as u64 };
        self.present().small.insert(digest, small);
        if length >= BUNDLE_BYTES {
            self.close_bundle(&mut open).await?;
        }
        Ok(Place::Shared { chunk: bundle, offset })
    }

    fn new_bundle(&self) -> ObjectId {
        let salt: [u8; BUNDLE_SALT] = rand::random();
        let id = self.keys().id(Kind::Bundle, &salt);
        self.repository.append_to_bundle(&id, &salt);
        id
    }

    async fn close_bundle(self: &Arc<Self>, open: &mut Option<ObjectId>) -> Result<(), Error> {
        let Some(id) = *open else { return Ok(()) };
        let plaintext = self.repository.open_bundle(&id).unwrap_or_default();
        let keys = Arc::clone(self.keys());
        let sealed = compute(move || keys.seal_object(&id, &plaintext)).await?;
        self.put(&id, sealed).await?;
        *open = None;
        self.repository.forget_bundle(&id);
        Ok(())
    }

    pub(crate) async fn commit(self: &Arc<Self>, mut manifest: Manifest) -> Result<Manifest, Error> {
        if manifest.id != self.id || manifest.environment != self.environment {
            let found = format!("{}/{}", manifest.environment, manifest.id);
            return Err(Error::OtherManifest { found, wanted: format!("{}/{}", self.environment, self.id) });
        }
        self.close_bundle(&mut *self.bundle.lock().await).await?;
        let reach = self.reach(&manifest).await?;
        let root = self.store_reach(&reach).await?;
        self.barrier().await?;
        let written = self.written().clone();
        let wary = self.repository.ensure_to_be_had(&reach, &written, &self.doomed).await?;
        self.may_commit().await?;
        manifest.committed_at = self.repository.clock().now();
        let stored = Stored { manifest, reach: root };
        self.repository.put_manifest(&stored).await?;
        // Whoever slept through the whole of the above must not leave a manifest without its objects.
        if let Err(error) = self.may_commit().await {
            self.repository.take_back_if_incomplete(&stored, &reach).await?;
            return Err(error);
        }
        if let Err(error) = self.repository.ensure_there(wary).await {
            self.repository.take_back(&stored).await?;
            return Err(error);
        }
        Ok(stored.manifest)
    }

    async fn barrier(&self) -> Result<(), Error> {
        self.repository.store().barrier().await.map_err(Error::store("the objects of the snapshot"))
    }

    async fn may_commit(&self) -> Result<(), Error> {
        self.lease.ensure().await?;
        let clock = self.repository.clock();
        let by_wall = clock.now().signed_duration_since(self.began.at).to_std().unwrap_or_default();
        let hours = by_wall.max(clock.elapsed().saturating_sub(self.began.elapsed)).as_secs() / 3600;
        if hours >= RUN_HOURS_MAX { Err(Error::RunTooOld { hours }) } else { Ok(()) }
    }

    async fn reach(&self, manifest: &Manifest) -> Result<Reach, Error> {
        let mut reach = Reach::default();
        for part in &manifest.parts {
            let contents = self.repository.contents(part).await?;
            for root in contents.values().chain([&part.contents, &part.facts]) {
                self.repository.add_reach(root, &mut reach).await?;
            }
        }
        Ok(reach)
    }

    async fn store_reach(self: &Arc<Self>, reach: &Reach) -> Result<Root, Error> {
        let mut stream = StreamWriter::new(self, false);
        stream.push(reach.encode().into()).await?;
        stream.finish().await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(id) = *self.bundle.get_mut() {
            self.repository.forget_bundle(&id);
        }
    }
}

impl Repository {
    async fn put_manifest(&self, stored: &Stored) -> Result<(), Error> {
        let (environment, id) = (&stored.manifest.environment, &stored.manifest.id);
        let key = names::manifest(environment, id);
        let json = serde_json::to_vec(stored).map_err(|source| Error::Encode { subject: key.clone(), source })?;
        let sealed = Bytes::from(self.keys().seal_record(&key, &json));
        let taken = || Error::SnapshotTaken { environment: environment.clone(), id: id.clone() };
        // Some stores write over what is there although asked not to.
        if self.record_bytes(&key).await?.is_some() {
            return Err(taken());
        }
        let put = self.store().put(&key, sealed.clone(), Put::Create).await;
        if put.is_ok() {
            self.store().barrier().await.map_err(Error::store(&key))?;
        }
        // The reply to a write that succeeded may have been lost: what is there decides.
        match (put, self.record_bytes(&key).await) {
            (_, Ok(Some(found))) if found == sealed => Ok(()),
            (Ok(()) | Err(StoreError::AlreadyThere { .. }), Ok(_)) => Err(taken()),
            (Err(source), _) => Err(Error::Store { subject: key, source }),
            (Ok(()), Err(error)) => Err(error),
        }
    }
}

impl Repository {
    /// An id greater than every snapshot's of the environment, committed or in the making.
    pub(crate) async fn reserve(&self, lease: &Standing, environment: &Environment) -> Result<SnapshotId, Error> {
        let mut keys = self.keys_in(&names::manifests_of(environment)).await?;
        // A moment reads like a number, so the greatest name is the newest.
        keys.sort_unstable();
        let newest = keys.iter().rev().find_map(|key| names::snapshot_of(key)).map(|(_, id)| id);
        let mut taken: Vec<SnapshotId> = newest.into_iter().collect();
        taken.extend(self.reserved_by_others(lease, environment).await?);
        for collisions in 0..RESERVATIONS_MAX {
            let now = SnapshotId::at(self.clock().now());
            let next = taken.iter().max().map(SnapshotId::successor).filter(|next| *next > now);
            let mut id = next.unwrap_or(now);
            // Whoever collided steps aside by chance, or two would collide again.
            for _ in 0..rand::random_range(0..=collisions.min(3)) {
                id = id.successor();
            }
            lease.reserve(environment, &id).await?;
            let others = self.reserved_by_others(lease, environment).await?;
            if !others.contains(&id) {
                return Ok(id);
            }
            taken.extend(others);
            taken.push(id);
        }
        Err(Error::Stopped { action: "reserving an id" })
    }

    async fn reserved_by_others(&self, lease: &Standing, environment: &Environment) -> Result<Vec<SnapshotId>, Error> {
        let found = self.claims(&mut Sightings::new(), lease.key()).await?;
        let reserved = found.into_iter().filter_map(|found| found.claim).flat_map(|claim| claim.reserved);
        Ok(reserved.filter(|(of, _)| of == environment).map(|(_, id)| id).collect())
    }
}
