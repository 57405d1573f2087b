//! Removing what a plan removes: first names, and a day later what nothing reaches any more.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use backstay_model::{Environment, Event, Listener, ObjectId, Outcome, RunId, SnapshotId};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::claim::Sightings;
use crate::reach::Reach;
use crate::records::Place;
use crate::retention::{Candidate, Policy, Protected, PrunePlan, plan_prune};
use crate::reuse::Condemned;
use crate::{Error, Lease, LeasePurpose, Listing, Repository, names};

/// Longer than any run that could still want an object may take.
const GRACE: chrono::Duration = chrono::Duration::hours(24);
/// Snapshots removed, or objects deleted, between two looks for somebody who waits.
const BATCH: usize = 256;
/// Manifests read side by side.
const SIDE_BY_SIDE: usize = 16;
/// A run without an end is alive for so long; later than that it may not commit.
const LIVE_HOURS: i64 = 24;

/// What a prune did, or in a dry run would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    pub manifests: Vec<(Environment, SnapshotId)>,
    /// Objects found unreached, to be deleted a day from now.
    pub condemned: u64,
    /// Objects condemned a day ago or longer, and deleted.
    pub deleted: u64,
    pub deleted_bytes: u64,
}

impl Repository {
    /// Which snapshots a policy for each environment removes, from the repository alone. Fails where
    /// that would be every snapshot of an environment.
    pub async fn plan_prune(&self, policies: &BTreeMap<Environment, Policy>) -> Result<PrunePlan, Error> {
        let mut plan = PrunePlan::default();
        for (environment, policy) in policies {
            let Listing { entries, damage } = self.listing(Some(environment)).await?;
            if let Some(damage) = damage.into_iter().next() {
                return Err(Error::Damaged(Box::new(damage)));
            }
            let candidates: Vec<_> = entries.iter().map(Candidate::from).collect();
            let protected = self.protected(environment).await?;
            let own = plan_prune(&candidates, policy, &protected, self.clock().now());
            if !candidates.is_empty() && own.kept().next().is_none() {
                return Err(Error::WouldRemoveEverything { environment: environment.clone() });
            }
            plan.decisions.extend(own.decisions);
        }
        Ok(plan)
    }

    /// The snapshots behind the running and the previous release, and of runs that go on.
    async fn protected(&self, environment: &Environment) -> Result<Protected, Error> {
        let mut protected = Protected::new();
        let mut protect = |id: &Option<SnapshotId>, why: &str| {
            if let Some(id) = id {
                protected.entry((environment.clone(), id.clone())).or_insert_with(|| why.to_owned());
            }
        };
        let live_since = self.clock().now() - chrono::Duration::hours(LIVE_HOURS);
        let mut releases = 0;
        for run in self.every_run(environment).await? {
            let unfinished = run.ended_at.is_none() || run.outcome == Some(Outcome::Stuck);
            if unfinished && (run.outcome == Some(Outcome::Stuck) || run.began_at >= live_since) {
                protect(&run.snapshot, "a run that is not finished uses it");
                protect(&run.before, "a run that is not finished uses it");
            }
            if run.changed_what_runs() && releases < 2 {
                releases += 1;
                let runs_now = releases == 1 && run.brought_back();
                protect(&run.snapshot, if runs_now { "the running release" } else { "the previous release" });
                protect(&run.before, "the previous release");
            }
        }
        for found in self.claims(&mut Sightings::new(), "").await? {
            for (_, id) in found.claim.into_iter().flat_map(|claim| claim.reserved).filter(|(of, _)| of == environment)
            {
                protect(&Some(id), "a run that is not finished makes it");
            }
        }
        Ok(protected)
    }

