//! The ground that journeys stand on: a folder with a small project, its database, and the whole state of both.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use backstay_testkit::{Backstay, PrivateCluster};
use tempfile::TempDir;

use crate::tidy::files_under;

const SCHEMA: &str = "
create schema store;
create type store.status as enum ('new', 'paid');
create table store.customers (
    id bigint generated always as identity primary key, name text not null, settings jsonb not null default '{}');
create table store.orders (
    id bigserial primary key, customer_id bigint not null references store.customers,
    status store.status not null default 'new', note text);
create index orders_of_a_customer on store.orders (customer_id);
create view store.totals as select customer_id, count(*) as orders from store.orders group by customer_id;
insert into store.customers (name) select 'customer ' || n from generate_series(1, 20) n;
insert into store.orders (customer_id, note) select 1 + n % 20, 'order ' || n from generate_series(1, 200) n;
";

/// What a bad release leaves behind: something added, changed and taken away.
const BAD_RELEASE: &str = "
alter table store.orders add column discount bigint not null default 0;
update store.customers set name = 'nobody';
insert into store.orders (customer_id, note) select 1, 'made by the bad release' from generate_series(1, 10);
drop view store.totals;
create table store.points (customer_id bigint references store.customers, points integer);
";

/// One project: a folder with its files, a database of its own, and the command that looks after both.
pub struct Ground<'cluster> {
    pub cluster: &'cluster PrivateCluster,
    pub database: String,
    folder: TempDir,
    pub backstay: Backstay,
}

impl<'cluster> Ground<'cluster> {
    /// A project with a filled database, and no repository yet.
    pub fn bare(cluster: &'cluster PrivateCluster, database: &str) -> Self {
        cluster.create(database);
        cluster.sql(database, SCHEMA);
        let folder = TempDir::new().expect("a folder for the project");
        let ground =
            Self { cluster, database: database.to_owned(), backstay: Backstay::in_folder(folder.path()), folder };
        ground.write(".env", &format!("DATABASE_URL={}\nRELEASE=1.0\n", cluster.url(database)));
        ground.write("config/shop.conf", "greeting = hello\n");
        fs::set_permissions(ground.path(".env"), fs::Permissions::from_mode(0o600)).expect("the rights of .env");
        ground
    }

    /// The same, initialised.
    pub fn new(cluster: &'cluster PrivateCluster, database: &str) -> Self {
        let ground = Self::bare(cluster, database);
        let _ = ground.backstay.run(&["init", "--project", "shop"]).ended(0);
        ground
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder of the project");
        fs::write(path, text).expect("a file of the project");
    }

    /// Where `init` puts the repository.
    pub fn repository(&self) -> PathBuf {
        self.backstay.state().join("shop").join("repository")
    }

    /// Writes more below what stands in backstay.toml.
    pub fn configure(&self, more: &str) {
        let text = fs::read_to_string(self.path("backstay.toml")).expect("backstay.toml is read");
        self.write("backstay.toml", &format!("{text}\n{more}\n"));
    }

    /// Changes one line of backstay.toml that begins with `begin`.
    pub fn reconfigure(&self, begin: &str, line: &str) {
        change_line(&self.path("backstay.toml"), begin, line);
    }

    /// A script of the project that can be run.
    pub fn script(&self, name: &str, body: &str) -> String {
        self.write(name, &format!("#!/bin/sh\nset -eu\n{body}\n"));
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).expect("a script that can be run");
        self.path(name).display().to_string()
    }

    pub fn sql(&self, sql: &str) -> String {
        self.cluster.sql(&self.database, sql)
    }

    pub fn bad_release(&self) {
        self.sql(BAD_RELEASE);
        let env = fs::read_to_string(self.path(".env")).expect(".env is read");
        self.write(".env", &env.replace("RELEASE=1.0", "RELEASE=1.1"));
        self.write("config/shop.conf", "greeting = broken\n");
    }

    /// Database and files as one text: what `pg_dump` writes, with its rows sorted, for their order is nobody's
    /// promise; and every configuration file with its rights.
    pub fn state(&self) -> String {
        let mut text = self.cluster.dump_with(&self.database, &["--schema-only"]);
        let rows = self.cluster.dump_with(&self.database, &["--data-only"]);
        let mut rows: Vec<_> = rows.lines().collect();
        rows.sort_unstable();
        writeln!(text, "\n{}", rows.join("\n")).expect("text is written");
        for file in [self.path(".env")].into_iter().chain(files_under(&self.path("config"))) {
            let mode = fs::metadata(&file).expect("the rights of a file").permissions().mode() & 0o7777;
            let content = fs::read_to_string(&file).expect("a configuration file is read");
            writeln!(text, "{} {mode:o}\n{content}", file.display()).expect("text is written");
        }
        text
    }

    /// The names of the databases that Backstay keeps or builds beside this one.
    pub fn beside(&self) -> Vec<String> {
        let sql = format!("select datname from pg_database where datname like '{}\\_\\_%' order by 1", self.database);
        self.cluster.sql("postgres", &sql).lines().map(str::to_owned).collect()
    }

    pub fn staged(&self) -> Vec<String> {
        self.beside().into_iter().filter(|name| name.contains("__staged_")).collect()
    }

    /// The ids of all snapshots, newest first.
    pub fn snapshots(&self) -> Vec<String> {
        let listed = self.backstay.run(&["list", "--json"]).ended(0).json();
        let snapshots = listed["snapshots"].as_array().expect("a list of snapshots");
        snapshots.iter().map(|snapshot| snapshot["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// Flips a byte of every stored object.
    pub fn damage_objects(&self) {
        for (file, mut bytes) in bytes_under(&self.repository().join("objects")) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(file, bytes).expect("an object is damaged");
        }
    }

    /// What a deploy does that changes the schema and takes an order before it fails.
    pub fn half_a_deploy(&self) -> String {
        let psql =
            format!("{} -Xq -d '{}'", self.cluster.bin().join("psql").display(), self.cluster.url(&self.database));
        let half =
            "alter table store.orders add column discount int; insert into store.orders (customer_id) values (1)";
        format!("{psql} -c '{half}'")
    }

    /// Takes a proven snapshot and says its id.
    pub fn snapshot(&self) -> String {
        snapshot_with(&self.backstay)
    }
}

/// Takes a proven snapshot and says its id.
pub fn snapshot_with(backstay: &Backstay) -> String {
    let taken = backstay.run(&["snapshot", "--prove", "--json"]).ended(0).json();
    taken["snapshot"]["id"].as_str().expect("the id of a snapshot").to_owned()
}

/// Writes `line` instead of each line that begins with `begin`.
#[track_caller]
pub fn change_line(file: &Path, begin: &str, line: &str) {
    let text = fs::read_to_string(file).expect("a file of lines is read");
    assert!(text.lines().any(|old| old.starts_with(begin)), "no line begins with `{begin}`:\n{text}");
    let changed: Vec<_> = text.lines().map(|old| if old.starts_with(begin) { line } else { old }).collect();
    fs::write(file, format!("{}\n", changed.join("\n"))).expect("a file of lines is written");
}

/// Every file below a folder with its bytes.
pub fn bytes_under(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files_under(folder).into_iter().map(|file| (file.clone(), fs::read(file).unwrap_or_default())).collect()
}
