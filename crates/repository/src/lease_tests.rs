use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstay_model::{Event, Listener, RunId, Silent};

use crate::trial::{self, HeldClock, environment, fresh, run};
use crate::{Error, LeasePurpose, LeaseTerms, MemoryStore, Repository, Store};

#[derive(Default)]
struct Heard(Mutex<Vec<Event>>);

impl Listener for Heard {
    fn hear(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

fn purposes() -> [LeasePurpose; 5] {
    let other = "staging".parse().unwrap();
    [
        LeasePurpose::Read,
        LeasePurpose::Write,
        LeasePurpose::Change(environment()),
        LeasePurpose::Change(other),
        LeasePurpose::Prune,
    ]
}

async fn other(store: &MemoryStore) -> (HeldClock, Repository) {
    let clock = HeldClock::default();
    let store: Arc<dyn Store> = Arc::new(store.clone());
    let repository = trial::reopen(&store, &clock).await.unwrap();
    (clock, repository)
}

#[tokio::test]
async fn who_shares_with_whom_is_this_table() {
    let (_, clock, repository) = fresh().await;
    for (row, held) in purposes().into_iter().enumerate() {
        let lease = repository.lease(held.clone(), &run(&clock), Duration::ZERO, &Silent).await.unwrap();
        for (column, wanted) in purposes().into_iter().enumerate() {
            let got = repository.lease(wanted, &run(&clock), Duration::ZERO, &Silent).await;
            let excluded = row == 4 || column == 4 || (row == column && matches!(row, 2 | 3));
            assert_eq!(matches!(got, Err(Error::Held { .. })), excluded, "{held:?} and {column}");
            if let Ok(lease) = got {
                lease.release().await;
            }
        }
        lease.release().await;
    }
}

#[tokio::test]
async fn runs_within_a_run_share_its_lease() {
    let (store, clock, repository) = fresh().await;
    let run: RunId = run(&clock);
    let outer = repository.lease(LeasePurpose::Change(environment()), &run, Duration::ZERO, &Silent).await.unwrap();
    let inner = repository.lease(LeasePurpose::Change(environment()), &run, Duration::ZERO, &Silent).await.unwrap();
    inner.release().await;
    outer.release().await;
    assert!(!store.keys().iter().any(|key| key.starts_with("leases/")));
}

#[tokio::test]
async fn one_who_waits_says_for_whom_and_gets_it_when_it_is_let_go() {
    let (_, clock, repository) = fresh().await;
    let terms = LeaseTerms { poll: Duration::from_millis(5), ..LeaseTerms::default() };
    let repository = repository.with_lease_terms(terms);
    let lease = repository.lease(LeasePurpose::Prune, &run(&clock), Duration::ZERO, &Silent).await.unwrap();
    let heard = Heard::default();
    let hour = Duration::from_secs(3600);
    let (second, ()) = tokio::join!(
        async { repository.lease(LeasePurpose::Write, &run(&clock), hour, &heard).await.unwrap() },
        async {
            while !lease.is_waited_for().await.unwrap() {
                tokio::task::yield_now().await;
            }
            lease.release().await;
        }
    );
    assert!(second.stands());
    let heard = heard.0.lock().unwrap();
    assert!(matches!(&heard[..], [Event::Waiting { on }] if on.contains("prune") && on.contains("web1")), "{heard:?}");
}

#[tokio::test]
async fn a_silent_holder_is_dead_on_the_observers_clock_and_knows_it_lost() {
    let (store, _, repository) = fresh().await;
    let (_, first) = other(&store).await;
    drop(repository);
    let holder = first.lease(LeasePurpose::Prune, &run(&HeldClock::default()), Duration::ZERO, &Silent).await.unwrap();
    let (clock, observer) = other(&store).await;
    let observer = observer.with_lease_terms(LeaseTerms { poll: Duration::from_millis(5), ..LeaseTerms::default() });
    let wait = Duration::from_secs(1000);
    let run = run(&clock);
    let passing = async {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            clock.advance(Duration::from_secs(40));
        }
    };
    let taken = tokio::select! {
        taken = observer.lease(LeasePurpose::Write, &run, wait, &Silent) => taken.unwrap(),
        () = passing => unreachable!(),
    };
    assert!(taken.stands());
    assert!(holder.standing().ensure().await.is_err());
    assert!(!holder.stands());
}

#[tokio::test]
async fn a_holder_that_slept_longer_than_its_lease_may_not_commit() {
    let (_, clock, repository) = fresh().await;
    let lease = repository.lease(LeasePurpose::Write, &run(&clock), Duration::ZERO, &Silent).await.unwrap();
    let writer = repository.begin(&lease, &environment()).await.unwrap();
    clock.advance(Duration::from_secs(400));
    let committed = trial::commit(&writer, &[("rows", vec![1; 10])]).await;
    assert!(matches!(committed, Err(Error::LeaseLost)), "{committed:?}");
    assert!(repository.list(None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_run_of_twelve_hours_may_not_commit() {
    let (_, clock, repository) = fresh().await;
    let terms = LeaseTerms { expiry: Duration::from_secs(1 << 30), ..LeaseTerms::default() };
    let repository = repository.with_lease_terms(terms);
    let lease = repository.lease(LeasePurpose::Write, &run(&clock), Duration::ZERO, &Silent).await.unwrap();
    let writer = repository.begin(&lease, &environment()).await.unwrap();
    clock.advance(Duration::from_secs(12 * 3600));
    let committed = trial::commit(&writer, &[("rows", vec![1; 10])]).await;
    assert!(matches!(committed, Err(Error::RunTooOld { hours: 12 })), "{committed:?}");
}

#[tokio::test]
async fn writers_side_by_side_never_reserve_the_same_id() {
    let (_, clock, repository) = fresh().await;
    let mut ids = std::collections::BTreeSet::new();
    let mut held = Vec::new();
    for _ in 0..5 {
        let lease = repository.lease(LeasePurpose::Write, &run(&clock), Duration::ZERO, &Silent).await.unwrap();
        let writer = repository.begin(&lease, &environment()).await.unwrap();
        assert!(ids.insert(writer.id().clone()));
        held.push((lease, writer));
    }
    for (_, writer) in &held {
        trial::commit(writer, &[("rows", vec![1; 10])]).await.unwrap();
    }
    drop(held);
    let newest = repository.list(None).await.unwrap()[0].manifest.id.clone();
    let lease = repository.lease(LeasePurpose::Write, &run(&clock), Duration::ZERO, &Silent).await.unwrap();
    assert!(*repository.begin(&lease, &environment()).await.unwrap().id() > newest);
}

#[tokio::test]
async fn whoever_writes_alone_gets_the_present_second_as_id() {
    let (_, clock, repository) = fresh().await;
    for round in 0..20 {
        clock.advance(Duration::from_secs(3600));
        let taken = trial::snapshot(&repository, &clock, &[("rows", vec![round])]).await.unwrap();
        assert_eq!(taken.id.moment(), backstay_model::Clock::now(&clock));
    }
}

#[tokio::test]
async fn a_lease_to_read_does_not_allow_to_write() {
    let (_, clock, repository) = fresh().await;
    let lease = repository.lease(LeasePurpose::Read, &run(&clock), Duration::ZERO, &Silent).await.unwrap();
    let begun = repository.begin(&lease, &environment()).await;
    assert!(matches!(begun, Err(Error::LeaseTooNarrow { .. })));
}
