//! What is known of snapshots beside their manifests, and of runs: small sealed records.

use std::collections::{BTreeMap, BTreeSet};

use backstay_model::{Environment, Judgement, Manifest, PartRecord, Root, RunRecord, SnapshotId, Verdict};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cache::{Cache, Kept};
use crate::reach::Stored;
use crate::{Error, Flaw, Put, Repository, StoreError, names};

/// Records read side by side.
const SIDE_BY_SIDE: usize = 32;
/// A list of streams larger than this is not ours.
const CONTENTS_BYTES_MAX: u64 = 1 << 30;

/// A snapshot as a listing shows it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub manifest: Manifest,
    /// The newest verdict.
    pub verdict: Option<Verdict>,
    pub pinned: bool,
}

impl Entry {
    /// The newest verdict decides.
    pub fn is_proven(&self) -> bool {
        self.verdict.as_ref().is_some_and(|verdict| verdict.judgement.is_good())
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Pin {
    why: String,
    at: chrono::DateTime<chrono::Utc>,
    host: String,
}

pub(crate) type Place = (Environment, SnapshotId);

impl Repository {
    /// The snapshots of one environment, or of all, newest first. Fails where a manifest or verdict is
    /// damaged. What [`crate::Options::cache`] holds of what the store lists is not read again.
    pub async fn list(&self, environment: Option<&Environment>) -> Result<Vec<Entry>, Error> {
        let folder = |folder: &str| environment.map_or_else(|| folder.to_owned(), |name| format!("{folder}/{name}"));
        let manifests = self.sizes_in(&folder(names::MANIFESTS)).await?;
        let verdicts = self.sizes_in(&folder(names::VERDICTS)).await?;
        let newest = newest(verdicts.keys());
        let pins: BTreeSet<Place> =
            self.keys_in(&folder(names::PINS)).await?.iter().filter_map(|key| names::snapshot_of(key)).collect();
        let cache = self.cache().await;
        let mut reading = stream::iter(&manifests)
            .map(async |(key, bytes)| {
                let manifest = self.kept_manifest(&cache, key, *bytes).await?;
                let of = names::snapshot_of(key)
                    .and_then(|place| newest.get(&place))
                    .and_then(|key| verdicts.get_key_value(key));
                let verdict = match of {
                    Some((key, bytes)) => self.kept_verdict(&cache, key, *bytes).await?.map(|kept| (key, kept)),
                    None => None,
                };
                Ok::<_, Error>((key, manifest, verdict))
            })
            .buffer_unordered(SIDE_BY_SIDE);
        let mut entries = Vec::with_capacity(manifests.len());
        let mut found = Cache::default();
        while let Some((key, manifest, verdict)) = reading.try_next().await? {
            // Nothing where it was removed since it was listed.
            let Some(manifest) = manifest else { continue };
            let pinned = pins.contains(&(manifest.record.environment.clone(), manifest.record.id.clone()));
            let of = verdict.as_ref().map(|(_, kept)| kept.record.clone());
            entries.push(Entry { manifest: manifest.record.clone(), verdict: of, pinned });
            if !cache.manifests.contains_key(key) {
                found.manifests.insert(key.clone(), manifest);
            }
            if let Some((key, verdict)) = verdict.filter(|(key, _)| !cache.verdicts.contains_key(*key)) {
                found.verdicts.insert(key.clone(), verdict);
            }
        }
        drop(reading);
        let is_gone = |key: &str| {
            let asked_for = environment.is_none_or(|of| names::snapshot_of(key).is_some_and(|(found, _)| found == *of));
            asked_for && !manifests.contains_key(key) && !verdicts.contains_key(key)
        };
        self.keep_cache(cache, found, is_gone).await;
        entries
            .sort_by(|a, b| (&b.manifest.id, &a.manifest.environment).cmp(&(&a.manifest.id, &b.manifest.environment)));
        Ok(entries)
    }

    async fn kept_manifest(&self, cache: &Cache, key: &str, bytes: u64) -> Result<Option<Kept<Manifest>>, Error> {
        match cache.manifests.get(key).filter(|kept| kept.bytes == bytes) {
            Some(kept) => Ok(Some(kept.clone())),
            None => Ok(self.manifest(key).await?.map(|stored| Kept { bytes, record: stored.manifest })),
        }
    }

    async fn kept_verdict(&self, cache: &Cache, key: &str, bytes: u64) -> Result<Option<Kept<Verdict>>, Error> {
        match cache.verdicts.get(key).filter(|kept| kept.bytes == bytes) {
            Some(kept) => Ok(Some(kept.clone())),
            None => Ok(self.record(key).await?.map(|record| Kept { bytes, record })),
        }
    }

    pub async fn entry(&self, environment: &Environment, id: &SnapshotId) -> Result<Entry, Error> {
        let place = format!("{environment}/{id}");
        let verdicts = newest(&self.keys_in(&format!("{}/{place}", names::VERDICTS)).await?);
        let pinned =
            self.keys_in(&format!("{}/{environment}", names::PINS)).await?.contains(&names::pin(environment, id));
        let pins = if pinned { [(environment.clone(), id.clone())].into() } else { BTreeSet::new() };
        let entry = self.entry_of(&names::manifest(environment, id), &verdicts, &pins).await?;
        entry.ok_or_else(|| Error::NoSuchSnapshot { environment: environment.clone(), id: id.clone() })
    }

    async fn entry_of(
        &self,
        key: &str,
        verdicts: &BTreeMap<Place, String>,
        pins: &BTreeSet<Place>,
    ) -> Result<Option<Entry>, Error> {
        let Some(stored) = self.manifest(key).await? else { return Ok(None) };
        let place = (stored.manifest.environment.clone(), stored.manifest.id.clone());
        let verdict = match verdicts.get(&place) {
            Some(key) => self.record::<Verdict>(key).await?,
            None => None,
        };
        let pinned = pins.contains(&place);
        Ok(Some(Entry { manifest: stored.manifest, verdict, pinned }))
    }

    /// The named streams of a part.
    pub async fn contents(&self, part: &PartRecord) -> Result<BTreeMap<String, Root>, Error> {
        let bytes = self.read_whole(&part.contents, CONTENTS_BYTES_MAX).await?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Contents { part: part.name.clone(), source })
    }

    /// Nothing where it was removed since it was listed.
    pub(crate) async fn manifest(&self, key: &str) -> Result<Option<Stored>, Error> {
        let Some(stored) = self.record::<Stored>(key).await? else { return Ok(None) };
        if names::manifest(&stored.manifest.environment, &stored.manifest.id) == key {
            Ok(Some(stored))
        } else {
            Err(damaged(key, Flaw::Identity))
        }
    }

    pub async fn pin(&self, environment: &Environment, id: &SnapshotId, why: &str) -> Result<(), Error> {
        self.entry(environment, id).await?;
        let pin = Pin { why: why.to_owned(), at: self.clock().now(), host: self.options().host.clone() };
        self.put_record(&names::pin(environment, id), &pin).await
    }

    pub async fn unpin(&self, environment: &Environment, id: &SnapshotId) -> Result<(), Error> {
        let key = names::pin(environment, id);
        self.store().remove(&key).await.map_err(Error::store(key))
    }

    /// The pinned snapshots of an environment, each with why.
    pub async fn pins(&self, environment: &Environment) -> Result<Vec<(SnapshotId, String)>, Error> {
        let mut pins = Vec::new();
        for key in self.keys_in(&format!("{}/{environment}", names::PINS)).await? {
            if let (Some((_, id)), Some(pin)) = (names::snapshot_of(&key), self.record::<Pin>(&key).await?) {
                pins.push((id, pin.why));
            }
        }
        Ok(pins)
    }

    pub async fn add_verdict(&self, verdict: Verdict) -> Result<(), Error> {
        self.put_record(&verdict_key(&verdict), &verdict).await
    }

    /// Stores or replaces what is known of a run.
    pub async fn put_run(&self, record: &RunRecord) -> Result<(), Error> {
        self.put_record(&names::run(&record.environment, &record.id), record).await
    }

    /// The runs of an environment, newest first. Those that cannot be read are left out.
    pub async fn runs(&self, environment: &Environment) -> Result<Vec<RunRecord>, Error> {
        let mut keys = self.keys_in(&format!("{}/{environment}", names::RUNS)).await?;
        keys.sort();
        keys.reverse();
        let runs: Vec<_> = stream::iter(keys.iter().map(|key| self.record::<RunRecord>(key)))
            .buffered(SIDE_BY_SIDE)
            .filter_map(|run| async {
                match run {
                    Ok(run) => run.map(Ok),
                    Err(Error::Damaged(_)) => None,
                    Err(error) => Some(Err(error)),
                }
            })
            .try_collect()
            .await?;
        Ok(runs)
    }

    /// As [`Repository::runs`], but one that cannot be read is an error: prune must know them all.
    pub(crate) async fn every_run(&self, environment: &Environment) -> Result<Vec<RunRecord>, Error> {
        let mut keys = self.keys_in(&format!("{}/{environment}", names::RUNS)).await?;
        keys.sort();
        keys.reverse();
        stream::iter(keys.iter().map(|key| self.record::<RunRecord>(key)))
            .buffered(SIDE_BY_SIDE)
            .try_filter_map(|run| async { Ok(run) })
            .try_collect()
            .await
    }

    /// The key of the newest verdict on each snapshot.
    pub(crate) async fn newest_verdicts(&self) -> Result<BTreeMap<Place, String>, Error> {
        Ok(newest(&self.keys_in(names::VERDICTS).await?))
    }

    pub(crate) async fn keys_in(&self, folder: &str) -> Result<Vec<String>, Error> {
        let listed = self.store().list(folder).await.map_err(Error::store(folder))?;
        Ok(listed.into_iter().map(|listed| listed.key).collect())
    }

    pub(crate) async fn sizes_in(&self, folder: &str) -> Result<BTreeMap<String, u64>, Error> {
        let listed = self.store().list(folder).await.map_err(Error::store(folder))?;
        Ok(listed.into_iter().map(|listed| (listed.key, listed.bytes)).collect())
    }

    /// Nothing where there is none of this name.
    pub(crate) async fn record<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let stored = match self.store().get(key).await {
            Err(StoreError::NotThere { .. }) => return Ok(None),
            stored => stored.map_err(Error::store(key))?,
        };
        let json = self.keys().open_record(key, &stored).map_err(|flaw| damaged(key, flaw))?;
        serde_json::from_slice(&json).map(Some).map_err(|_| damaged(key, Flaw::Meaning))
    }

