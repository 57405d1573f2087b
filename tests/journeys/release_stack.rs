//! What happens to images, tags, files and containers between a deploy and the day it is taken back, on the real
//! engine.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use backstay_testkit::{left_out, server_from, wait_until};
use tempfile::TempDir;

use crate::discretion::does_not_hold;
use crate::ground::{bytes_under, change_line};
use crate::killed_at_random::is_full;
use crate::shop_stack::{GOOD, PASSWORD, Shop, State, free_port};

const EVERYTHING_UNUSED: &str = "a release whose images were pruned";

/// A registry that can go away and come back.
struct Registry {
    folder: TempDir,
    port: u16,
    server: Option<Child>,
}

impl Registry {
    fn start() -> Option<Self> {
        if !Command::new("docker-registry").arg("--version").stdout(Stdio::null()).status().is_ok_and(|it| it.success())
        {
            left_out(EVERYTHING_UNUSED, "docker-registry is not there: scripts/lab up registry installs it");
            return None;
        }
        let (folder, port) = (TempDir::new().expect("a folder for a registry"), free_port());
        let settings = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            folder.path().display()
        );
        fs::write(folder.path().join("settings.yml"), settings).expect("the registry's settings");
        let mut registry = Self { folder, port, server: None };
        registry.comes_back();
        Some(registry)
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn comes_back(&mut self) {
        let mut server = Command::new("docker-registry");
        server.arg("serve").arg(self.folder.path().join("settings.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        self.server = Some(server.spawn().expect("a registry starts"));
        wait_until("the registry answers", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    fn goes_away(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Makes an image of the lab one that is nowhere but here.
    fn takes(&self, from: &str, image: &str) {
        let own = format!("{}/{image}", self.address());
        let folder = TempDir::new().expect("a folder to build in");
        let text = format!("FROM {from}/{image}\nLABEL registry={}\n", self.address());
        fs::write(folder.path().join("Dockerfile"), text).expect("a Dockerfile");
        docker(&["build", "--quiet", "--tag", &own, &folder.path().display().to_string()]);
        docker(&["push", "--quiet", &own]);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.goes_away();
    }
}

/// The images that other tests need, pulled again once everything unused has gone.
struct Stock(Vec<String>);

impl Stock {
    fn of(registry: &str) -> Self {
        let listed =
            docker(&["images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", &format!("reference={registry}/*")]);
        Self(listed.lines().filter(|image| !image.ends_with(":<none>")).map(str::to_owned).collect())
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        for image in &self.0 {
            let _ = Command::new("docker").args(["pull", "--quiet", image]).stdout(Stdio::null()).status();
        }
    }
}

#[track_caller]
fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).env("DOCKER_BUILDKIT", "0").output().expect("docker runs");
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Builds the local image of the service `built` upon a release, and so moves its tag. What it is built upon stays for
/// as long as it does.
fn build(shop: &Shop, release: &str) {
    fs::create_dir_all(shop.path("built")).expect("a folder to build in");
    let text = format!("FROM {}/shop:{release}\nLABEL built=here\n", shop.registry);
    fs::write(shop.path("built/Dockerfile"), text).expect("a Dockerfile");
    docker(&["build", "--quiet", "--tag", &format!("{}-built", shop.name), &shop.path("built").display().to_string()]);
}

/// Beside what the shop is: a fixed name, three of one, one built here, and one that only its profile starts.
fn write_override(shop: &Shop) {
    let Shop { name, .. } = shop;
    let text = format!(
        "services:\n  app: {{container_name: {name}-front}}\n  worker: {{deploy: {{replicas: 3}}}}\n  built:\n    \
         build: ./built\n    command: [\"worker\"]\n    restart: unless-stopped\n    environment:\n      DATABASE_URL: \
         postgres://shop:${{POSTGRES_PASSWORD}}@db:5432/shop\n  report:\n    image: \
         ${{SHOP_REGISTRY}}/shop:${{SHOP_RELEASE}}\n    profiles: [tools]\n    command: [\"seed\"]\n"
    );
    fs::write(shop.path("compose.override.yml"), text).expect("an override");
}

/// A container that has nothing to do with the shop.
struct Stranger {
    id: String,
    began: String,
}

impl Stranger {
    fn starts(lab: &str) -> Self {
        let image = format!("{lab}/shop-redis:latest");
        let id = docker(&["run", "--detach", "--label", "com.docker.compose.project=stranger", &image]);
        let began = Self::now(&id);
        Self { id, began }
    }

    fn now(id: &str) -> String {
        docker(&["inspect", "--format", "{{.State.Status}} {{.State.StartedAt}} {{.Image}} {{.Name}}", id])
    }

    fn is_untouched(&self) -> bool {
        Self::now(&self.id) == self.began
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        docker(&["rm", "--force", &self.id]);
    }
}

/// What runs of each service and from which image. A one-shot that has ended belongs to the past.
fn running(shop: &Shop) -> BTreeMap<String, String> {
    let mut found = shop.images();
    found.remove("migrate");
    found
}

/// The shop's whole state, but for one-shots.
fn state(shop: &Shop) -> State {
    (running(shop), shop.files(), shop.database())
}

#[test]
fn a_release_comes_back_after_tags_moved_files_changed_and_everything_unused_was_pruned() {
    let Some(lab) = server_from("BACKSTAY_REGISTRY", EVERYTHING_UNUSED) else { return };
    let Some(mut registry) = Registry::start() else { return };
    let _stock = Stock::of(&lab);
    for image in ["shop:1.0", "shop:1.1", "shop-db:latest", "shop-redis:latest"] {
        registry.takes(&lab, image);
    }
    let Some(shop) = Shop::from_registry(&registry.address(), EVERYTHING_UNUSED) else { return };
    build(&shop, GOOD);
    write_override(&shop);
    shop.compose(&["up", "--detach", "--wait", "app", "worker", "built"]);
    shop.init();
    let stranger = Stranger::starts(&lab);
    let good = state(&shop);
    assert_eq!(good.0["worker"].matches("running").count(), 3, "{:?}", good.0);
    let id = shop.snapshot();

    // A bad release: other images under old tags here and at the registry, files edited after `up`, one gone.
    build(&shop, "1.1");
    shop.runs_script(&shop.deploys("1.1", "", "docker compose up --detach --no-deps built 2>&1"));
    docker(&["tag", &format!("{}/shop:1.1", shop.registry), &format!("{}/shop:1.0", shop.registry)]);
    docker(&["push", "--quiet", &format!("{}/shop:1.0", shop.registry)]);
    fs::remove_file(shop.path("config/shop.conf")).expect("a file goes");
    change_line(&shop.path("compose.yml"), "  redis:", "  redis:\n    stop_grace_period: 1s");
    shop.sql("update store.customers set name = 'of the bad release'");
    docker(&["image", "prune", "--all", "--force"]);
    docker(&["system", "prune", "--all", "--force"]);
    let bad = state(&shop);

    registry.goes_away();
    let refused = shop.backstay.run(&["restore", &id, "--yes"]);
    assert_ne!(refused.code, Some(0), "an image is nowhere: {}", refused.stdout);
    assert!(refused.stderr.contains("shop") && refused.stderr.contains("registry"), "{}", refused.stderr);
    assert_eq!(state(&shop), bad, "a refusal changed something");
    let seen = shop.backstay.run(&["doctor", "--json"]).json().to_string();
    assert!(seen.contains(&id), "doctor does not say which snapshot cannot be brought back: {seen}");

    registry.comes_back();
    let _ = shop.backstay.run(&["restore", &id, "--yes"]).ended(0);
    assert_eq!(state(&shop), good);
    does_not_hold(PASSWORD, "the plan", shop.backstay.run(&["restore", &id, "--plan", "--json"]).stdout.as_bytes());
    assert!(!shop.images().contains_key("report"), "a profile that nobody asked for was started");
    assert!(!shop.images().get("migrate").is_some_and(|all| all.contains("running")), "a one-shot was run again");
    assert!(stranger.is_untouched(), "a container of another project");

    // An operator's habit: it may make containers anew, and must not bring the bad release back.
    shop.compose(&["up", "--detach", "--no-build", "--wait", "app", "worker", "built"]);
    assert_eq!(state(&shop), good);

    let undone = shop.backstay.run(&["undo", "--yes", "--verbose"]).ended(0);
    assert_eq!(state(&shop), bad, "a restore is undone as well");
    does_not_hold(PASSWORD, "what undo said", format!("{}{}", undone.stdout, undone.stderr).as_bytes());
    for (file, bytes) in bytes_under(&shop.backstay.state()) {
        // What a restore replaced is kept as it was, for its owner alone.
        if !bytes.starts_with(b"SHOP_PROJECT=") {
            does_not_hold(PASSWORD, &file.display().to_string(), &bytes);
        }
    }
}

/// How else people start a stack: the file from standard input, and from a folder where it does not lie.
#[test]
fn a_stack_that_was_started_in_another_way_comes_back_as_well() {
    if !is_full() {
        return;
    }
    for (from, arguments) in [
        ("", "-f - up --detach --wait app worker <compose.yml"),
        ("cd /", "-f \"$FOLDER/compose.yml\" up --detach --wait app worker"),
    ] {
        let Some(shop) = Shop::without_repository("a stack that was started in another way") else { return };
        shop.compose(&["down", "--timeout", "1"]);
        let folder = shop.path("").display().to_string();
        let starts = format!("FOLDER={folder}\n{from}\ndocker compose -p {} {arguments} 2>&1", shop.name);
        shop.runs_script(&shop.script(&starts));
        shop.init();
        let before = state(&shop);
        let taken = shop.backstay.run(&["snapshot", "--json"]).ended(0).json();
        let id = taken["snapshot"]["id"].as_str().expect("an id");
        shop.runs_script(&shop.script(&format!("sed -i 's/^SHOP_RELEASE=.*/SHOP_RELEASE=1.1/' .env\n{starts}")));
        assert_ne!(running(&shop), before.0, "{arguments}: the deploy did nothing");
        let _ = shop.backstay.run(&["restore", id, "--yes"]).ended(0);
        assert_eq!(state(&shop), before, "{arguments}");
    }
}
