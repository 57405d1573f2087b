//! Whether what a snapshot needs is there: asked before a commit, and after damage was found.

use std::collections::HashSet;

use backstay_model::{Environment, ObjectId, Place, SnapshotId};
use futures_util::{StreamExt, TryStreamExt, join, stream};
use serde::{Deserialize, Serialize};

use crate::reach::{Reach, Stored};
use crate::{Damage, Error, Flaw, Put, Repository, names};

const SIDE_BY_SIDE: usize = 16;
/// Snapshots that are looked through to say whom damage hurts.
const HURT_MAX: usize = 1000;

/// What prune means to delete, a day after it said so.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Condemned {
    pub(crate) at: chrono::DateTime<chrono::Utc>,
    pub(crate) objects: Vec<ObjectId>,
}

/// What a snapshot needs, and where it is to be looked for whether it is condemned.
pub(crate) struct Needs {
    objects: HashSet<ObjectId>,
    condemned: Vec<String>,
}

impl Repository {
    /// Everything below a reach, with what only lists name.
    pub(crate) async fn all_objects(&self, reach: &Reach) -> Result<HashSet<ObjectId>, Error> {
        let mut all: HashSet<_> = reach.direct().collect();
        let mut lists = stream::iter(reach.lists.iter().map(|id| self.list_object(id))).buffer_unordered(SIDE_BY_SIDE);
        while let Some(entries) = lists.try_next().await? {
            all.extend(entries.into_iter().map(|(id, _)| id));
        }
        Ok(all)
    }

    /// Everything that is condemned now.
    pub(crate) async fn doomed(&self) -> Result<HashSet<ObjectId>, Error> {
        let mut doomed = HashSet::new();
        for key in self.keys_in(names::CONDEMNED).await? {
            doomed.extend(self.readable_condemned(&key).await?.into_iter().flat_map(|condemned| condemned.objects));
        }
        Ok(doomed)
    }

    /// By one that cannot be read nothing is deleted.
    pub(crate) async fn readable_condemned(&self, key: &str) -> Result<Option<Condemned>, Error> {
        match self.record::<Condemned>(key).await {
            Err(Error::Damaged(_)) => Ok(None),
            read => read,
        }
    }

    pub(crate) async fn needs_of(&self, reach: &Reach) -> Result<Needs, Error> {
        let (objects, condemned) = join!(self.all_objects(reach), self.keys_in(names::CONDEMNED));
        Ok(Needs { objects: objects?, condemned: condemned? })
    }

    /// Looks that everything a snapshot needs and did not write itself is still there, and takes what it
    /// needs back from what is condemned. Returns what of it is or was among the condemned, `doomed` being
    /// those that were when it began: of these each was looked at, whoever wrote it, because a prune that
    /// saw nothing of this snapshot may have deleted it since, and said so no more.
    pub(crate) async fn ensure_to_be_had(
        &self,
        needs: &Needs,
        written: &HashSet<ObjectId>,
        doomed: &HashSet<ObjectId>,
    ) -> Result<Vec<ObjectId>, Error> {
        let needed = &needs.objects;
        let reused: HashSet<_> = needed.iter().filter(|id| !written.contains(id)).copied().collect();
        if !reused.is_empty() {
            let listed = self.keys_in(names::OBJECTS).await?;
            let there: HashSet<ObjectId> = listed.iter().filter_map(|key| names::object_of(key)).collect();
            // What a listing does not show yet may be there all the same.
            self.ensure_there(reused.iter().filter(|id| !there.contains(id)).copied().collect()).await?;
        }
        let mut wary = self.pardon(&needs.condemned, needed, &reused).await?;
        wary.extend(needed.intersection(doomed));
        wary.sort_unstable();
        wary.dedup();
        self.ensure_there(wary.clone()).await?;
        Ok(wary)
    }

    pub(crate) async fn ensure_there(&self, objects: Vec<ObjectId>) -> Result<(), Error> {
        let mut looks = stream::iter(objects)
            .map(async |id| {
                let found = self.record_bytes(&names::object(&id)).await?;
                found.map(drop).ok_or_else(|| Error::damaged(names::object(&id), Flaw::Missing, Some(id)))
            })
            .buffer_unordered(SIDE_BY_SIDE);
        while let Some(look) = looks.next().await {
            look?;
        }
        Ok(())
    }

