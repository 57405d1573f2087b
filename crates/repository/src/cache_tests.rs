use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use backstay_model::{Examination, Judgement, Manifest, RunId, SnapshotId, Verdict};

use crate::reach::Stored;
use crate::trial::{HeldClock, environment, fresh, key, options, snapshot};
use crate::{FaultyStore, FolderStore, MemoryStore, Options, Repository, Secret, Store, names};

async fn open(store: Arc<dyn Store>, secret: &Secret, cache: Option<&Path>) -> Repository {
    let options = Options { cache: cache.map(Path::to_owned), ..options(&HeldClock::default()) };
    Repository::open(store, secret, options).await.unwrap()
}

/// Manifests and verdicts, `count` of each, as if so many snapshots had been taken.
async fn fill(repository: &Repository, like: &Manifest, count: usize) {
    let reach = like.parts[0].facts.clone();
    let mut id = like.id.clone();
    for _ in 0..count {
        id = SnapshotId::successor(&id);
        let manifest = Manifest { id: id.clone(), ..like.clone() };
        let stored = Stored { manifest, reach: reach.clone() };
        let verdict = Verdict {
            environment: environment(),
            snapshot: id.clone(),
            examination: Examination::Check,
            judgement: Judgement::Good,
            at: id.moment(),
            run: RunId::new(id.moment(), 1),
            host: "web1".to_owned(),
        };
        for (key, json) in [
            (names::manifest(&environment(), &id), serde_json::to_vec(&stored).unwrap()),
            (format!("verdicts/production/{id}/{id}_0-good-00"), serde_json::to_vec(&verdict).unwrap()),
        ] {
            let sealed = repository.keys().seal_record(&key, &json);
            repository.store().put(&key, sealed.into(), crate::Put::Replace).await.unwrap();
        }
    }
    repository.store().barrier().await.unwrap();
}

fn gets(store: &FaultyStore) -> usize {
    store.log().iter().filter(|call| call.starts_with("get manifests") || call.starts_with("get verdicts")).count()
}

async fn ids(repository: &Repository) -> Vec<SnapshotId> {
    repository.list(None).await.unwrap().into_iter().map(|entry| entry.manifest.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_list_is_the_stores_list_and_reads_only_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let (store, clock, repository) = fresh().await;
    let first = snapshot(&repository, &clock, &[("rows", vec![1; 50])]).await.unwrap();
    fill(&repository, &first, 100).await;
    let uncached = ids(&repository).await;
    let watched = FaultyStore::new(Arc::new(store.clone()));
    for reads in [201, 0] {
        let before = gets(&watched);
        let cached = open(Arc::new(watched.clone()), &key(), Some(folder.path())).await;
        assert_eq!(ids(&cached).await, uncached);
        assert_eq!(gets(&watched) - before, reads);
    }
    let gone = names::manifest(&environment(), &uncached[3]);
    store.remove(&gone).await.unwrap();
    let cached = open(Arc::new(watched.clone()), &key(), Some(folder.path())).await;
    assert_eq!(ids(&cached).await.len(), 100, "what the store does not list is not there");
    store.tamper(&names::manifest(&environment(), &uncached[4]), |mut bytes| {
        bytes.pop();
        Some(bytes)
    });
    let listing = cached.listing(None).await.unwrap();
    assert_eq!((listing.entries.len(), listing.damage.len()), (99, 1), "what has another length is read again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_is_its_owners_and_may_be_spoilt_or_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (store, clock, repository) = fresh().await;
    let first = snapshot(&repository, &clock, &[("rows", vec![1; 50])]).await.unwrap();
    let small = open(Arc::new(store.clone()), &key(), Some(folder.path())).await;
    small.list(None).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a short list leaves nothing behind");
    fill(&repository, &first, 80).await;
    let wanted = ids(&repository).await;
    let cached = open(Arc::new(store.clone()), &key(), Some(folder.path())).await;
    assert_eq!(ids(&cached).await, wanted);
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let content = std::fs::read(&file).unwrap();
    assert!(!content.windows(10).any(|window| window == b"production"), "it is sealed as the repository is");
    for spoilt in [Vec::new(), content[..content.len() / 2].to_vec(), vec![7; 5000]] {
        std::fs::write(&file, spoilt).unwrap();
        assert_eq!(ids(&cached).await, wanted);
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(ids(&cached).await, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_ten_thousand_is_quick() {
    if std::env::var_os("BACKSTAY_TEST_FULL").is_none() {
        return;
    }
    let (root, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (memory, clock, template) = fresh().await;
    let first = snapshot(&template, &clock, &[("rows", vec![1; 50])]).await.unwrap();
    fill(&template, &first, 10_000).await;
    copy(&memory, root.path()).await;
    for what in ["without a cache", "first with a cache", "with a cache"] {
        let cache = (what != "without a cache").then(|| folder.path());
        let repository = open(Arc::new(FolderStore::new(root.path())), &key(), cache).await;
        let began = Instant::now();
        assert_eq!(repository.list(None).await.unwrap().len(), 10_001);
        eprintln!("a list of 10000 snapshots {what}: {:?}", began.elapsed());
    }
}

async fn copy(from: &MemoryStore, to: &Path) {
    for key in from.keys() {
        let path = to.join(&key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, from.get(&key).await.unwrap()).unwrap();
    }
}
