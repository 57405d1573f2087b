use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backstay_model::{Environment, Event, Listener, RunId, SnapshotId};
use serde::{Deserialize, Serialize};

use crate::claim::{Claim, Found, Process, Sightings};
use crate::task::Task;
use crate::{Error, Repository, StoreError, names};

/// A standing claim on the repository, renewed by heartbeat until it is released or dropped.
#[derive(Debug)]
pub struct Lease {
    standing: Standing,
    _heartbeat: Option<Task<()>>,
}

/// What a lease is for. Writers share with writers and readers; prune excludes all of them; of
/// runs that change what an environment runs there is one at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    Read,
    Write,
    Change(Environment),
    Prune,
}

/// How long things take around leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTerms {
    pub beat: Duration,
    /// A holder is dead when its heartbeat did not change for so long on the observer's clock.
    pub expiry: Duration,
    /// How often one who waits looks again.
    pub poll: Duration,
}

impl Default for LeaseTerms {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { beat: seconds(15), expiry: seconds(180), poll: seconds(1) }
    }
}

impl Purpose {
    pub(crate) fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Prune, _) | (_, Self::Prune) => true,
            (Self::Change(one), Self::Change(other)) => one == other,
            _ => false,
        }
    }

    pub(crate) fn may_write(&self) -> bool {
        matches!(self, Self::Write | Self::Change(_))
    }

    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Read => "read".to_owned(),
            Self::Write => "write".to_owned(),
            Self::Change(environment) => format!("change {environment}"),
            Self::Prune => "prune".to_owned(),
        }
    }
}

/// Whether a lease stands, for those that work under it.
#[derive(Clone)]
pub(crate) struct Standing {
    inner: Arc<Inner>,
}

struct Inner {
    repository: Repository,
    key: String,
    claim: tokio::sync::Mutex<Claim>,
    purpose: Purpose,
    /// A reader on a store it cannot write leaves no claim.
    written: bool,
    lost: AtomicBool,
    last_beat: Mutex<Duration>,
}

impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Standing").field("key", &self.inner.key).finish_non_exhaustive()
    }
}

impl Standing {
    fn new(repository: &Repository, key: String, claim: Claim, written: bool) -> Self {
        let (purpose, last_beat) = (claim.purpose.clone(), Mutex::new(repository.clock().elapsed()));
        let (claim, lost) = (tokio::sync::Mutex::new(claim), AtomicBool::new(false));
        let repository = repository.clone();
        Self { inner: Arc::new(Inner { repository, key, claim, purpose, written, lost, last_beat }) }
    }

    pub(crate) fn stands(&self) -> bool {
        self.was_renewed_within(self.inner.repository.terms().expiry)
    }

    /// Whether it will stand for a while: for what cannot be taken back once it is sent.
    pub(crate) fn stands_well(&self) -> bool {
        self.was_renewed_within(self.inner.repository.terms().expiry / 2)
    }

    fn was_renewed_within(&self, limit: Duration) -> bool {
        let last = *self.inner.last_beat.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = self.inner.repository.clock().elapsed().saturating_sub(last);
        !self.inner.lost.load(Ordering::SeqCst) && (!self.inner.written || silent < limit)
    }

    /// Looks at the claim itself: somebody may have taken over while this process slept.
    pub(crate) async fn ensure(&self) -> Result<(), Error> {
        if self.inner.written && self.stands() {
            match self.inner.repository.store().get(&self.inner.key).await {
                Err(StoreError::NotThere { .. }) => self.inner.lost.store(true, Ordering::SeqCst),
                got => drop(got.map_err(Error::store(&self.inner.key))?),
            }
        }
        if self.stands() { Ok(()) } else { Err(Error::LeaseLost) }
    }

    async fn beat(&self) -> Result<(), Error> {
        self.ensure().await?;
        self.renew().await
    }

    /// For whoever has just looked at the claim, with [`Self::ensure`].
    async fn renew(&self) -> Result<(), Error> {
        let mut claim = self.inner.claim.lock().await;
        claim.beat += 1;
        let began = self.inner.repository.clock().elapsed();
        self.inner.repository.put_claim(&self.inner.key, &claim).await?;
        // Whoever slept here may have put back a claim that was taken over: it is not renewed by that.
        if !self.stands() {
            self.inner.lost.store(true, Ordering::SeqCst);
            let removed = self.inner.repository.store().remove(&self.inner.key).await;
            removed.map_err(Error::store(&self.inner.key))?;
            return Err(Error::LeaseLost);
        }
        *self.inner.last_beat.lock().unwrap_or_else(PoisonError::into_inner) = began;
        Ok(())
    }

    /// Says that a snapshot of this id is in the making. For whoever has just looked at the claim, with [`Self::ensure`].
    pub(crate) async fn reserve(&self, environment: &Environment, id: &SnapshotId) -> Result<(), Error> {
        self.inner.claim.lock().await.reserved.push((environment.clone(), id.clone()));
        if self.inner.written { self.renew().await } else { Ok(()) }
    }

    pub(crate) fn key(&self) -> &str {
        &self.inner.key
    }

