//! The real command, cut short at the statements it sends: killed, told to stop, or left without its server or
//! its repository. What is live is old or new, and what was said is so.

use std::fs;
use std::process::Stdio;
use std::sync::Arc;

use backstay_testkit::{Backstay, PrivateCluster, Proxy, Ran, S3_CREDENTIALS, S3Server, wait_until};
use tempfile::TempDir;

use crate::ground::Ground;
use crate::guides::{in_a_bucket, page};
use crate::killed_at_random::{Chance, is_full, is_whole, settles};
use crate::wire::{At, When, Wire, signal};

/// A project that reaches its database by a wire.
pub struct Wired<'cluster> {
    pub ground: Ground<'cluster>,
    pub wire: Wire,
    id: String,
    pub good: String,
    pub bad: String,
}

impl<'cluster> Wired<'cluster> {
    pub fn new(cluster: &'cluster PrivateCluster, database: &str) -> Self {
        Self::around(Ground::new(cluster, database))
    }

    /// The same, with its repository in a bucket that is reached at `endpoint`.
    fn in_a_bucket(cluster: &'cluster PrivateCluster, endpoint: &str) -> Self {
        let mut ground = Ground::bare(cluster, "shop");
        let (name, secret) = S3_CREDENTIALS;
        ground.backstay = ground.backstay.with("AWS_ACCESS_KEY_ID", name).with("AWS_SECRET_ACCESS_KEY", secret);
        let key = ground.repository().with_file_name("shop.key");
        ground.write("backstay.toml", &in_a_bucket(&page("s3.md"), &key, endpoint));
        let _ = ground.backstay.run(&["init"]).ended(0);
        Self::around(ground)
    }

    fn around(ground: Ground<'cluster>) -> Self {
        let wire = Wire::to(ground.cluster.port());
        wire.only_count();
        ground.write(
            ".env",
            &format!("DATABASE_URL=postgres://postgres@127.0.0.1:{}/{}\nRELEASE=1.0\n", wire.port(), ground.database),
        );
        let good = ground.state();
        let id = ground.snapshot();
        ground.bad_release();
        let bad = ground.state();
        Self { ground, wire, id, good, bad }
    }

    pub fn restore(&self) -> [&str; 3] {
        ["restore", &self.id, "--yes"]
    }

    fn states(&self) -> [&str; 2] {
        [&self.good, &self.bad]
    }

    /// Runs a command whose statements are counted.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.ground.backstay.command(arguments);
        let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a run");
        self.wire.is_of(&run);
        let output = run.wait_with_output().expect("the run is ours");
        self.wire.rest();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// How many statements of a command that nobody disturbs change something.
    fn counted(&self, arguments: &[&str]) -> usize {
        self.wire.only_count();
        let _ = self.run(arguments).ended(0);
        self.wire.statements().len()
    }

    /// Brings the bad release live, with nothing kept.
    fn begin_anew(&self) {
        self.wire.only_count();
        settles(&self.ground, &self.states());
        if self.ground.state() == self.good {
            self.ground.bad_release();
        }
        assert_eq!(self.ground.state(), self.bad);
    }

    /// Something happens to a restore at a statement, and is over once it has ended: it told the truth, and what is
    /// live is whole.
    fn comes_through(
        &self,
        at: At,
        when: When,
        what: &str,
        event: impl FnOnce(u32) + Send + 'static,
        over: impl FnOnce(),
    ) {
        self.wire.lay(at, when, event);
        let ran = self.run(&self.restore());
        assert!(self.wire.has_happened(), "{what}: it did not come to that");
        over();
        self.told_the_truth(&ran, &self.bad, what);
        is_whole(&self.ground, &self.states(), what);
        self.begin_anew();
    }

    /// What a command ended with is true, by what is live.
    fn told_the_truth(&self, ran: &Ran, before: &str, what: &str) {
        let state = self.ground.state();
        let said = format!("{what}\n{}\n{}", ran.stdout, ran.stderr);
        match ran.code {
            Some(0) => assert_ne!(state, before, "said to be done: {said}"),
            Some(3 | 10 | 11 | 12 | 20 | 130) => assert_eq!(state, before, "said to have changed nothing: {said}"),
            Some(13) => {}
            other => panic!("ended with {other:?}: {said}"),
        }
    }
}

/// Points of `count`: all of them, or so many by chance.
fn points(count: usize, few: usize, chance: &mut Chance) -> Vec<usize> {
    if is_full() {
        return (0..count).collect();
    }
    let below = u64::try_from(count).expect("a number of points");
    (0..few).map(|_| usize::try_from(chance.below(below)).expect("a point")).collect()
}

#[test]
fn killed_at_any_statement_of_restore_undo_and_settle_it_is_ended_whole() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let wired = Wired::new(&cluster, "shop");
    let mut chance = Chance::seeded();
    let restore = wired.restore();
    let commands: [&[&str]; 3] = [&restore, &["undo", "--yes"], &["settle"]];
    let counts = commands.map(|arguments| wired.counted(arguments));
    println!("{counts:?} statements of restore, undo and settle, each with a before and an after");
    assert!(counts.iter().all(|count| *count > 2), "{counts:?}");
    let mut killed = 0;
    for (command, (arguments, count)) in commands.iter().zip(counts).enumerate() {
        for point in points(count, 1, &mut chance) {
            let whens =
                if is_full() { vec![When::Before, When::After] } else { vec![[When::Before, When::After][point % 2]] };
            for when in whens {
                wired.begin_anew();
                for earlier in &commands[..command] {
                    let _ = wired.run(earlier).ended(0);
                }
                wired.wire.lay(At::Number(point), when, |process| signal(process, "KILL"));
                let ran = wired.run(arguments);
                killed += u32::from(ran.code.is_none());
                let what = format!(
                    "{arguments:?} killed {when:?} statement {point}: {:?}",
                    wired.wire.statements().get(point)
                );
                is_whole(&wired.ground, &wired.states(), &what);
            }
        }
    }
    println!("{killed} were killed");
    wired.begin_anew();
}

