use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use backstay_model::{Environment, Examination, Judgement, ObjectId, RunId, SnapshotId, Verdict};
use futures_util::{StreamExt, stream};

use crate::description;
use crate::records::Place;
use crate::seal::{Kind, without_digest};
use crate::task::compute;
use crate::{Damage, Error, Flaw, Repository, Store, StoreError, names};

const SIDE_BY_SIDE: usize = 8;

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    pub snapshots: Vec<(Environment, SnapshotId)>,
    /// Objects and records read.
    pub examined: u64,
    pub bytes: u64,
    /// Objects left out because only a sample was asked for.
    pub left_out: u64,
    pub damage: Vec<Damage>,
}

impl CheckReport {
    pub fn is_good(&self) -> bool {
        self.damage.is_empty()
    }

    fn add(&mut self, key: &str, flaw: Flaw, object: Option<ObjectId>, hurt: BTreeSet<Place>) {
        self.damage.push(Damage { key: key.to_owned(), flaw, object, snapshots: hurt.into_iter().collect() });
    }
}

/// Compares everything a store holds with the digest it was stored with, and needs no key. What is
/// missing it cannot know.
pub async fn check_without_key(store: &Arc<dyn Store>) -> Result<CheckReport, Error> {
    let location = store.location();
    let Some((right, _)) = description::find(&**store).await? else {
        return Err(Error::NotARepository { location });
    };
    let mut report = CheckReport { damage: description::damage(&**store, &right).await?, ..CheckReport::default() };
    for folder in
        [names::KEYS, names::MANIFESTS, names::VERDICTS, names::PINS, names::RUNS, names::CONDEMNED, names::OBJECTS]
    {
        let listed = store.list(folder).await.map_err(Error::store(folder))?;
        let mut checks = stream::iter(listed).map(|listed| digest_of(store, listed.key)).buffer_unordered(SIDE_BY_SIDE);
        while let Some(found) = checks.next().await {
            let (key, bytes, flaw) = found?;
            report.examined += 1;
            report.bytes += bytes;
            if let Some(flaw) = flaw {
                let hurt = if folder == names::MANIFESTS { names::snapshot_of(&key) } else { None };
                report.add(&key, flaw, names::object_of(&key), hurt.into_iter().collect());
            }
        }
    }
    report.damage.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(report)
}

async fn digest_of(store: &Arc<dyn Store>, key: String) -> Result<(String, u64, Option<Flaw>), Error> {
    let stored = match store.get(&key).await {
        // Removed since it was listed.
        Err(StoreError::NotThere { .. }) => return Ok((key, 0, None)),
        stored => stored.map_err(Error::store(&key))?,
    };
    compute(move || {
        let flaw = match names::object_of(&key) {
            Some(id) => without_digest(id.as_bytes(), &stored),
            None => without_digest(key.as_bytes(), &stored),
        };
        let (bytes, flaw) = (stored.len() as u64, flaw.err());
        (key, bytes, flaw)
    })
    .await
}

/// What snapshots need, and which of them.
#[derive(Default)]
struct Needed {
    objects: BTreeMap<ObjectId, (Kind, BTreeSet<usize>)>,
    places: Vec<Place>,
}

impl Repository {
    /// Reads and verifies what snapshots need: of one, of an environment, or all. `sample` is the
    /// share of chunks that is read, in percent; manifests and lists always are.
    pub async fn check(
        &self,
        environment: Option<&Environment>,
        id: Option<&SnapshotId>,
        sample: u8,
    ) -> Result<CheckReport, Error> {
        let mut keys = self.keys_in(names::MANIFESTS).await?;
        keys.retain(|key| {
            names::snapshot_of(key).is_some_and(|(of, found)| {
                environment.is_none_or(|wanted| *wanted == of) && id.is_none_or(|wanted| *wanted == found)
            })
        });
        keys.sort();
        if let (Some(environment), Some(id), true) = (environment, id, keys.is_empty()) {
            return Err(Error::NoSuchSnapshot { environment: environment.clone(), id: id.clone() });
        }
        let damage = description::damage(self.store(), self.description()).await?;
        let mut report = CheckReport { damage, ..CheckReport::default() };
        let needed = self.needed(&keys, &mut report).await?;
        self.check_objects(needed, sample, &mut report).await?;
        if environment.is_none() {
            self.check_records(&mut report).await?;
        }
        report.damage.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(report)
    }