    async fn heartbeat(self) {
        while self.stands() {
            tokio::time::sleep(self.inner.repository.terms().beat).await;
            // A beat that fails or hangs is tried again; when none gets through, the lease runs out.
            let _ = tokio::time::timeout(self.inner.repository.terms().expiry, self.beat()).await;
        }
    }
}

impl Lease {
    fn new(standing: Standing) -> Self {
        let heartbeat = standing.inner.written.then(|| Task::start(standing.clone().heartbeat()));
        Self { standing, _heartbeat: heartbeat }
    }

    pub(crate) fn purpose(&self) -> &Purpose {
        &self.standing.inner.purpose
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// Lets go. Dropping does the same where it can, without knowing whether it worked.
    pub async fn release(mut self) {
        self.let_go().await;
    }

    pub(crate) async fn let_go(&mut self) {
        self._heartbeat = None;
        let inner = &self.standing.inner;
        if inner.written && !inner.lost.swap(true, Ordering::SeqCst) {
            // What stays is removed by the next who looks: this process is known to be gone then.
            let _ = inner.repository.store().remove(&inner.key).await;
        }
    }

    /// Whether the lease still stands: it was renewed in time and nobody took it over.
    pub fn stands(&self) -> bool {
        self.standing.stands()
    }

    /// Whether somebody waits for this lease to end.
    pub async fn is_waited_for(&self) -> Result<bool, Error> {
        let others = self.rivals(&mut Sightings::new()).await?;
        Ok(others.iter().any(|other| other.waiting))
    }

    /// Whether somebody waits, or stands although this lease excludes it, as may be where a store lists
    /// late. `sightings`, kept from look to look, let go of those that died waiting.
    pub(crate) async fn is_contested(&self, sightings: &mut Sightings) -> Result<bool, Error> {
        Ok(!self.rivals(sightings).await?.is_empty())
    }

    async fn rivals(&self, sightings: &mut Sightings) -> Result<Vec<Claim>, Error> {
        let inner = &self.standing.inner;
        let own = inner.claim.lock().await.clone();
        let found = inner.repository.claims(sightings, &inner.key).await?;
        Ok(found.into_iter().filter_map(|found| found.claim).filter(|other| other.conflicts(&own)).collect())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let inner = Arc::clone(&self.standing.inner);
        if !inner.written || inner.lost.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = inner.repository.store().remove(&inner.key).await;
            });
        }
    }
}

impl Repository {
    /// Takes a lease, waiting up to `wait` and telling `listener` for whom.
    pub async fn lease(
        &self,
        purpose: Purpose,
        run: &RunId,
        wait: Duration,
        listener: &dyn Listener,
    ) -> Result<Lease, Error> {
        let key = format!("{}/{run}-{}", names::LEASES, hex::encode(rand::random::<[u8; 4]>()));
        let claim = Claim {
            purpose,
            run: run.clone(),
            host: self.options().host.clone(),
            process: Process::own(),
            since: self.clock().now(),
            beat: 0,
            waiting: true,
            reserved: Vec::new(),
        };
        let taken = self.wait_for(&key, claim, wait, listener).await;
        if taken.is_err() {
            let _ = self.store().remove(&key).await;
        }
        taken
    }

    async fn wait_for(
        &self,
        key: &str,
        mut claim: Claim,
        wait: Duration,
        listener: &dyn Listener,
    ) -> Result<Lease, Error> {
        let began = self.clock().elapsed();
        let mut sightings = Sightings::new();
        let mut told = None;
        loop {
            let mut blocking = self.in_the_way(key, &claim, &mut sightings).await?;
            if blocking.is_none() {
                claim.waiting = false;
                match self.put_claim(key, &claim).await {
                    Ok(()) => {}
                    Err(Error::Store { source: StoreError::Denied { .. }, .. }) if claim.purpose == Purpose::Read => {
                        return Ok(Lease::new(Standing::new(self, key.to_owned(), claim, false)));
                    }
                    Err(error) => return Err(error),
                }
                // Two that see each other both step back; one that was first is never seen late.
                blocking = self.in_the_way(key, &claim, &mut sightings).await?;
            }
            let Some(found) = blocking else {
                return Ok(Lease::new(Standing::new(self, key.to_owned(), claim, true)));
            };
            let holder = self.describe(&found).await;
            if self.clock().elapsed().saturating_sub(began) >= wait {
                return Err(Error::Held { holder });
            }
            if told.as_ref() != Some(&found.key) {
                listener.hear(Event::Waiting { on: holder });
                told = Some(found.key);
            }
            claim.waiting = true;
            claim.beat += 1;
            self.put_claim(key, &claim).await?;
            let poll = self.terms().poll;
            tokio::time::sleep(poll + poll.mul_f64(rand::random::<f64>())).await;
        }
    }

    async fn in_the_way(&self, key: &str, claim: &Claim, sightings: &mut Sightings) -> Result<Option<Found>, Error> {
        let found = self.claims(sightings, key).await?;
        Ok(found.into_iter().find(|found| found.stands_in_the_way_of(claim)))
    }
}
