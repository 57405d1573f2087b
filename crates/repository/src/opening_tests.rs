use std::sync::Arc;

use crate::trial::{self, HeldClock, fresh, key, options, read, snapshot};
use crate::{Error, Fault, FaultyStore, Flaw, MemoryStore, Repository, Store, check_without_key};

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

const COPIES: [&str; 2] = ["backstay.json", "backstay.json.copy"];

#[tokio::test]
async fn a_description_that_is_lost_or_damaged_is_found_and_put_back_by_the_next_snapshot() {
    let (base, clock, repository) = fresh().await;
    let manifest = snapshot(&repository, &clock, &[("rows", vec![1; 50])]).await.unwrap();
    let length = base.get(COPIES[0]).await.unwrap().len();
    let flips = if std::env::var_os("BACKSTAY_TEST_FULL").is_some() { length * 8 } else { 16 };
    for (key, flip) in COPIES.iter().flat_map(|key| (0..=flips).map(move |flip| (*key, flip))) {
        let store = base.fork();
        store.tamper(key, |mut bytes| {
            let bit = (flip * 7919) % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            (flip < flips).then_some(bytes)
        });
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let opened = match trial::reopen(&shared, &clock).await {
            // A bit that makes a 9 of the 1.
            Err(Error::NewerFormat { .. }) => continue,
            opened => opened.unwrap(),
        };
        assert_eq!(read(&opened, &manifest).await.unwrap()["rows"], [1; 50]);
        // One that was never made is not missing: early repositories have none.
        let silent = flip == flips && key == COPIES[1];
        for report in [opened.check(None, None, 100).await, check_without_key(&shared).await] {
            let found: Vec<_> = report.unwrap().damage.into_iter().map(|damage| damage.key).collect();
            assert_eq!(found, if silent { vec![] } else { vec![key.to_owned()] }, "flip {flip}");
        }
        let again = create(&store).await;
        let is_first = key == COPIES[0];
        assert!(
            if is_first { matches!(again, Err(Error::Damaged(_))) } else { again.is_err() },
            "none is made over it: {:?}",
            again.err()
        );
        snapshot(&opened, &clock, &[("rows", vec![2; 50])]).await.unwrap();
        assert!(opened.check(None, None, 100).await.unwrap().is_good(), "{key}, flip {flip}");
        assert_eq!(store.get(COPIES[0]).await.unwrap(), base.get(COPIES[0]).await.unwrap());
        assert_eq!(store.get(COPIES[1]).await.unwrap(), base.get(COPIES[0]).await.unwrap());
    }
}

#[tokio::test]
async fn the_description_of_another_repository_is_found_out() {
    let (store, clock, _) = fresh().await;
    let (other, _, _) = fresh().await;
    let foreign = other.get(COPIES[0]).await.unwrap();
    store.tamper(COPIES[0], |_| Some(foreign.to_vec()));
    let shared: Arc<dyn Store> = Arc::new(store.clone());
    let Err(Error::Damaged(damage)) = trial::reopen(&shared, &clock).await else { panic!("it is no key's fault") };
    assert_eq!((damage.key.as_str(), damage.flaw), (COPIES[0], Flaw::Identity));
}

#[tokio::test]
async fn a_repository_that_lost_both_descriptions_is_damaged_and_none_is_made_over_it() {
    let (store, clock, repository) = fresh().await;
    snapshot(&repository, &clock, &[("rows", vec![1; 50])]).await.unwrap();
    for key in COPIES {
        store.tamper(key, |_| None);
    }
    let keys = store.keys();
    let shared: Arc<dyn Store> = Arc::new(store.clone());
    for outcome in [create(&store).await, trial::reopen(&shared, &clock).await] {
        let Err(Error::Damaged(damage)) = outcome else { panic!("it counts as whole, or as none at all") };
        assert_eq!((damage.key.as_str(), damage.flaw), (COPIES[0], Flaw::Missing));
    }
    assert_eq!(store.keys(), keys);
}