#[test]
fn without_its_server_a_restore_ends_by_itself_and_is_recovered_once_the_server_is_back() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let cluster = Arc::new(cluster);
    let wired = Wired::new(&cluster, "shop");
    let mut chance = Chance::seeded();
    let count = wired.counted(&wired.restore());
    let mut cases: Vec<At> = points(count, 1, &mut chance).into_iter().map(At::Number).collect();
    cases.extend([At::Text("copy "), At::Text("do ")]);
    for (number, at) in cases.into_iter().enumerate() {
        wired.begin_anew();
        // A server that crashes lets a sequence skip what it had logged ahead, unless that is on the disk.
        cluster.sql("postgres", "checkpoint");
        let (server, when) = (Arc::clone(&cluster), if number % 2 == 0 { When::Before } else { When::After });
        let what = format!("the server gone {when:?} {at:?}");
        wired.wire.lay(at, when, move |_| server.stop());
        let ran = wired.run(&wired.restore());
        assert!(wired.wire.has_happened(), "{what}: it did not come to that");
        // Whoever stops it would take the new one for the old one, which does not end.
        wait_until("the server is stopped", || Arc::strong_count(&cluster) == 1);
        cluster.start_again();
        assert_ne!(ran.code, Some(0), "{what}: called a success\n{}", ran.stdout);
        wired.told_the_truth(&ran, &wired.bad, &what);
        is_whole(&wired.ground, &wired.states(), &what);
    }
    wired.begin_anew();
}

#[test]
fn asked_to_stop_a_restore_stops_before_the_fence_and_goes_through_after_it() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let wired = Wired::new(&cluster, "shop");
    for name in ["INT", "TERM", "HUP"] {
        wired.wire.lay(At::Text("create database"), When::Before, move |process| signal(process, name));
        let ran = wired.run(&wired.restore()).ended(130);
        assert!(ran.stderr.contains("nothing was changed"), "{name}: {}", ran.stderr);
        assert_eq!(wired.ground.state(), wired.bad, "{name}");
        assert!(wired.ground.beside().is_empty(), "{name}: {:?}", wired.ground.beside());

        // The switch itself: from here on there is no half.
        wired.wire.lay(At::Text("do "), When::Before, move |process| signal(process, name));
        let ran = wired.run(&wired.restore()).ended(0);
        assert!(ran.stderr.contains("it was finished instead"), "{name}: {}", ran.stderr);
        assert_eq!(is_whole(&wired.ground, &wired.states(), name), wired.good, "{name}");
        wired.begin_anew();
    }
}

#[test]
fn without_its_repository_a_restore_changes_nothing_before_the_fence_and_is_whole_after_it() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let wired = Wired::new(&cluster, "shop");
    let (there, away) = (wired.ground.repository(), wired.ground.repository().with_extension("away"));
    for at in [At::Text("create database"), At::Text("copy "), At::Text("do ")] {
        let what = format!("the repository gone at {at:?}");
        let (from, to) = (there.clone(), away.clone());
        let goes = move |_| fs::rename(from, to).expect("the repository is moved");
        wired.comes_through(at, When::Before, &what, goes, || {
            // Something of it may have been made anew, to be written into.
            let _ = fs::remove_dir_all(&there);
            fs::rename(&away, &there).expect("the repository is back");
        });
    }
}

#[test]
fn without_its_bucket_a_restore_changes_nothing_before_the_fence_and_is_whole_after_it() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(S3Server::start());
    server.bucket("acme-backups");
    let upstream = server.endpoint().trim_start_matches("http://").to_owned();
    let proxy = Arc::new(runtime.block_on(Proxy::before(upstream)));
    let wired = Wired::in_a_bucket(&cluster, &proxy.endpoint());
    // Half a minute each: what is gone may come back, and is asked for again.
    let all = [At::Text("do "), At::Text("create database"), At::Text("copy ")];
    for at in all.into_iter().take(if is_full() { 3 } else { 1 }) {
        let what = format!("the bucket gone at {at:?}");
        let cut = Arc::clone(&proxy);
        wired.comes_through(at, When::Before, &what, move |_| cut.die_at(0), || proxy.behave());
    }
}

/// A host that slept so long that its lease had run out, and that another one had ended its run meanwhile.
#[test]
fn a_run_whose_lease_was_taken_over_while_it_slept_ends_without_harm() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let wired = Wired::new(&cluster, "shop");
    let elsewhere = TempDir::new().expect("the state folder of another host");
    for (at, when) in [
        (At::Text("create database"), When::After),
        (At::Text("copy "), When::Before),
        (At::Text("do "), When::Before),
        (At::Text("do "), When::After),
    ] {
        let what = format!("taken over {when:?} {at:?}");
        let mut other =
            Backstay::in_folder(&wired.ground.path(".")).with("BACKSTAY_STATE", elsewhere.path()).command(&["recover"]);
        let leases = wired.ground.repository().join("leases");
        let sleeps = move |process: u32| {
            signal(process, "STOP");
            fs::remove_dir_all(leases).expect("the leases have run out");
            let _ = other.output().expect("another host recovers");
            signal(process, "CONT");
        };
        wired.comes_through(at, when, &what, sleeps, || {});
    }
}
