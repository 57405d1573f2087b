use std::sync::Arc;

use crate::trial::{self, HeldClock, fresh, key, options, snapshot};
use crate::{Error, Fault, FaultyStore, Flaw, MemoryStore, Repository, Store};

async fn create(store: &MemoryStore) -> Result<Repository, Error> {
    Repository::create(Arc::new(store.clone()), &key(), options(&HeldClock::default())).await
}

#[tokio::test]
async fn a_making_that_dies_or_fails_at_any_call_can_be_done_again() {
    for fault in [Fault::Crashes, Fault::Fails, Fault::LosesReply] {
        for call in 0.. {
            let store = MemoryStore::default();
            let faulty = FaultyStore::new(Arc::new(store.clone())).with(call, fault);
            let made =
                Repository::create(Arc::new(faulty.clone()), &key(), options(&HeldClock::default())).await.is_ok();
            match create(&store).await {
                Ok(_) => assert!(!made, "{fault:?} at call {call}"),
                Err(error) => assert!(matches!(error, Error::AlreadyARepository { .. }), "{call}: {error:?}"),
            }
            let shared: Arc<dyn Store> = Arc::new(store.clone());
            let opened = trial::reopen(&shared, &HeldClock::default()).await.unwrap();
            assert_eq!(opened.list_keys().await.unwrap().len(), 1, "{fault:?} at call {call}");
            if faulty.calls() <= call {
                assert!(made);
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_key_left_by_a_making_that_died_does_not_count_as_one_that_is_left() {
    let store = MemoryStore::default();
    // The key is written, and then the process dies.
    let mut left = false;
    for call in 0..10 {
        let faulty = FaultyStore::new(Arc::new(store.clone())).with(call, Fault::Crashes);
        let made = Repository::create(Arc::new(faulty), &key(), options(&HeldClock::default())).await;
        assert!(made.is_err());
        left = store.keys().iter().any(|key| key.starts_with("keys/"));
        if left {
            break;
        }
    }
    assert!(left);
    let made = create(&store).await.unwrap();
    let keys = made.list_keys().await.unwrap();
    assert_eq!((keys.len(), store.keys().iter().filter(|key| key.starts_with("keys/")).count()), (1, 1));
    assert!(matches!(made.remove_key(&keys[0].id).await, Err(Error::LastKey { .. })));
}

#[tokio::test]
async fn a_repository_that_lost_its_description_is_damaged_and_none_is_made_over_it() {
    let (store, clock, repository) = fresh().await;
    snapshot(&repository, &clock, &[("rows", vec![1; 50])]).await.unwrap();
    store.tamper("backstay.json", |_| None);
    let keys = store.keys();
    let shared: Arc<dyn Store> = Arc::new(store.clone());
    for outcome in [create(&store).await, trial::reopen(&shared, &clock).await] {
        let Err(Error::Damaged(damage)) = outcome else { panic!("it counts as whole, or as none at all") };
        assert_eq!((damage.key.as_str(), damage.flaw), ("backstay.json", Flaw::Missing));
    }
    assert_eq!(store.keys(), keys);
}
