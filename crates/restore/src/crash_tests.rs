//! The crash matrix: every effect of every command, killed there, then recovered. The points count
//! themselves, so a new effect is a new point.

use std::collections::BTreeMap;

use backstay_model::Outcome;
use backstay_part::Site;
use backstay_part::fakes::{SICK, Sight};
use backstay_run::Interrupt;
use backstay_run::fakes::{Trip, Tripwire};

use crate::ground::{Ground, Host, restore};
use crate::{Choices, Ending, Error, Restored, history, recover, settle, status, undo};

const OLD: [&str; 3] = ["rows of today", "image 2", "config 2"];
const NEW: [&str; 3] = ["rows of then", "image 1", "config 1"];

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Restore,
    /// What is restored turns out to be unhealthy and is taken back.
    RestoreSick,
    Undo,
    UndoOfUndo,
    Settle,
    Discard,
}

const COMMANDS: [Command; 6] =
    [Command::Restore, Command::RestoreSick, Command::Undo, Command::UndoOfUndo, Command::Settle, Command::Discard];

/// What a command told whoever called it.
#[derive(Debug)]
enum Told {
    Restored(Restored),
    Settled,
    Failed(Error),
}

impl Command {
    async fn ground(self) -> Ground {
        let ground = match self {
            Self::RestoreSick => Ground::with_release([NEW[0], SICK, NEW[2]], OLD).await,
            _ => Ground::with_release(NEW, OLD).await,
        };
        let before: u32 = match self {
            Self::Restore | Self::RestoreSick => 0,
            Self::Undo | Self::Settle | Self::Discard => 1,
            Self::UndoOfUndo => 2,
        };
        for round in 0..before {
            let done = match round {
                0 => ground.calmly(Host::One, restore).await,
                _ => ground.calmly(Host::One, undo_newest).await,
            };
            assert_eq!(done.unwrap().outcome, Outcome::Done);
        }
        ground
    }

    async fn run(self, site: &Site<'_>) -> Told {
        let told = match self {
            Self::Restore | Self::RestoreSick => restore(site).await.map(Told::Restored),
            Self::Undo | Self::UndoOfUndo => undo_newest(site).await.map(Told::Restored),
            Self::Settle => settle(site, None, false).await.map(|_| Told::Settled),
            Self::Discard => settle(site, None, true).await.map(|_| Told::Settled),
        };
        told.unwrap_or_else(Told::Failed)
    }

    fn settles(self) -> bool {
        matches!(self, Self::Settle | Self::Discard)
    }
}

/// What is live where the command goes through; the sick release only where nobody could look at it.
fn target(command: Command, new: &Sight) -> BTreeMap<String, String> {
    match command {
        Command::RestoreSick => BTreeMap::from(
            [("database", NEW[0]), ("images", SICK), ("files", NEW[2])]
                .map(|(part, value)| (part.into(), value.into())),
        ),
        _ => new.live.clone(),
    }
}

async fn undo_newest(site: &Site<'_>) -> Result<Restored, Error> {
    undo(site, None, &Choices::default()).await
}

/// One cell of the matrix: where it was killed, and who found it.
struct Case {
    name: String,
    command: Command,
    old: Sight,
    new: Sight,
}

