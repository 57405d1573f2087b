//! What was read of manifests and verdicts, kept on this machine so that a long list is quick to read again.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstay_model::{Manifest, Verdict};
use serde::{Deserialize, Serialize};

use crate::listing::Row;
use crate::seal::{Keys, RECORD_BYTES_MAX};
use crate::task::compute;
use crate::{Error, Repository};

/// With fewer that are new the store is asked again: a small repository leaves nothing on this machine.
const NEW_MIN: usize = 64;

/// By key. The store's listing decides what there is; an entry counts only while the store lists its key
/// with its length. Neither manifests nor verdicts are ever rewritten.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Cache {
    pub(crate) manifests: HashMap<String, Kept<Manifest>>,
    pub(crate) verdicts: HashMap<String, Kept<Verdict>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Kept<T> {
    /// As stored.
    pub(crate) bytes: u64,
    pub(crate) record: T,
}

impl Cache {
    /// Forgets what is `gone`.
    pub(crate) fn forget(&mut self, gone: impl Fn(&str) -> bool) {
        self.manifests.retain(|key, _| !gone(key));
        self.verdicts.retain(|key, _| !gone(key));
    }
}

/// As [`Cache`], over what lies elsewhere.
#[derive(Serialize)]
struct Written<'a> {
    manifests: HashMap<&'a str, &'a Kept<Manifest>>,
    verdicts: HashMap<&'a str, &'a Kept<Verdict>>,
}

impl Repository {
    fn cache_path(&self) -> Option<PathBuf> {
        self.options().cache.as_ref().map(|folder| folder.join(&self.description().id))
    }

    /// Empty where there is none, or none that can be read.
    pub(crate) async fn cache(&self) -> Cache {
        let Some(path) = self.cache_path() else { return Cache::default() };
        let keys = Arc::clone(self.keys());
        compute(move || read(&keys, &path)).await.ok().flatten().unwrap_or_default()
    }

    /// Keeps `rows`, of which so many records are `new`, beside the `rest`. Failing to is no failure.
    pub(crate) async fn keep_cache(&self, rest: Cache, rows: Vec<Row>, new: usize) -> Result<Vec<Row>, Error> {
        let Some(path) = self.cache_path().filter(|_| new >= NEW_MIN) else { return Ok(rows) };
        let keys = Arc::clone(self.keys());
        compute(move || {
            let _ = write(&keys, &path, &rest, &rows);
            rows
        })
        .await
    }
}

/// What the file is bound to. No key of a store begins so.
fn name_of(path: &Path) -> String {
    format!(".cache/{}", path.file_name().unwrap_or_default().to_string_lossy())
}

fn read(keys: &Keys, path: &Path) -> Option<Cache> {
    let mut stored = Vec::new();
    fs::File::open(path).ok()?.take(RECORD_BYTES_MAX as u64).read_to_end(&mut stored).ok()?;
    serde_json::from_slice(&keys.open_record(&name_of(path), &stored).ok()?).ok()
}

/// Written beside and renamed; a temporary file is its owner's alone.
fn write(keys: &Keys, path: &Path, rest: &Cache, rows: &[Row]) -> Option<()> {
    let mut written = Written { manifests: HashMap::new(), verdicts: HashMap::new() };
    written.manifests.extend(rest.manifests.iter().map(|(key, kept)| (key.as_str(), kept)));
    written.verdicts.extend(rest.verdicts.iter().map(|(key, kept)| (key.as_str(), kept)));
    for row in rows {
        written.manifests.insert(&row.key, &row.manifest);
        if let Some((key, kept)) = &row.verdict {
            written.verdicts.insert(key, kept);
        }
    }
    let json = serde_json::to_vec(&written).ok().filter(|json| json.len() <= RECORD_BYTES_MAX)?;
    let folder = path.parent()?;
    fs::create_dir_all(folder).ok()?;
    let mut file = tempfile::NamedTempFile::new_in(folder).ok()?;
    file.write_all(&keys.seal_record(&name_of(path), &json)).ok()?;
    file.persist(path).ok().map(drop)
}