    /// Executes a plan and deletes what was condemned a day ago; with `dry` only says what it would.
    /// Yields to whoever waits, taking the lease again for up to `wait`.
    pub async fn prune(
        &self,
        plan: &PrunePlan,
        run: &RunId,
        dry: bool,
        wait: Duration,
        listener: &dyn Listener,
    ) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        let removed: Vec<_> =
            plan.removed().map(|decision| (decision.environment.clone(), decision.id.clone())).collect();
        if dry {
            return self.foresee(removed).await;
        }
        let mut hold = Hold::take(self, run, wait, listener).await?;
        for (number, batch) in removed.chunks(BATCH).enumerate() {
            if number > 0 {
                hold.make_way().await?;
            }
            // Under the lease no run begins, so once for a batch is enough.
            let protected = self.protected_in(batch).await?;
            for place in batch {
                hold.ensure().await?;
                if !protected.contains_key(place) && !self.is_pinned(place).await? {
                    self.remove_snapshot(&place.0, &place.1, &hold).await?;
                    let step = format!("remove {}/{}", place.0, place.1);
                    listener.hear(Event::StepEnded { step, remark: None });
                    pruned.manifests.push(place.clone());
                }
            }
        }
        let unreached = self.delete_condemned(&mut hold, &mut pruned).await?;
        pruned.condemned = self.condemn(unreached, run).await?;
        hold.ensure().await?;
        self.store().sweep().await.map_err(Error::store("what writers left behind"))?;
        hold.lease.release().await;
        Ok(pruned)
    }

    /// What a prune would do now.
    async fn foresee(&self, manifests: Vec<Place>) -> Result<Pruned, Error> {
        let going = manifests.iter().map(|(environment, id)| names::manifest(environment, id)).collect();
        let mut unreached = self.unreached(&going).await?;
        let sizes = self.sizes_in(names::OBJECTS).await?;
        let mut pruned = Pruned { manifests, ..Pruned::default() };
        for key in self.keys_in(names::CONDEMNED).await? {
            let Some(condemned) = self.readable_condemned(&key).await? else { continue };
            let is_due = self.clock().now().signed_duration_since(condemned.at) >= GRACE;
            for id in condemned.objects.iter().filter(|id| unreached.remove(id)) {
                if let (true, Some(bytes)) = (is_due, sizes.get(&names::object(id))) {
                    pruned.deleted += 1;
                    pruned.deleted_bytes += bytes;
                }
            }
        }
        pruned.condemned = unreached.len() as u64;
        Ok(pruned)
    }

    /// Between plan and execution somebody may have begun to use them.
    async fn protected_in(&self, places: &[Place]) -> Result<Protected, Error> {
        let mut protected = Protected::new();
        for environment in places.iter().map(|(environment, _)| environment).collect::<BTreeSet<_>>() {
            protected.extend(self.protected(environment).await?);
        }
        Ok(protected)
    }

    /// Pins are set without a lease.
    async fn is_pinned(&self, (environment, id): &Place) -> Result<bool, Error> {
        Ok(self.record_bytes(&names::pin(environment, id)).await?.is_some())
    }

    /// The manifest first: from then on the snapshot does not exist.
    async fn remove_snapshot(&self, environment: &Environment, id: &SnapshotId, hold: &Hold<'_>) -> Result<(), Error> {
        let mut keys = vec![names::manifest(environment, id)];
        keys.extend(self.keys_in(&format!("{}/{environment}/{id}", names::VERDICTS)).await?);
        for key in keys {
            hold.must_stand_well()?;
            self.store().remove(&key).await.map_err(Error::store(key))?;
        }
        self.store().barrier().await.map_err(Error::store(names::MANIFESTS))
    }

    /// Every object no manifest reaches, without reading any chunk. A manifest or list that cannot
    /// be read stops it: what it reaches is not known.
    async fn unreached(&self, going: &BTreeSet<String>) -> Result<BTreeSet<ObjectId>, Error> {
        let mut reached = HashSet::new();
        let mut lists = BTreeSet::new();
        let keys = self.keys_in(names::MANIFESTS).await?.into_iter().filter(|key| !going.contains(key));
        let mut reaches = stream::iter(keys)
            .map(async |key| match self.manifest(&key).await? {
                Some(stored) => self.reach_of(&key, &stored).await.map(Some),
                None => Ok(None),
            })
            .buffer_unordered(SIDE_BY_SIDE);
        while let Some(reach) = reaches.try_next().await? {
            let Some(reach) = reach else { continue };
            reached.extend(reach.direct());
            // A list that several snapshots share is read once.
            lists.extend(reach.lists);
        }
        drop(reaches);
        reached.extend(self.all_objects(&Reach { lists, ..Reach::default() }).await?);
        let objects = self.keys_in(names::OBJECTS).await?;
        Ok(objects.iter().filter_map(|key| names::object_of(key)).filter(|id| !reached.contains(id)).collect())
    }

    /// Says what will be deleted, apart from what was said before.
    async fn condemn(&self, mut unreached: BTreeSet<ObjectId>, run: &RunId) -> Result<u64, Error> {
        for key in self.keys_in(names::CONDEMNED).await? {
            if let Some(known) = self.condemned(&key).await? {
                for id in known.objects {
                    unreached.remove(&id);
                }
            }
        }
        let count = unreached.len() as u64;
        if count > 0 {
            let condemned = Condemned { at: self.clock().now(), objects: unreached.into_iter().collect() };
            self.put_record(&format!("{}/{run}", names::CONDEMNED), &condemned).await?;
        }
        Ok(count)
    }

    /// A damaged one is removed: what it named is condemned anew.
    async fn condemned(&self, key: &str) -> Result<Option<Condemned>, Error> {
        match self.record::<Condemned>(key).await {
            Err(Error::Damaged(_)) => {
                self.store().remove(key).await.map_err(Error::store(key))?;
                Ok(None)
            }
            read => read,
        }
    }

    /// What was condemned long enough ago. One that a clock far ahead dated counts from now on.
    async fn due(&self) -> Result<Vec<(String, Condemned)>, Error> {
        let now: DateTime<Utc> = self.clock().now();
        let mut due = Vec::new();
        for key in self.keys_in(names::CONDEMNED).await? {
            let Some(condemned) = self.condemned(&key).await? else { continue };
            let age = now.signed_duration_since(condemned.at);
            if age >= GRACE {
                due.push((key, condemned));
            } else if age < -GRACE {
                self.put_record(&key, &Condemned { at: now, ..condemned }).await?;
            }
        }
        Ok(due)
    }

    /// Returns what nothing reaches after that.
    async fn delete_condemned(&self, hold: &mut Hold<'_>, pruned: &mut Pruned) -> Result<BTreeSet<ObjectId>, Error> {
        let due = self.due().await?;
        let mut unreached = self.unreached(&BTreeSet::new()).await?;
        if due.is_empty() {
            return Ok(unreached);
        }
        let sizes = self.sizes_in(names::OBJECTS).await?;
        for (key, condemned) in due {
            for batch in condemned.objects.chunks(BATCH) {
                if hold.make_way().await? {
                    // Whoever was let in may have committed what was unreached.
                    unreached = self.unreached(&BTreeSet::new()).await?;
                }
                let batch: Vec<_> = batch.iter().filter(|id| unreached.remove(id)).copied().collect();
                if !self.delete_batch(&key, &batch, &sizes, hold, pruned).await? {
                    break;
                }
            }
            self.store().remove(&key).await.map_err(Error::store(key))?;
            hold.listener.hear(Event::StepEnded {
                step: "delete what nothing reaches".to_owned(),
                remark: Some(format!("{} objects so far", pruned.deleted)),
            });
        }
        self.store().barrier().await.map_err(Error::store(names::OBJECTS))?;
        Ok(unreached)
    }

    /// Deletes what of a batch is still condemned. Returns whether its list is still there.
    async fn delete_batch(
        &self,
        key: &str,
        batch: &[ObjectId],
        sizes: &BTreeMap<String, u64>,
        hold: &mut Hold<'_>,
        pruned: &mut Pruned,
    ) -> Result<bool, Error> {
        let mut wanted = HashSet::new();
        for (number, id) in batch.iter().enumerate() {
            // A writer that wants one of them strikes it out, and need not be seen otherwise.
            if number == 0 || hold.is_stale() {
                hold.ensure().await?;
                let Some(condemned) = self.condemned(key).await? else { return Ok(false) };
                wanted = condemned.objects.into_iter().collect::<HashSet<_>>();
            }
            let object = names::object(id);
            if let (true, Some(bytes)) = (wanted.contains(id), sizes.get(&object)) {
                // Whoever slept since looking has lost the lease, perhaps to a writer that struck it out.
                hold.must_stand_well()?;
                self.store().remove(&object).await.map_err(Error::store(&object))?;
                pruned.deleted += 1;
                pruned.deleted_bytes += bytes;
            }
        }
        Ok(true)
    }
}

