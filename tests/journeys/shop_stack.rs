//! The sample shop as a Compose stack on the real engine, with customers, and its whole state as one text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use backstay_testkit::{Backstay, left_out, majors, server_from, wait_until};
use tempfile::TempDir;

use crate::ground::{change_line, snapshot_with};
use crate::tidy::files_under;

pub const PASSWORD: &str = "sample-only";
/// The release that a stack begins with.
pub const GOOD: &str = "1.0";

/// What runs of each service, the files, and the database.
pub type State = (BTreeMap<String, String>, String, String);

/// One shop: a folder with its files, its containers, and the command that looks after both.
pub struct Shop {
    folder: TempDir,
    pub name: String,
    pub registry: String,
    pub port: u16,
    database_port: u16,
    pub backstay: Backstay,
}

impl Shop {
    /// A shop that runs and has a repository. Nothing where there is no engine, or no image of the shop.
    pub fn start(what: &str) -> Option<Self> {
        let shop = Self::without_repository(what)?;
        shop.init();
        Some(shop)
    }

    /// Gives it a repository, and says when it is healthy.
    pub fn init(&self) {
        let _ = self.backstay.run(&["init", "--project", &self.name]).ended(0);
        self.configure(&format!(
            "[health.api]\nhttp = \"http://127.0.0.1:{}/health\"\ninterval = \"300ms\"\ntimeout = \"5s\"\n\n[guard]\n\
             ready_within = \"4s\"\nsettle_window = \"2s\"",
            self.port
        ));
    }

    pub fn without_repository(what: &str) -> Option<Self> {
        let registry = server_from("BACKSTAY_REGISTRY", what)?;
        Self::from_registry(&registry, what)
    }

    /// The same, with images of another registry than the lab's.
    pub fn from_registry(registry: &str, what: &str) -> Option<Self> {
        server_from("DOCKER_HOST", what)?;
        let registry = registry.to_owned();
        let image = format!("{registry}/shop:{GOOD}");
        let there = Command::new("docker").args(["image", "inspect", &image]).stdout(Stdio::null()).status();
        if !there.is_ok_and(|status| status.success()) {
            left_out(what, &format!("{image} is not there: fixtures/shop/build makes it"));
            return None;
        }
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let name = format!("bstshop{}x{}", std::process::id(), STARTED.fetch_add(1, Ordering::SeqCst));
        let folder = TempDir::new().expect("a folder for the shop");
        let (port, database_port) = (free_port(), free_port());
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/shop");
        let copied = [".env", "compose.yml", "config", "migrations"].map(|each| fixture.join(each));
        let status = Command::new("cp").arg("-r").args(copied).arg(folder.path()).status().expect("cp runs");
        assert!(status.success());
        fs::create_dir(folder.path().join("next")).expect("a folder for what comes next");
        let next = Command::new("cp").arg("-r").arg(fixture.join("migrations-next")).arg(folder.path()).status();
        assert!(next.is_ok_and(|status| status.success()));
        let backstay = Backstay::in_folder(folder.path());
        let shop = Self { folder, name, registry, port, database_port, backstay };
        shop.settings(GOOD, "");
        // A container can read it whoever it runs as.
        fs::set_permissions(shop.path("config"), fs::Permissions::from_mode(0o755)).expect("rights of a folder");
        shop.compose(&["up", "--detach", "--quiet-pull", "--wait", "app", "worker"]);
        Some(shop)
    }

    /// Writes the env file of a release.
    fn settings(&self, release: &str, more: &str) {
        let Self { name, registry, port, database_port, .. } = self;
        let text = format!(
            "SHOP_PROJECT={name}\nSHOP_REGISTRY={registry}\nSHOP_RELEASE={release}\nSHOP_PORT={port}\n\
             SHOP_DB_PORT={database_port}\nPOSTGRES_PASSWORD={PASSWORD}\n\
             DATABASE_URL=postgres://shop:{PASSWORD}@127.0.0.1:{database_port}/shop\n{more}"
        );
        fs::write(self.path(".env"), text).expect("the env file");
        fs::set_permissions(self.path(".env"), fs::Permissions::from_mode(0o600)).expect("rights of the env file");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn configure(&self, more: &str) {
        let text = fs::read_to_string(self.path("backstay.toml")).expect("backstay.toml is read");
        fs::write(self.path("backstay.toml"), format!("{text}\n{more}\n")).expect("backstay.toml is written");
    }

    /// Changes one line of backstay.toml that begins with `begin`.
    #[track_caller]
    pub fn reconfigure(&self, begin: &str, line: &str) {
        change_line(&self.path("backstay.toml"), begin, line);
    }

    pub fn try_docker(&self, arguments: &[&str]) -> Result<String, String> {
        let output =
            Command::new("docker").args(arguments).current_dir(self.folder.path()).output().expect("docker runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> String {
        self.try_docker(arguments).unwrap_or_else(|said| panic!("docker {arguments:?}: {said}"))
    }

    #[track_caller]
    pub fn compose(&self, arguments: &[&str]) -> String {
        self.docker(&[&["compose"], arguments].concat())
    }

    /// A script that deploys a release as a team would write it: the env file, the configuration, `up`.
    pub fn deploys(&self, release: &str, before: &str, after: &str) -> String {
        self.script(&format!(
            "{before}\nsed -i 's/^SHOP_RELEASE=.*/SHOP_RELEASE={release}/' .env\n\
             echo 'greeting = of {release}' >config/shop.conf\n\
             docker compose up --detach --quiet-pull --no-deps app worker 2>&1\n{after}"
        ))
    }

    pub fn script(&self, body: &str) -> String {
        let environment: String = ["DOCKER_HOST", "DOCKER_CONFIG", "BACKSTAY_LAB", "PATH"]
            .iter()
            .filter_map(|name| std::env::var(name).ok().map(|value| format!("export {name}='{value}'\n")))
            .collect();
        self.executable("deploy", &format!("set -eu\n{environment}{body}"))
    }

    /// Runs a script as a person would, and expects it to end well.
    #[track_caller]
    pub fn runs_script(&self, path: &str) {
        let output = Command::new(path).current_dir(self.folder.path()).output().expect("a script runs");
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stdout));
    }

