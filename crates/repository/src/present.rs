use std::collections::{BTreeMap, HashMap, HashSet};

use backstay_model::{Environment, Judgement, ObjectId, Verdict};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, join, stream};

use crate::reach::{Reach, Small};
use crate::{Error, Repository, names};

/// Of the environment itself, so many newest snapshots are looked at; of every other the newest.
/// What only older ones reach is written again, under the same id and so into the same place.
const OWN_SNAPSHOTS: usize = 8;
const SIDE_BY_SIDE: usize = 16;

/// What a writer may reuse: what a committed manifest reaches and no verdict calls damaged.
#[derive(Debug, Default)]
pub(crate) struct Present {
    pub(crate) objects: HashSet<ObjectId>,
    /// Small streams, by digest.
    pub(crate) small: HashMap<ObjectId, Small>,
}

impl Repository {
    /// Whatever cannot be read is not present. That is how the next snapshot heals it.
    pub(crate) async fn present(&self, environment: &Environment) -> Result<Present, Error> {
        let (damaged, keys) = join!(self.known_damage(), self.keys_in(names::MANIFESTS));
        let (damaged, keys) = (damaged?, newest_snapshots(keys?, environment));
        let mut present = Present::default();
        let mut lists = HashSet::new();
        let mut reaches =
            stream::iter(keys).map(async |key| self.reach_since(&key, &damaged).await).buffered(SIDE_BY_SIDE);
        while let Some(reach) = reaches.next().await {
            match reach {
                Ok(Some((mut reach, spoilt))) => {
                    reach.small.retain(|_, small| !spoilt.contains(&small.bundle));
                    present.small.extend(std::mem::take(&mut reach.small));
                    present.objects.extend(reach.direct().filter(|id| !spoilt.contains(id)));
                    let unread: Vec<_> =
                        reach.lists.into_iter().filter(|id| !spoilt.contains(id) && lists.insert(*id)).collect();
                    self.add_listed(unread, &spoilt, &mut present).await?;
                }
                Ok(None) | Err(Error::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(present)
    }

    async fn reach_since(&self, key: &str, damaged: &Damaged) -> Result<Option<(Reach, HashSet<ObjectId>)>, Error> {
        let Some(stored) = self.manifest(key).await? else { return Ok(None) };
        let reach = self.reach_of(key, &stored).await?;
        // What a snapshot committed after the verdict reaches, it had stored again.
        let at = stored.manifest.committed_at;
        let spoilt = damaged.iter().filter(|(_, found)| **found >= at).map(|(id, _)| *id).collect();
        Ok(Some((reach, spoilt)))
    }

    async fn add_listed(
        &self,
        lists: Vec<ObjectId>,
        spoilt: &HashSet<ObjectId>,
        present: &mut Present,
    ) -> Result<(), Error> {
        let mut read =
            stream::iter(lists).map(async |id| (id, self.list_object(&id).await)).buffer_unordered(SIDE_BY_SIDE);
        while let Some((id, list)) = read.next().await {
            match list {
                Ok(entries) => {
                    let chunks = entries.into_iter().map(|(chunk, _)| chunk);
                    present.objects.extend(chunks.filter(|chunk| !spoilt.contains(chunk)));
                }
                Err(Error::Damaged(_)) => drop(present.objects.remove(&id)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The objects some snapshot's newest verdict calls damaged, and when it did.
    async fn known_damage(&self) -> Result<Damaged, Error> {
        let mut damaged = BTreeMap::new();
        for key in self.newest_verdicts().await?.into_values().filter(|key| key.contains("-damaged-")) {
            match self.record::<Verdict>(&key).await {
                Ok(Some(verdict)) => {
                    if let Judgement::Damaged { objects, .. } = verdict.judgement {
                        for id in objects {
                            let known = damaged.entry(id).or_insert(verdict.at);
                            *known = verdict.at.max(*known);
                        }
                    }
                }
                Ok(None) | Err(Error::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(damaged)
    }
}

type Damaged = BTreeMap<ObjectId, DateTime<Utc>>;

fn newest_snapshots(mut keys: Vec<String>, environment: &Environment) -> Vec<String> {
    keys.sort_unstable();
    keys.reverse();
    let own = names::manifests_of(environment);
    let mut taken: HashMap<String, usize> = HashMap::new();
    keys.retain(|key| {
        let Some((folder, _)) = key.rsplit_once('/') else { return false };
        let so_far = taken.get(folder).copied().unwrap_or_default();
        let most = if folder == own { OWN_SNAPSHOTS } else { 1 };
        // Names are read last: of thousands only the first few count.
        let takes = so_far < most && names::snapshot_of(key).is_some();
        if takes {
            taken.insert(folder.to_owned(), so_far + 1);
        }
        takes
    });
    keys
}