/// The lease of a prune, which makes way for others and is taken again.
struct Hold<'a> {
    repository: &'a Repository,
    run: &'a RunId,
    wait: Duration,
    listener: &'a dyn Listener,
    lease: Lease,
    sightings: Sightings,
    /// When the lease was last looked at.
    ensured: Duration,
}

impl<'a> Hold<'a> {
    async fn take(
        repository: &'a Repository,
        run: &'a RunId,
        wait: Duration,
        listener: &'a dyn Listener,
    ) -> Result<Self, Error> {
        let lease = repository.lease(LeasePurpose::Prune, run, wait, listener).await?;
        let ensured = repository.clock().elapsed();
        Ok(Self { repository, run, wait, listener, lease, sightings: Sightings::new(), ensured })
    }

    async fn ensure(&mut self) -> Result<(), Error> {
        let now = self.repository.clock().elapsed();
        self.lease.standing().ensure().await?;
        self.ensured = now;
        Ok(())
    }

    /// Whether it is time to look again at what others may have changed.
    fn is_stale(&self) -> bool {
        self.repository.clock().elapsed().saturating_sub(self.ensured) >= self.repository.terms().beat
    }

    fn must_stand_well(&self) -> Result<(), Error> {
        if self.lease.standing().stands_well() { Ok(()) } else { Err(Error::LeaseLost) }
    }

    /// Lets others in where some want in, or are in although they should not be. Returns whether it did.
    async fn make_way(&mut self) -> Result<bool, Error> {
        let contested = self.lease.is_contested(&mut self.sightings).await?;
        if contested {
            self.lease.let_go().await;
            self.lease = self.repository.lease(LeasePurpose::Prune, self.run, self.wait, self.listener).await?;
        }
        Ok(contested)
    }
}
