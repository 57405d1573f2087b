use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backstay_model::{Environment, Manifest, ObjectId, Place, Root, SnapshotId};
use bytes::Bytes;
use futures_util::join;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::chunk::CHUNK_MAX;
use crate::claim::Sightings;
use crate::lease::Standing;
use crate::names;
use crate::present::Present;
use crate::reach::{Reach, Small, Stored};
use crate::seal::{BUNDLE_SALT, Keys, Kind};
use crate::task::compute;
use crate::writer::StreamWriter;
use crate::{Error, Put, Repository, StoreError};

/// Bytes of one snapshot's chunks in memory at once, over all its streams: as they were read, then as they are stored.
const BYTES_IN_FLIGHT: usize = 16 << 20;
const _: () = assert!(CHUNK_MAX <= BYTES_IN_FLIGHT);
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
    room: Arc<Semaphore>,
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
            room: Arc::new(Semaphore::new(BYTES_IN_FLIGHT)),
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

    /// Waits until a chunk of so many bytes may be in memory.
    pub(crate) async fn room_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Error> {
        let stopped = || Error::Stopped { action: "writing a stream" };
        let bytes = u32::try_from(bytes).map_err(|_| stopped())?;
        Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| stopped())
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

    /// Stores an object unless it is there already. The `room` it had in memory is given back as far as it is smaller
    /// once it is sealed, and all of it at the end.
    pub(crate) async fn keep(
        self: &Arc<Self>,
        kind: Kind,
        plaintext: Bytes,
        mut room: Option<OwnedSemaphorePermit>,
    ) -> Result<ObjectId, Error> {
        let session = Arc::clone(self);
        let (id, sealed) = compute(move || {
            let keys = session.keys();
            let id = keys.id(kind, &plaintext);
            let sealed = (!session.has(&id)).then(|| keys.seal_object(&id, &plaintext));
            (id, sealed)
        })
        .await?;
        if let Some(sealed) = sealed {
            if let Some(room) = &mut room {
                drop(room.split(room.num_permits().saturating_sub(sealed.len())));
            }
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
        // Here and below, what does not wait for the other is done beside it: a store may be far away.
        let reach = self.reach(&manifest).await?;
        let close = async { self.close_bundle(&mut *self.bundle.lock().await).await };
        let (closed, root, needs) = join!(close, self.store_reach(&reach), self.repository.needs_of(&reach));
        let ((), root, needs) = (closed?, root?, needs?);
        self.barrier().await?;
        let written = self.written().clone();
        let wary = self.repository.ensure_to_be_had(&needs, &written, &self.doomed).await?;
        let (allowed, free) = join!(self.may_commit(), self.repository.ensure_free(&manifest));
        allowed.and(free)?;
        manifest.committed_at = self.repository.clock().now();
        let stored = Stored { manifest, reach: root };
        let sent = self.repository.send_manifest(&stored).await?;
        let (arrived, allowed) = join!(self.repository.ensure_arrived(sent, &stored.manifest), self.may_commit());
        arrived?;
        // Whoever slept through the whole of the above must not leave a manifest without its objects.
        if let Err(error) = allowed {
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

/// A manifest on its way, and what the store said.
struct Sent {
    key: String,
    sealed: Bytes,
    reply: Result<(), StoreError>,
}

impl Repository {
    /// Some stores write over what is there although asked not to.
    async fn ensure_free(&self, manifest: &Manifest) -> Result<(), Error> {
        match self.record_bytes(&names::manifest(&manifest.environment, &manifest.id)).await? {
            Some(_) => Err(already_there(manifest)),
            None => Ok(()),
        }
    }

    async fn send_manifest(&self, stored: &Stored) -> Result<Sent, Error> {
        let key = names::manifest(&stored.manifest.environment, &stored.manifest.id);
        let json = serde_json::to_vec(stored).map_err(|source| Error::Encode { subject: key.clone(), source })?;
        let sealed = Bytes::from(self.keys().seal_record(&key, &json));
        let reply = self.store().put(&key, sealed.clone(), Put::Create).await;
        if reply.is_ok() {
            self.store().barrier().await.map_err(Error::store(&key))?;
        }
        Ok(Sent { key, sealed, reply })
    }

    /// The reply to a write that succeeded may have been lost: what is there decides.
    async fn ensure_arrived(&self, sent: Sent, manifest: &Manifest) -> Result<(), Error> {
        match (sent.reply, self.record_bytes(&sent.key).await) {
            (_, Ok(Some(found))) if found == sent.sealed => Ok(()),
            (Ok(()) | Err(StoreError::AlreadyThere { .. }), Ok(_)) => Err(already_there(manifest)),
            (Err(source), _) => Err(Error::Store { subject: sent.key, source }),
            (Ok(()), Err(error)) => Err(error),
        }
    }
}

fn already_there(manifest: &Manifest) -> Error {
    Error::SnapshotTaken { environment: manifest.environment.clone(), id: manifest.id.clone() }
}

impl Repository {
    /// An id greater than every snapshot's of the environment, committed or in the making.
    pub(crate) async fn reserve(&self, lease: &Standing, environment: &Environment) -> Result<SnapshotId, Error> {
        let folder = names::manifests_of(environment);
        let (stands, keys, others) =
            join!(lease.ensure(), self.keys_in(&folder), self.reserved_by_others(lease, environment));
        stands?;
        let mut keys = keys?;
        // A moment reads like a number, so the greatest name is the newest.
        keys.sort_unstable();
        let newest = keys.iter().rev().find_map(|key| names::snapshot_of(key)).map(|(_, id)| id);
        let mut taken: Vec<SnapshotId> = newest.into_iter().collect();
        taken.extend(others?);
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