impl Case {
    /// Nothing is half, nothing is orphaned, and history says what is so.
    async fn is_ended(&self, ground: &Ground) {
        let name = &self.name;
        let sight = ground.look();
        let running = sight.running.as_ref();
        assert_eq!(Some(&sight.live), running, "{name}: what runs is what is live");
        let is_new = sight.live == target(self.command, &self.new);
        assert!(is_new || sight.live == self.old.live, "{name}: neither old nor new: {:?}", sight.live);
        let looked = ground
            .calmly(Host::One, async |site: &Site<'_>| (status(site).await.unwrap(), history(site).await.unwrap()));
        let (status, history) = looked.await;
        assert!(status.unfinished.is_empty(), "{name}: {:?}", status.unfinished);
        assert!(history.iter().all(|record| record.ended_at.is_some()), "{name}: an open record");
        let staged: usize = status.kept.iter().filter(|kept| kept.only_copy).map(|kept| kept.parts.len()).sum();
        assert_eq!(sight.staged.len(), staged, "{name}: staged copies nobody knows of: {:?}", sight.staged);
        let kept: usize = status.kept.iter().filter(|kept| !kept.only_copy).map(|kept| kept.parts.len()).sum();
        assert_eq!(sight.kept.len(), kept, "{name}: kept things nobody knows of: {:?}", sight.kept);
        assert!(!ground.store.keys().iter().any(|key| key.starts_with("leases/")), "{name}: a lease is left");
    }

    /// What was said is so.
    fn was_told_the_truth(&self, told: &Told, sight: &Sight) {
        let name = &self.name;
        match told {
            Told::Restored(restored) if restored.outcome == Outcome::Done => {
                assert_eq!(sight.live, target(self.command, &self.new), "{name}: said to be done");
            }
            Told::Restored(restored) if restored.outcome == Outcome::TakenBack => {
                assert_eq!(sight.live, self.old.live, "{name}: said to be taken back");
            }
            Told::Restored(restored) => assert_eq!(restored.outcome, Outcome::Stuck, "{name}"),
            Told::Settled => assert_eq!(sight.kept, self.new.kept, "{name}: said to be settled"),
            Told::Failed(_) if self.command.settles() => {}
            Told::Failed(error) => {
                assert_eq!(sight.live, self.old.live, "{name}: said to have changed nothing: {error}");
                assert_eq!(sight.running, self.old.running, "{name}: {error}");
            }
        }
    }

    async fn recovers(&self, ground: &Ground, host: Host) {
        let name = &self.name;
        let recovered = ground.calmly(host, async |site: &Site<'_>| recover(site, None).await);
        let recovered =
            recovered.await.unwrap_or_else(|error| panic!("{name}: {}", backstay_model::with_causes(&error)));
        let live = ground.look().live;
        match recovered.map(|recovered| recovered.ending) {
            Some(Ending::Finished) if !self.command.settles() => {
                assert_eq!(live, target(self.command, &self.new), "{name}: finished");
            }
            Some(Ending::Abandoned | Ending::TakenBack) => assert_eq!(live, self.old.live, "{name}: taken back"),
            Some(ending @ (Ending::Stands | Ending::Undecided)) => panic!("{name}: {ending:?}"),
            _ => {}
        }
        // The host that died comes back, and what is left of the run there ends the same way.
        let back = ground.calmly(Host::One, async |site: &Site<'_>| recover(site, None).await).await.unwrap();
        assert!(host == Host::Other || back.is_none(), "{name}: there is more to recover: {back:?}");
        assert_eq!(ground.look().live, live, "{name}: the host that came back changed what is live");
        if host == Host::One {
            return;
        }
        let again = ground.calmly(host, async |site: &Site<'_>| recover(site, None).await);
        assert!(again.await.unwrap().is_none(), "{name}: there is more to recover");
    }
}

/// What there is before and after the command, and its points.
async fn measured(command: Command) -> (Ground, Sight, Sight, Vec<String>) {
    let ground = command.ground().await;
    let old = ground.look();
    let whole = ground.fork();
    let wire = Tripwire::default();
    let told = whole.act(Host::One, &wire, async |site: &Site<'_>| command.run(site).await).await.unwrap();
    let new = match told {
        Told::Failed(error) => panic!("{command:?}: {error}"),
        _ => whole.look(),
    };
    (ground, old, new, wire.points())
}

#[tokio::test]
async fn killed_at_every_effect_it_recovers_to_old_or_new_on_this_host_and_on_another() {
    let mut points = 0;
    for command in COMMANDS {
        let (ground, old, new, names) = measured(command).await;
        println!("{command:?}: {} points", names.len());
        for (point, at) in names.iter().enumerate() {
            for host in [Host::One, Host::Other] {
                points += 1;
                let name = format!("{command:?} killed at {point} ({at}), recovered on {host:?}");
                let case = Case { name, command, old: old.clone(), new: new.clone() };
                let ground = ground.fork();
                let wire = Tripwire::at(point, Trip::Die);
                let told = ground.act(Host::One, &wire, async |site: &Site<'_>| command.run(site).await).await;
                assert!(told.is_none(), "{}: it did not die", case.name);
                ground.expire_leases();
                case.recovers(&ground, host).await;
                case.is_ended(&ground).await;
            }
        }
    }
    println!("{points} points in all");
    assert!(points > 500, "only {points} points");
}

#[tokio::test]
async fn told_to_fail_at_every_effect_it_says_what_is_so() {
    let mut points = 0;
    for command in COMMANDS {
        let (ground, old, new, names) = measured(command).await;
        for (point, at) in names.iter().enumerate() {
            // What is gone for good takes the same ways back; a third of the points shows that.
            let modes: &[bool] = if is_full() || point % 3 == 0 { &[false, true] } else { &[false] };
            for gone in modes.iter().copied() {
                points += 1;
                let case = Case {
                    name: format!("{command:?} failing at {point} ({at}), gone for good: {gone}"),
                    command,
                    old: old.clone(),
                    new: new.clone(),
                };
                let ground = ground.fork();
                let wire = Tripwire::at(point, if gone { Trip::Gone } else { Trip::Fail });
                let told = ground.act(Host::One, &wire, async |site: &Site<'_>| command.run(site).await).await;
                case.was_told_the_truth(&told.unwrap(), &ground.look());
                ground.expire_leases();
                case.recovers(&ground, Host::One).await;
                case.is_ended(&ground).await;
            }
        }
    }
    println!("{points} points in all");
}

#[tokio::test]
async fn asked_to_stop_at_every_effect_it_stops_before_the_fence_and_goes_through_after_it() {
    let mut stopped = 0;
    let mut finished = 0;
    for command in COMMANDS {
        let (ground, old, new, names) = measured(command).await;
        for (point, at) in names.iter().enumerate() {
            let name = format!("{command:?} asked to stop at {point} ({at})");
            let case = Case { name, command, old: old.clone(), new: new.clone() };
            let ground = ground.fork();
            let interrupt = Interrupt::default();
            let request = interrupt.clone();
            let wire = Tripwire::at(point, Trip::Meanwhile(Box::new(move || request.request())));
            let act = async |site: &Site<'_>| command.run(site).await;
            let told = ground.act_until(Host::One, &wire, &interrupt, act).await.unwrap();
            match &told {
                Told::Failed(Error::Interrupted) => stopped += 1,
                Told::Failed(error) => panic!("{}: {error}", case.name),
                _ => finished += 1,
            }
            case.was_told_the_truth(&told, &ground.look());
            case.is_ended(&ground).await;
        }
    }
    println!("{stopped} stopped, {finished} went through");
    assert!(stopped > 50 && finished > 50, "{stopped} stopped, {finished} went through");
}

fn is_full() -> bool {
    std::env::var_os("BACKSTAY_TEST_FULL").is_some()
}

/// Every how many cells of point times point are tried: all of them take minutes.
const STRIDE: usize = 53;

#[tokio::test]
async fn a_recovery_that_is_killed_in_its_turn_is_recovered() {
    let stride = if is_full() { 1 } else { STRIDE };
    let mut cells = 0;
    for command in COMMANDS {
        let (ground, old, new, names) = measured(command).await;
        for (point, at) in names.iter().enumerate() {
            let host = if point % 2 == 0 { Host::One } else { Host::Other };
            let dead = ground.fork();
            let wire = Tripwire::at(point, Trip::Die);
            dead.act(Host::One, &wire, async |site: &Site<'_>| command.run(site).await).await;
            dead.expire_leases();
            let whole = Tripwire::default();
            let recovered = dead.fork().act(host, &whole, async |site: &Site<'_>| recover(site, None).await).await;
            recovered.unwrap().unwrap();
            for again in (0..whole.points().len()).filter(|again| (point + again) % stride == 0) {
                cells += 1;
                let name = format!("{command:?} killed at {point} ({at}), its recovery on {host:?} at {again}");
                let case = Case { name, command, old: old.clone(), new: new.clone() };
                let ground = dead.fork();
                let wire = Tripwire::at(again, Trip::Die);
                let told = ground.act(host, &wire, async |site: &Site<'_>| recover(site, None).await).await;
                assert!(told.is_none(), "{}: it did not die", case.name);
                ground.expire_leases();
                case.recovers(&ground, if again % 2 == 0 { Host::One } else { Host::Other }).await;
                ground.calmly(host, async |site: &Site<'_>| recover(site, None).await).await.unwrap();
                case.is_ended(&ground).await;
            }
        }
    }
    println!("{cells} cells");
    assert!(cells > 200, "only {cells} cells");
}
