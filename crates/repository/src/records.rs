//! What is known of snapshots beside their manifests, and of runs: small sealed records.

use std::collections::{BTreeMap, BTreeSet};

use backstay_model::{Environment, Examination, Judgement, Manifest, PartRecord, Root, RunRecord, SnapshotId, Verdict};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

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

    /// A proof restored it, and nothing newer says otherwise.
    pub fn is_restored(&self) -> bool {
        self.is_proven() && self.verdict.as_ref().is_some_and(|verdict| verdict.examination == Examination::Prove)
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

    /// Records a verdict as the newest, whatever the clocks of those who judged before said: it is dated
    /// later than theirs and than the snapshot itself.
    pub async fn add_verdict(&self, mut verdict: Verdict) -> Result<(), Error> {
        let place = format!("{}/{}/{}", names::VERDICTS, verdict.environment, verdict.snapshot);
        let newest = self.keys_in(&place).await?.into_iter().max();
        let known = newest.as_deref().and_then(|key| verdict_time(key.rsplit('/').next()?));
        let committed = match self.manifest(&names::manifest(&verdict.environment, &verdict.snapshot)).await {
            Ok(stored) => stored.map(|stored| stored.manifest.committed_at),
            // That it cannot be read may be the very verdict.
            Err(Error::Damaged(_)) => None,
            Err(error) => return Err(error),
        };
        if let Some(latest) = known.max(committed) {
            verdict.at = verdict.at.max(latest + chrono::TimeDelta::microseconds(1));
        }
        self.put_record(&verdict_key(&verdict), &verdict).await
    }

    /// Stores or replaces what is known of a run.
    pub async fn put_run(&self, record: &RunRecord) -> Result<(), Error> {
        self.put_record(&names::run(&record.environment, &record.id), record).await
    }

    /// The runs of an environment, newest first. Those that cannot be read are left out.
    pub async fn runs(&self, environment: &Environment) -> Result<Vec<RunRecord>, Error> {
        let keys = self.keys_in(&format!("{}/{environment}", names::RUNS)).await?;
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
        Ok(newest_first(runs))
    }

    /// As [`Repository::runs`], but one that cannot be read is an error: prune must know them all.
    pub(crate) async fn every_run(&self, environment: &Environment) -> Result<Vec<RunRecord>, Error> {
        let keys = self.keys_in(&format!("{}/{environment}", names::RUNS)).await?;
        let runs = stream::iter(keys.iter().map(|key| self.record::<RunRecord>(key)))
            .buffered(SIDE_BY_SIDE)
            .try_filter_map(|run| async { Ok(run) })
            .try_collect()
            .await?;
        Ok(newest_first(runs))
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

    /// As stored; nothing where there is none of this name.
    pub(crate) async fn record_bytes(&self, key: &str) -> Result<Option<Bytes>, Error> {
        match self.store().get(key).await {
            Err(StoreError::NotThere { .. }) => Ok(None),
            stored => stored.map(Some).map_err(Error::store(key)),
        }
    }

    /// Nothing where there is none of this name.
    pub(crate) async fn record<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let Some(stored) = self.record_bytes(key).await? else { return Ok(None) };
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

const VERDICT_TIME: &str = "%Y%m%d_%H%M%S_%6f";

/// When a verdict of this name was found.
fn verdict_time(name: &str) -> Option<chrono::DateTime<chrono::Utc>> {
    let (time, fraction) = name.split_once('-')?.0.rsplit_once('_')?;
    let time = chrono::NaiveDateTime::parse_from_str(time, "%Y%m%d_%H%M%S").ok()?;
    Some(time.and_utc() + chrono::TimeDelta::microseconds(fraction.parse().ok()?))
}

/// An id knows the second in which its run began; two runs of one second are told apart by the moment.
fn newest_first(mut runs: Vec<RunRecord>) -> Vec<RunRecord> {
    runs.sort_by(|a, b| (b.began_at, &b.id).cmp(&(a.began_at, &a.id)));
    runs
}

/// The name sorts by time, and says how it stands to whoever only lists.
fn verdict_key(verdict: &Verdict) -> String {
    let stands = match verdict.judgement {
        Judgement::Good => "good",
        Judgement::Damaged { .. } => "damaged",
        Judgement::DoesNotProve { .. } => "unproven",
    };
    let at = verdict.at.format(VERDICT_TIME);
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