    async fn needed(&self, keys: &[String], report: &mut CheckReport) -> Result<Needed, Error> {
        let mut needed = Needed::default();
        let mut lists: HashMap<ObjectId, Vec<ObjectId>> = HashMap::new();
        for key in keys {
            let Some(place) = names::snapshot_of(key) else { continue };
            let index = needed.places.len();
            needed.places.push(place.clone());
            report.examined += 1;
            report.snapshots.push(place.clone());
            let stored = match self.manifest(key).await {
                Ok(Some(stored)) => stored,
                Ok(None) => continue,
                Err(Error::Damaged(damage)) => {
                    report.add(&damage.key, damage.flaw, None, [place].into());
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (reach, flaw) = self.reach_as_far_as_readable(&stored).await?;
            if let Some(Damage { key, flaw, object, .. }) = flaw {
                report.add(&key, flaw, object, [place].into());
            }
            let kinds = [(Kind::Chunk, &reach.chunks), (Kind::Bundle, &reach.bundles), (Kind::List, &reach.lists)];
            for (kind, id) in kinds.into_iter().flat_map(|(kind, ids)| ids.iter().map(move |id| (kind, *id))) {
                needed.objects.entry(id).or_insert_with(|| (kind, BTreeSet::new())).1.insert(index);
            }
            for list in &reach.lists {
                if !lists.contains_key(list) {
                    let entries = match self.list_object(list).await {
                        Ok(entries) => entries.into_iter().map(|(id, _)| id).collect(),
                        // Found again, and reported, with the objects.
                        Err(Error::Damaged(_)) => Vec::new(),
                        Err(error) => return Err(error),
                    };
                    lists.insert(*list, entries);
                }
                for chunk in lists.get(list).into_iter().flatten() {
                    needed.objects.entry(*chunk).or_insert_with(|| (Kind::Chunk, BTreeSet::new())).1.insert(index);
                }
            }
        }
        Ok(needed)
    }

    async fn check_objects(&self, needed: Needed, sample: u8, report: &mut CheckReport) -> Result<(), Error> {
        let picked: Vec<_> = needed
            .objects
            .into_iter()
            .filter(|(id, (kind, _))| {
                // By the id, so that the same share is read whoever asks; ids are evenly spread.
                let taken = *kind == Kind::List || u32::from(id.as_bytes()[31]) * 100 < u32::from(sample) * 256;
                report.left_out += u64::from(!taken);
                taken
            })
            .collect();
        let mut checks = stream::iter(picked)
            .map(async |(id, (kind, hurt))| (id, hurt, self.object(&id, kind).await))
            .buffer_unordered(SIDE_BY_SIDE);
        while let Some((id, hurt, read)) = checks.next().await {
            report.examined += 1;
            match read {
                Ok(bytes) => report.bytes += bytes.len() as u64,
                Err(Error::Damaged(damage)) => {
                    let hurt = hurt.into_iter().filter_map(|index| needed.places.get(index).cloned()).collect();
                    report.damage.retain(|known| known.object != Some(id));
                    report.add(&damage.key, damage.flaw, Some(id), hurt);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn check_records(&self, report: &mut CheckReport) -> Result<(), Error> {
        // A verdict that a newer one replaced decides nothing any more.
        let mut keys: Vec<String> = self.newest_verdicts().await?.into_values().collect();
        for folder in [names::PINS, names::RUNS, names::CONDEMNED] {
            keys.extend(self.keys_in(folder).await?);
        }
        for key in keys {
            report.examined += 1;
            if let Err(Error::Damaged(damage)) = self.record::<serde_json::Value>(&key).await {
                report.add(&key, damage.flaw, None, damage.snapshots.into_iter().collect());
            }
        }
        for path in crate::key::paths(self.store()).await? {
            report.examined += 1;
            if let Err(Error::Damaged(damage)) = crate::key::read(self.store(), &path).await {
                report.add(&path, damage.flaw, None, BTreeSet::new());
            }
        }
        Ok(())
    }

    /// Records what a check found of each snapshot it looked at. Of those found good only where all
    /// of them was read.
    pub async fn add_check_verdicts(&self, report: &CheckReport, run: &RunId) -> Result<(), Error> {
        for place in &report.snapshots {
            let hurting: Vec<_> = report.damage.iter().filter(|damage| damage.snapshots.contains(place)).collect();
            let judgement = if hurting.is_empty() {
                if report.left_out > 0 || self.was_proven_or_failed_to(place).await {
                    continue;
                }
                Judgement::Good
            } else {
                let objects = hurting.iter().filter_map(|damage| damage.object).collect();
                let findings = hurting.iter().map(|damage| format!("`{}` {}", damage.key, damage.flaw)).collect();
                Judgement::Damaged { objects, findings }
            };
            self.add_verdict(Verdict {
                environment: place.0.clone(),
                snapshot: place.1.clone(),
                examination: Examination::Check,
                judgement,
                at: self.clock().now(),
                run: run.clone(),
                host: self.options().host.clone(),
            })
            .await?;
        }
        Ok(())
    }

    /// A proof says more than a check that finds no damage: its word stays the newest, be it that the
    /// snapshot restores or that it does not.
    async fn was_proven_or_failed_to(&self, place: &Place) -> bool {
        let entry = self.entry(&place.0, &place.1).await;
        let decided = |verdict: &Verdict| {
            verdict.examination == Examination::Prove && !matches!(verdict.judgement, Judgement::Damaged { .. })
        };
        entry.is_ok_and(|entry| entry.verdict.as_ref().is_some_and(decided))
    }
}