    pub fn executable(&self, name: &str, body: &str) -> String {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a script that can be run");
        path.display().to_string()
    }

    fn client(&self, program: &str, database: &str) -> Command {
        let bin = majors().pop().expect("programs of PostgreSQL are here");
        let mut command = Command::new(bin.join(program));
        command.args(["-h", "127.0.0.1", "-p", &self.database_port.to_string(), "-U", "shop", "-d", database]);
        command.env("PGPASSWORD", PASSWORD).env("PGCONNECT_TIMEOUT", "60");
        command
    }

    #[track_caller]
    pub fn sql_in(&self, database: &str, sql: &str) -> String {
        let mut psql = self.client("psql", database);
        let output = psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]).output().expect("psql runs");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.sql_in("shop", sql)
    }

    /// The names of the databases that Backstay keeps or builds beside this one.
    pub fn beside(&self) -> Vec<String> {
        let listed = self.sql_in("postgres", "select datname from pg_database where datname like 'shop\\_\\_%'");
        listed.lines().map(str::to_owned).collect()
    }

    /// What `pg_dump` writes of it, rows sorted, once the worker has nothing left to pack.
    pub fn database(&self) -> String {
        wait_until("every order is packed", || {
            self.sql("select count(*) from store.orders where state = 'new'") == "0"
        });
        let text = |more: &[&str]| {
            let output = self.client("pg_dump", "shop").args(more).output().expect("pg_dump runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let stays = |line: &&str| !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict ");
        let (schema, rows) = (text(&["--schema-only"]), text(&["--data-only"]));
        let mut rows: Vec<_> = rows.lines().filter(stays).collect();
        rows.sort_unstable();
        format!("{}\n{}", schema.lines().filter(stays).collect::<Vec<_>>().join("\n"), rows.join("\n"))
    }

    /// Every configuration file with its rights.
    pub fn files(&self) -> String {
        let mut text = String::new();
        let single = [".env", "compose.yml"].map(|name| self.path(name));
        for file in single.into_iter().chain(files_under(&self.path("config"))) {
            let mode = fs::metadata(&file).expect("the rights of a file").permissions().mode() & 0o7777;
            let content = fs::read_to_string(&file).expect("a configuration file is read");
            writeln!(text, "{} {mode:o}\n{content}", file.display()).expect("text is written");
        }
        text
    }

    /// The image that each service's containers were made from, and whether they run.
    pub fn images(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let label = format!("label=com.docker.compose.project={}", self.name);
        for id in self.docker(&["ps", "--all", "--quiet", "--filter", &label]).lines() {
            let format = "{{index .Config.Labels \"com.docker.compose.service\"}} {{.Image}} {{.State.Status}}";
            let line = self.docker(&["inspect", "--format", format, id]);
            let (service, rest) = line.split_once(' ').expect("a service and its image");
            found
                .entry(service.to_owned())
                .and_modify(|all| *all = format!("{all}, {rest}"))
                .or_insert(rest.to_owned());
        }
        found
    }

    /// The id of a service's one container.
    pub fn container(&self, service: &str) -> String {
        self.compose(&["ps", "--all", "--quiet", service])
    }

    /// Takes a proven snapshot and says its id.
    pub fn snapshot(&self) -> String {
        snapshot_with(&self.backstay)
    }

    pub fn runs(&self, service: &str) -> bool {
        !self.compose(&["ps", "--quiet", "--status", "running", service]).is_empty()
    }

    /// Whether a deploy's script still goes on, whoever started it.
    pub fn is_deploying(&self) -> bool {
        let script = self.path("deploy").display().to_string();
        Command::new("pgrep").args(["-f", &script]).stdout(Stdio::null()).status().expect("pgrep runs").success()
    }

    pub fn state(&self) -> State {
        (self.images(), self.files(), self.database())
    }

    pub fn ask(&self, method: &str, path: &str) -> Option<(u16, String)> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        connection.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        connection.write_all(format!("{method} {path} HTTP/1.1\r\nHost: shop\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((status, body.to_owned()))
    }

    pub fn is_healthy(&self) -> bool {
        self.ask("GET", "/health").is_some_and(|(status, _)| status == 200)
    }

    /// Customers that order until they are told to stop.
    pub fn opens(self: &Arc<Self>) -> Customers {
        let (stop, confirmed) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let customers = (0..2).map(|_| {
            let (shop, stop, confirmed) = (Arc::clone(self), Arc::clone(&stop), Arc::clone(&confirmed));
            thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(100));
                    let asked = now();
                    if let Some((201, body)) = shop.ask("POST", "/orders") {
                        let answer: serde_json::Value = serde_json::from_str(&body).expect("an answer in JSON");
                        let id = answer["id"].as_i64().expect("the number of an order");
                        confirmed.lock().expect("nobody panics with it").push(Order { id, asked, answered: now() });
                    }
                }
            })
        });
        let customers = customers.collect();
        Customers { stop, confirmed, customers }
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = self.try_docker(&["compose", "-p", &self.name, "down", "--volumes", "--timeout", "1"]);
        let labels =
            [format!("com.docker.compose.project={}", self.name), format!("io.backstay.keep.project={}", self.name)];
        for label in &labels {
            let found = self.try_docker(&["ps", "-aq", "--filter", &format!("label={label}")]).unwrap_or_default();
            let ids: Vec<&str> = found.lines().collect();
            if !ids.is_empty() {
                let _ = self.try_docker(&[&["rm", "-f", "-v"], ids.as_slice()].concat());
            }
        }
        let kept = format!("backstay/keep/{}", self.name);
        let found = self.try_docker(&["images", &kept, "--format", "{{.Repository}}:{{.Tag}}"]).unwrap_or_default();
        for tag in found.lines() {
            let _ = self.try_docker(&["rmi", tag]);
        }
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its number").port()
}

fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    since.as_secs_f64()
}

/// One that the shop confirmed: its number, which another may have after a restore, and when it was placed.
#[derive(Debug, Clone)]
pub struct Order {
    id: i64,
    asked: f64,
    answered: f64,
}

pub struct Customers {
    stop: Arc<AtomicBool>,
    confirmed: Arc<Mutex<Vec<Order>>>,
    customers: Vec<JoinHandle<()>>,
}

impl Customers {
    pub fn count(&self) -> usize {
        self.confirmed.lock().expect("nobody panics with it").len()
    }

    /// So many more orders are confirmed from now on.
    pub fn order(&self, more: usize) {
        let then = self.count();
        wait_until("more orders are confirmed", || self.count() >= then + more);
    }

    pub fn leave(mut self) -> Vec<Order> {
        self.stop.store(true, Ordering::SeqCst);
        for customer in self.customers.drain(..) {
            customer.join().expect("a customer");
        }
        self.confirmed.lock().expect("nobody panics with it").clone()
    }
}

/// A shop is closed when nobody holds it: those who are in it have to go, also when a test fails.
impl Drop for Customers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for customer in self.customers.drain(..) {
            let _ = customer.join();
        }
    }
}

/// Every confirmed order is in what is live or in what is kept beside it; how many are live, and how many only kept.
#[track_caller]
pub fn accounted_for(shop: &Shop, confirmed: &[Order]) -> (usize, usize) {
    let orders = |database: &str| -> Vec<(i64, f64)> {
        let sql =
            "select id, extract(epoch from placed_at) from store.orders where placed_at > now() - interval '1 day'";
        let listed = shop.sql_in(database, sql);
        let parsed = listed.lines().map(|line| line.split_once('|').expect("two columns"));
        parsed.map(|(id, at)| (id.parse().expect("a number"), at.parse().expect("a time"))).collect()
    };
    let live = orders("shop");
    let kept: Vec<_> =
        shop.beside().iter().filter(|name| !name.contains("__warm")).flat_map(|name| orders(name)).collect();
    // Clocks of the engine's kernel and ours are one; a hundredth covers what rounding does.
    let is_in = |all: &[(i64, f64)], order: &Order| {
        all.iter().any(|(id, at)| *id == order.id && *at >= order.asked - 0.01 && *at <= order.answered + 0.01)
    };
    let vanished: Vec<_> = confirmed.iter().filter(|order| !is_in(&live, order) && !is_in(&kept, order)).collect();
    assert!(vanished.is_empty(), "confirmed and gone: {vanished:?}");
    let in_live = confirmed.iter().filter(|order| is_in(&live, order)).count();
    (in_live, confirmed.len() - in_live)
}
