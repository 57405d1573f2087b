use std::sync::Arc;

use proptest::prelude::*;

use crate::trial::{commit, environment, fresh, noise, options, read, reopen, snapshot, write};
use crate::{FolderStore, LeasePurpose, Repository, Secret, Store, trial};
use backstay_model::{Place, Root, Silent};

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_in_a_folder_is_read_back_by_somebody_who_only_has_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let clock = trial::HeldClock::default();
    let streams = [
        ("empty", vec![]),
        ("small", b"a row\n".to_vec()),
        ("large", noise(1, 9 << 20)),
        ("text", vec![b'x'; 3 << 20]),
    ];
    for secret in [trial::key(), Secret::None] {
        let root = folder.path().join(format!("{secret:?}"));
        let store: Arc<dyn Store> = Arc::new(FolderStore::new(&root));
        let repository = Repository::create(store, &secret, options(&clock)).await.unwrap();
        let manifest = snapshot(&repository, &clock, &streams).await.unwrap();
        drop(repository);

        let store: Arc<dyn Store> = Arc::new(FolderStore::new(&root));
        let repository = Repository::open(store, &secret, options(&clock)).await.unwrap();
        let entries = repository.list(None).await.unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].manifest, manifest);
        let found = read(&repository, &entries[0].manifest).await.unwrap();
        for (name, bytes) in &streams {
            assert!(found[*name] == *bytes, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_streams_share_everything_and_a_changed_byte_little() {
    let (_, clock, repository) = fresh().await;
    let lease = repository.lease(LeasePurpose::Write, &trial::run(&clock), Default::default(), &Silent).await.unwrap();
    let writer = repository.begin(&lease, &environment()).await.unwrap();
    let mut bytes = noise(2, 10 << 20);
    let first = write(writer.stream(), &bytes).await.unwrap();
    let stored = writer.bytes_stored();
    assert_eq!(write(writer.stream(), &bytes).await.unwrap(), first);
    assert_eq!(writer.bytes_stored(), stored);
    bytes[5 << 20] ^= 1;
    assert_ne!(write(writer.stream(), &bytes).await.unwrap(), first);
    assert!(writer.bytes_stored() - stored < 6 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_streams_share_an_object_and_are_read_before_and_after_it_is_stored() {
    let (store, clock, repository) = fresh().await;
    let streams: Vec<_> = (0..200).map(|n| (format!("t{n}"), noise(n, 300))).collect();
    let named: Vec<_> = streams.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    let lease = repository.lease(LeasePurpose::Write, &trial::run(&clock), Default::default(), &Silent).await.unwrap();
    let writer = repository.begin(&lease, &environment()).await.unwrap();
    let root = writer.bytes(b"read at once".to_vec()).await.unwrap();
    assert!(matches!(root.place, Place::Shared { .. }));
    assert_eq!(repository.read_whole(&root, 100).await.unwrap(), b"read at once");
    let manifest = commit(&writer, &named).await.unwrap();
    let objects = store.keys().iter().filter(|key| key.starts_with("objects/")).count();
    assert!(objects <= 4, "{objects} objects");
    let store: Arc<dyn Store> = Arc::new(store);
    let found = read(&reopen(&store, &clock).await.unwrap(), &manifest).await.unwrap();
    assert!(streams.iter().all(|(name, bytes)| found[name] == *bytes));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_what_its_root_says_is_not_read_to_the_end() {
    let (_, clock, repository) = fresh().await;
    let lease = repository.lease(LeasePurpose::Write, &trial::run(&clock), Default::default(), &Silent).await.unwrap();
    let writer = repository.begin(&lease, &environment()).await.unwrap();
    for length in [100, 300_000, 9 << 20] {
        let root = write(writer.stream(), &noise(4, length)).await.unwrap();
        let other = write(writer.stream(), &noise(5, length)).await.unwrap();
        let wrong = [
            Root { digest: other.digest, ..root.clone() },
            Root { place: other.place, ..root.clone() },
            Root { bytes: root.bytes + 1, ..root.clone() },
        ];
        for wrong in wrong {
            assert!(repository.read_whole(&wrong, u64::MAX).await.is_err(), "{length} bytes, {wrong:?}");
        }
        assert_eq!(repository.read_whole(&root, u64::MAX).await.unwrap().len(), length);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_longer_than_allowed_is_not_read_at_once() {
    let (_, clock, repository) = fresh().await;
    let manifest = snapshot(&repository, &clock, &[("rows", vec![1; 100])]).await.unwrap();
    assert!(repository.read_whole(&manifest.parts[0].contents, 10).await.is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("BACKSTAY_TEST_FULL").is_some() { 200 } else { 4 }))]

    #[test]
    fn any_stream_in_is_the_same_stream_out(seed: u64, length in prop_oneof![0usize..70_000, 60_000usize..9_000_000], piece in 1usize..2_000_000) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (_, clock, repository) = fresh().await;
            let lease = repository.lease(LeasePurpose::Write, &trial::run(&clock), Default::default(), &Silent).await.unwrap();
            let writer = repository.begin(&lease, &environment()).await.unwrap();
            let bytes = noise(seed, length);
            let mut stream = writer.stream();
            for piece in bytes.chunks(piece.max(length / 1000 + 1)) {
                stream.push(bytes::Bytes::copy_from_slice(piece)).await.unwrap();
            }
            let root = stream.finish().await.unwrap();
            assert!(repository.read_whole(&root, u64::MAX).await.unwrap() == bytes);
            let at_once = write(writer.stream(), &bytes).await.unwrap();
            assert_eq!(at_once.digest, root.digest);
        });
    }
}
