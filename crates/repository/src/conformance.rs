//! What every store must do. Call [`conformance`] with an empty store from the tests of the crate
//! that implements it; it panics with a sentence that says what is wrong.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Put, Store, StoreError};

/// What a store is known not to do, so that its tests can say so instead of failing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowances {
    /// Creation replaces what is there, so leases alone protect.
    pub creates_twice: bool,
    /// Creation is refused, but two at the same moment may both succeed.
    pub races: bool,
}

/// Runs the whole suite against an empty store.
pub async fn conformance(store: Arc<dyn Store>, allowances: Allowances) {
    reads_back(&*store).await;
    replaces(&*store).await;
    if !allowances.creates_twice {
        creates_once(&*store).await;
        if !allowances.races {
            one_of_many_creates(&store).await;
        }
    }
    lists_a_folder(&*store).await;
    lists_many(&store).await;
    removes(&*store).await;
    takes_large_and_odd_bytes(&*store).await;
}

async fn put(store: &dyn Store, key: &str, bytes: &[u8], put: Put) {
    let done = store.put(key, Bytes::copy_from_slice(bytes), put).await;
    assert!(done.is_ok(), "putting `{key}` failed: {done:?}");
    let done = store.barrier().await;
    assert!(done.is_ok(), "the barrier failed: {done:?}");
}

async fn get(store: &dyn Store, key: &str) -> Bytes {
    match store.get(key).await {
        Ok(bytes) => bytes,
        Err(error) => panic!("getting `{key}` failed: {error:?}"),
    }
}

async fn keys(store: &dyn Store, folder: &str) -> BTreeSet<String> {
    match store.list(folder).await {
        Ok(listed) => {
            let count = listed.len();
            let keys: BTreeSet<_> = listed.into_iter().map(|listed| listed.key).collect();
            assert_eq!(keys.len(), count, "a listing names a key twice");
            keys
        }
        Err(error) => panic!("listing `{folder}` failed: {error:?}"),
    }
}

async fn reads_back(store: &dyn Store) {
    let missing = store.get("conform/absent").await;
    assert!(matches!(missing, Err(StoreError::NotThere { .. })), "what is absent is NotThere: {missing:?}");
    put(store, "conform/one", b"first", Put::Create).await;
    assert_eq!(get(store, "conform/one").await, "first", "what was created is read back");
}

async fn replaces(store: &dyn Store) {
    put(store, "conform/replaced", b"old and longer", Put::Replace).await;
    put(store, "conform/replaced", b"new", Put::Replace).await;
    assert_eq!(get(store, "conform/replaced").await, "new", "replacing leaves the new bytes alone");
}

async fn creates_once(store: &dyn Store) {
    put(store, "conform/created", b"first", Put::Create).await;
    let second = store.put("conform/created", Bytes::from_static(b"second"), Put::Create).await;
    assert!(matches!(second, Err(StoreError::AlreadyThere { .. })), "a second creation is refused: {second:?}");
    assert_eq!(get(store, "conform/created").await, "first", "a refused creation changes nothing");
}

async fn one_of_many_creates(store: &Arc<dyn Store>) {
    for round in 0..10 {
        let key = format!("conform/race/{round}");
        let racers = (0..8).map(|racer| {
            let (store, key) = (Arc::clone(store), key.clone());
            tokio::spawn(async move { store.put(&key, format!("racer {racer}").into(), Put::Create).await.is_ok() })
        });
        let won = futures_util::future::join_all(racers).await;
        let won = won.into_iter().filter(|won| matches!(won, Ok(true))).count();
        assert_eq!(won, 1, "one of many who create at once succeeds");
    }
}

async fn lists_a_folder(store: &dyn Store) {
    assert!(keys(store, "conform/nothing").await.is_empty(), "a folder that is not there lists as empty");
    for key in ["conform/a/1", "conform/a/b/2", "conform/ab/3"] {
        put(store, key, key.as_bytes(), Put::Replace).await;
    }
    let expected: BTreeSet<_> = ["conform/a/1".to_owned(), "conform/a/b/2".to_owned()].into();
    assert_eq!(keys(store, "conform/a").await, expected, "a listing is of the folder, and of all below it");
    let sizes = store.list("conform/a").await.unwrap_or_default();
    assert!(sizes.iter().all(|listed| listed.bytes == listed.key.len() as u64), "a listing tells sizes: {sizes:?}");
}

/// More than a page of every server.
async fn lists_many(store: &Arc<dyn Store>) {
    let names: BTreeSet<_> = (0..1100).map(|number| format!("conform/many/{number:04}")).collect();
    let writes: Vec<_> = names.iter().cloned().collect();
    for batch in writes.chunks(32) {
        let puts = batch.iter().map(|key| store.put(key, Bytes::from_static(b"x"), Put::Replace));
        let done = futures_util::future::join_all(puts).await;
        assert!(done.iter().all(Result::is_ok), "many side by side are put: {done:?}");
    }
    assert!(store.barrier().await.is_ok(), "the barrier holds for many");
    assert_eq!(keys(&**store, "conform/many").await, names, "a long listing is whole");
}

async fn removes(store: &dyn Store) {
    put(store, "conform/removed", b"x", Put::Replace).await;
    for _ in 0..2 {
        let removed = store.remove("conform/removed").await;
        assert!(removed.is_ok(), "removing, and removing what is absent, is no error: {removed:?}");
    }
    let gone = store.get("conform/removed").await;
    assert!(matches!(gone, Err(StoreError::NotThere { .. })), "what was removed is NotThere: {gone:?}");
    assert!(!keys(store, "conform").await.contains("conform/removed"), "what was removed is not listed");
    put(store, "conform/removed", b"again", Put::Create).await;
}

async fn takes_large_and_odd_bytes(store: &dyn Store) {
    let every: Vec<u8> = (0..=255).cycle().take(9 << 20).collect();
    put(store, "conform/large", &every, Put::Replace).await;
    assert!(get(store, "conform/large").await == every, "nine megabytes come back as they were");
    put(store, "conform/empty", b"", Put::Replace).await;
    assert!(get(store, "conform/empty").await.is_empty(), "an empty object is an object");
}