    pub(crate) async fn put_record<T: Serialize>(&self, key: &str, record: &T) -> Result<(), Error> {
        let json = serde_json::to_vec(record).map_err(|source| Error::Encode { subject: key.to_owned(), source })?;
        let sealed = Bytes::from(self.keys().seal_record(key, &json));
        self.store().put(key, sealed, Put::Replace).await.map_err(Error::store(key))?;
        self.store().barrier().await.map_err(Error::store(key))
    }
}

fn damaged(key: &str, flaw: Flaw) -> Error {
    let mut error = Error::damaged(key, flaw, None);
    if let (Error::Damaged(damage), Some(place)) = (&mut error, names::snapshot_of(key))
        && !key.starts_with(names::RUNS)
    {
        damage.snapshots.push(place);
    }
    error
}

/// The name sorts by time, and says how it stands to whoever only lists.
fn verdict_key(verdict: &Verdict) -> String {
    let stands = match verdict.judgement {
        Judgement::Good => "good",
        Judgement::Damaged { .. } => "damaged",
        Judgement::DoesNotProve { .. } => "unproven",
    };
    let at = verdict.at.format("%Y%m%d_%H%M%S_%6f");
    let salt = hex::encode(rand::random::<[u8; 4]>());
    format!("{}/{}/{}/{at}-{stands}-{salt}", names::VERDICTS, verdict.environment, verdict.snapshot)
}

/// The newest verdict's key of each snapshot.
fn newest<'a>(keys: impl IntoIterator<Item = &'a String>) -> BTreeMap<Place, String> {
    let mut newest = BTreeMap::new();
    for key in keys {
        if let Some(place) = names::snapshot_of(key) {
            let known: &mut String = newest.entry(place).or_default();
            if *known < *key {
                key.clone_into(known);
            }
        }
    }
    newest
}