    /// Strikes what is needed from the `lists` of what prune condemned, having stored again what is reused. Prune reads
    /// the list again before it deletes, so nothing depends on its seeing the manifest in time.
    async fn pardon(
        &self,
        lists: &[String],
        needed: &HashSet<ObjectId>,
        reused: &HashSet<ObjectId>,
    ) -> Result<Vec<ObjectId>, Error> {
        let mut pardoned = Vec::new();
        for key in lists {
            let Some(condemned) = self.readable_condemned(key).await? else { continue };
            let (wanted, rest): (Vec<_>, Vec<_>) = condemned.objects.into_iter().partition(|id| needed.contains(id));
            if wanted.is_empty() {
                continue;
            }
            let again = stream::iter(wanted.iter().filter(|id| reused.contains(id)).copied());
            again.map(|id| self.store_again(id)).buffer_unordered(SIDE_BY_SIDE).try_collect::<()>().await?;
            self.put_record(key, &Condemned { at: condemned.at, objects: rest }).await?;
            pardoned.extend(wanted);
        }
        Ok(pardoned)
    }

    async fn store_again(&self, id: ObjectId) -> Result<(), Error> {
        let key = names::object(&id);
        let bytes = self.record_bytes(&key).await?;
        let bytes = bytes.ok_or_else(|| Error::damaged(&key, Flaw::Missing, Some(id)))?;
        self.store().put(&key, bytes, Put::Replace).await.map_err(Error::store(key))
    }

    /// A manifest that was written too late stays only if it has all it needs.
    pub(crate) async fn take_back_if_incomplete(&self, stored: &Stored, reach: &Reach) -> Result<(), Error> {
        let whole =
            async { self.ensure_to_be_had(&self.needs_of(reach).await?, &HashSet::new(), &HashSet::new()).await };
        if whole.await.is_ok() { Ok(()) } else { self.take_back(stored).await }
    }

    pub(crate) async fn take_back(&self, stored: &Stored) -> Result<(), Error> {
        let key = names::manifest(&stored.manifest.environment, &stored.manifest.id);
        self.store().remove(&key).await.map_err(Error::store(key))
    }

    /// Adds to an error about damage which snapshots it hurts.
    pub(crate) async fn naming_the_hurt(&self, mut error: Error) -> Error {
        if let Error::Damaged(damage) = &mut error
            && damage.snapshots.is_empty()
            && let Some(object) = damage.object
        {
            damage.snapshots = Box::pin(self.hurt_by(&object)).await;
        }
        error
    }

    /// The snapshots that need an object, as far as they can be read.
    async fn hurt_by(&self, object: &ObjectId) -> Vec<(Environment, SnapshotId)> {
        let mut keys = self.keys_in(names::MANIFESTS).await.unwrap_or_default();
        keys.sort();
        keys.reverse();
        keys.truncate(HURT_MAX);
        let mut hurt: Vec<_> = stream::iter(keys)
            .map(async |key| self.needs(&key, object).await.then(|| names::snapshot_of(&key)).flatten())
            .buffer_unordered(SIDE_BY_SIDE)
            .filter_map(async |place| place)
            .collect()
            .await;
        hurt.sort();
        hurt
    }

    async fn needs(&self, key: &str, object: &ObjectId) -> bool {
        let Ok(Some(stored)) = self.manifest(key).await else { return false };
        let Ok((reach, _)) = self.reach_as_far_as_readable(&stored).await else { return false };
        if reach.direct().any(|id| id == *object) {
            return true;
        }
        for list in &reach.lists {
            if self.list_object(list).await.is_ok_and(|entries| entries.iter().any(|(id, _)| id == object)) {
                return true;
            }
        }
        false
    }

    /// What a snapshot reaches, and the damage that keeps us from knowing all of it.
    pub(crate) async fn reach_as_far_as_readable(&self, stored: &Stored) -> Result<(Reach, Option<Damage>), Error> {
        let mut reach = Reach::default();
        for root in stored.manifest.parts.iter().flat_map(|part| [&part.contents, &part.facts]).chain([&stored.reach]) {
            match &root.place {
                Place::Chunk(id) => drop(reach.chunks.insert(*id)),
                Place::List(id) => drop(reach.lists.insert(*id)),
                Place::Shared { chunk, .. } => drop(reach.bundles.insert(*chunk)),
                Place::Empty | Place::LongList(_) => {}
            }
        }
        let mut bytes = Vec::new();
        let mut reader = self.read(&stored.reach).without_blame();
        loop {
            match reader.next().await {
                Ok(Some(piece)) => bytes.extend_from_slice(&piece),
                Ok(None) => break,
                Err(Error::Damaged(damage)) => return Ok((reach, Some(*damage))),
                Err(error) => return Err(error),
            }
        }
        let (environment, id) = (&stored.manifest.environment, &stored.manifest.id);
        let Some(more) = Reach::decode(&bytes) else {
            let key = names::manifest(environment, id);
            return Ok((reach, Some(Damage { key, flaw: Flaw::Meaning, object: None, snapshots: Vec::new() })));
        };
        reach.chunks.extend(more.chunks);
        reach.lists.extend(more.lists);
        reach.bundles.extend(more.bundles);
        Ok((reach, None))
    }
}
