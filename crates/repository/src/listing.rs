//! All snapshots at once, however many there are.

use std::collections::{HashMap, HashSet};

use backstay_model::{Environment, Manifest, Verdict};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::cache::{Cache, Kept};
use crate::records::Entry;
use crate::{Damage, Error, Listed, Repository, names};

/// Records read side by side.
const SIDE_BY_SIDE: usize = 32;

/// The snapshots there are, and what keeps us from knowing more of them.
#[derive(Debug, Default)]
pub struct Listing {
    /// Newest first. One whose newest verdict is damaged is there without a verdict.
    pub entries: Vec<Entry>,
    /// Manifests and verdicts that cannot be read. What manifests they are is in [`Damage::snapshots`].
    pub damage: Vec<Damage>,
}

/// One snapshot, as the cache keeps it and as it is shown.
pub(crate) struct Row {
    pub(crate) key: String,
    pub(crate) manifest: Kept<Manifest>,
    pub(crate) verdict: Option<(String, Kept<Verdict>)>,
    pinned: bool,
}

/// What is still to be read of a snapshot, because the cache does not hold it.
struct Unread {
    listed: Listed,
    manifest: Option<Kept<Manifest>>,
    verdict: Option<Listed>,
    kept_verdict: Option<Kept<Verdict>>,
    pinned: bool,
}

enum Read {
    Row(Box<Row>, Option<Damage>),
    Damaged(Damage),
    Removed,
}

impl Repository {
    /// The snapshots of one environment, or of all, newest first. Those whose manifest cannot be read are
    /// left out: [`Repository::listing`] names them.
    pub async fn list(&self, environment: Option<&Environment>) -> Result<Vec<Entry>, Error> {
        Ok(self.listing(environment).await?.entries)
    }

    /// The snapshots of one environment, or of all. What [`crate::Options::cache`] holds of what the store
    /// lists is not read again.
    pub async fn listing(&self, environment: Option<&Environment>) -> Result<Listing, Error> {
        let folder = |folder: &str| environment.map_or_else(|| folder.to_owned(), |name| format!("{folder}/{name}"));
        let folders = [folder(names::MANIFESTS), folder(names::VERDICTS), folder(names::PINS)];
        let (manifests, verdicts, pins, cache) = futures_util::join!(
            self.listed_in(&folders[0]),
            self.listed_in(&folders[1]),
            self.listed_in(&folders[2]),
            self.cache()
        );
        let (manifests, verdicts, pins, mut cache) = (manifests?, verdicts?, pins?, cache);
        let pins: HashSet<&str> = pins.iter().filter_map(|pin| place_in(&pin.key)).collect();
        let (mut rows, unread) = from_cache(manifests, &newest(&verdicts), &pins, &mut cache);
        let mut listing = Listing::default();
        let mut new = 0;
        let mut reading = stream::iter(unread).map(|unread| self.read_row(unread)).buffer_unordered(SIDE_BY_SIDE);
        while let Some(read) = reading.try_next().await? {
            match read {
                Read::Row(row, damage) => {
                    new += 1 + usize::from(row.verdict.is_some());
                    rows.push(*row);
                    listing.damage.extend(damage);
                }
                Read::Damaged(damage) => listing.damage.push(damage),
                Read::Removed => {}
            }
        }
        drop(reading);
        // What is left in the cache of what was asked for is not listed any more.
        cache.forget(|key| environment.is_none_or(|of| place_in(key).is_some_and(|place| lies_in(place, of))));
        let rows = self.keep_cache(cache, rows, new).await?;
        listing.entries = rows.into_iter().map(Row::entry).collect();
        listing
            .entries
            .sort_by(|a, b| (&b.manifest.id, &a.manifest.environment).cmp(&(&a.manifest.id, &b.manifest.environment)));
        Ok(listing)
    }

    async fn listed_in(&self, folder: &str) -> Result<Vec<Listed>, Error> {
        self.store().list(folder).await.map_err(Error::store(folder))
    }

    async fn read_row(&self, unread: Unread) -> Result<Read, Error> {
        let Unread { listed, manifest, verdict, kept_verdict, pinned } = unread;
        let manifest = match manifest {
            Some(kept) => kept,
            None => match self.manifest(&listed.key).await {
                Ok(Some(stored)) => Kept { bytes: listed.bytes, record: stored.manifest },
                // Removed since it was listed.
                Ok(None) => return Ok(Read::Removed),
                Err(Error::Damaged(damage)) => return Ok(Read::Damaged(*damage)),
                Err(error) => return Err(error),
            },
        };
        let mut damage = None;
        let verdict = match (verdict, kept_verdict) {
            (None, _) => None,
            (Some(listed), Some(kept)) => Some((listed.key, kept)),
            (Some(listed), None) => match self.record(&listed.key).await {
                Ok(record) => record.map(|record| (listed.key, Kept { bytes: listed.bytes, record })),
                Err(Error::Damaged(found)) => {
                    damage = Some(*found);
                    None
                }
                Err(error) => return Err(error),
            },
        };
        Ok(Read::Row(Box::new(Row { key: listed.key, manifest, verdict, pinned }), damage))
    }
}

impl Row {
    fn entry(self) -> Entry {
        let verdict = self.verdict.map(|(_, kept)| kept.record);
        Entry { manifest: self.manifest.record, verdict, pinned: self.pinned }
    }
}

/// Takes out of the cache what it holds of what is listed.
fn from_cache(
    manifests: Vec<Listed>,
    newest: &HashMap<&str, &Listed>,
    pins: &HashSet<&str>,
    cache: &mut Cache,
) -> (Vec<Row>, Vec<Unread>) {
    let (mut rows, mut unread) = (Vec::with_capacity(manifests.len()), Vec::new());
    for listed in manifests {
        let place = place_in(&listed.key);
        let verdict = place.and_then(|place| newest.get(place).copied());
        let pinned = place.is_some_and(|place| pins.contains(place));
        let manifest = cache.manifests.remove(&listed.key).filter(|kept| kept.bytes == listed.bytes);
        let kept_verdict =
            verdict.and_then(|listed| cache.verdicts.remove(&listed.key).filter(|kept| kept.bytes == listed.bytes));
        match (manifest, verdict, kept_verdict) {
            (Some(manifest), None, _) => rows.push(Row { key: listed.key, manifest, verdict: None, pinned }),
            (Some(manifest), Some(verdict), Some(kept)) => {
                let verdict = Some((verdict.key.clone(), kept));
                rows.push(Row { key: listed.key, manifest, verdict, pinned });
            }
            (manifest, verdict, kept_verdict) => {
                unread.push(Unread { listed, manifest, verdict: verdict.cloned(), kept_verdict, pinned });
            }
        }
    }
    (rows, unread)
}

/// The newest verdict on each snapshot.
fn newest(verdicts: &[Listed]) -> HashMap<&str, &Listed> {
    let mut newest: HashMap<&str, &Listed> = HashMap::with_capacity(verdicts.len());
    for listed in verdicts {
        let Some((place, _)) = place_in(&listed.key).and_then(|rest| rest.rsplit_once('/')) else { continue };
        let known = newest.entry(place).or_insert(listed);
        if known.key < listed.key {
            *known = listed;
        }
    }
    newest
}

/// `<environment>/<snapshot>[/…]` in a key.
fn place_in(key: &str) -> Option<&str> {
    key.split_once('/').map(|(_, place)| place)
}

fn lies_in(place: &str, environment: &Environment) -> bool {
    place.split_once('/').is_some_and(|(found, _)| found == environment.as_str())
}
