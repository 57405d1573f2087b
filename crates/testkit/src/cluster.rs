use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::surroundings::{major_of, majors};

const STARTS_MAX: u32 = 5;
/// Durability is not what these clusters are for; speed is.
const SETTINGS: &[(&str, &str)] = &[
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    ("shared_buffers", "32MB"),
    ("max_connections", "250"),
    ("max_prepared_transactions", "10"),
    ("wal_level", "logical"),
    ("autovacuum_naptime", "1h"),
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_permissions", "0777"),
];

/// A PostgreSQL server of the test's own, on 127.0.0.1, gone when it is dropped. Everybody is
/// trusted; `postgres` is the superuser.
#[derive(Debug)]
pub struct PrivateCluster {
    bin: PathBuf,
    folder: TempDir,
    port: u16,
    major: u32,
    /// Where its programs are its own; held for as long as it runs.
    programs: Option<TempDir>,
}

impl PrivateCluster {
    /// A cluster of the oldest major that is here, or nothing after saying that it is left out.
    pub fn start() -> Option<Self> {
        let Some(bin) = majors().into_iter().next() else {
            crate::left_out("PostgreSQL", "no server programs here; `scripts/lab up postgres` installs them");
            return None;
        };
        Some(Self::start_from(&bin, &[]))
    }

    /// A cluster of the programs in `bin`, with more settings.
    pub fn start_from(bin: &Path, settings: &[(&str, &str)]) -> Self {
        let major = major_of(bin).expect("the programs of a PostgreSQL server");
        let folder = tempfile::Builder::new().prefix("bk-pg").tempdir_in("/tmp").expect("a folder for the cluster");
        let data = folder.path().join("data");
        let template = template(bin, major);
        done(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&template).arg(&data), "copy the template");
        own(folder.path());
        Self { bin: bin.to_owned(), folder, port: 0, major, programs: None }.begun(settings)
    }

    /// A cluster of the programs in `bin` that knows one more extension. Nothing of what is installed is
    /// touched: a server looks for extensions beside its own program, and this one's is a copy.
    pub fn with_extension(bin: &Path, name: &str, control: &str, script: &str) -> Self {
        let said = |what: &str| {
            let output = done(Command::new(bin.join("pg_config")).arg(what), "ask pg_config");
            PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
        };
        let (programs, shared, libraries) = (said("--bindir"), said("--sharedir"), said("--pkglibdir"));
        let common: PathBuf =
            programs.components().zip(shared.components()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
        let home = tempfile::Builder::new().prefix("bk-pg-own").tempdir_in("/tmp").expect("a folder for the programs");
        own(home.path());
        let moved = |path: &Path| home.path().join(path.strip_prefix(&common).expect("folders of one installation"));
        let link = |from: &Path, to: &Path| std::os::unix::fs::symlink(from, to).expect("a link to what is installed");
        let folder = |path: &Path| fs::create_dir_all(path).expect("a folder for the programs");
        let own_bin = moved(&programs);
        folder(&own_bin);
        done(Command::new("cp").arg("-aL").arg(programs.join(".")).arg(&own_bin), "copy the programs");
        folder(moved(&libraries).parent().expect("a folder above"));
        if !moved(&libraries).exists() {
            link(&libraries, &moved(&libraries));
        }
        let extensions = moved(&shared).join("extension");
        folder(&extensions);
        for (from, to) in [(shared.clone(), moved(&shared)), (shared.join("extension"), extensions.clone())] {
            for entry in fs::read_dir(from).expect("what is installed").flatten() {
                let to = to.join(entry.file_name());
                if !to.exists() {
                    link(&entry.path(), &to);
                }
            }
        }
        fs::write(extensions.join(format!("{name}.control")), control).expect("the extension");
        fs::write(extensions.join(format!("{name}--1.0.sql")), script).expect("the extension");
        let mut cluster = Self::start_from(&own_bin, &[]);
        cluster.programs = Some(home);
        cluster
    }

    /// A hot standby that follows this cluster. It follows for as long as both are there.
    pub fn standby(&self, settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("bk-pg").tempdir_in("/tmp").expect("a folder for the standby");
        own(folder.path());
        let mut backup = as_server(&self.bin.join("pg_basebackup"));
        backup.args(["-h", "127.0.0.1", "-U", "postgres", "-c", "fast", "-X", "stream", "--no-sync"]);
        backup.arg(format!("--port={}", self.port)).arg("-D").arg(folder.path().join("data"));
        done(&mut backup, "copy the primary");
        File::create(folder.path().join("data/standby.signal")).expect("the sign of a standby");
        let primary = format!("host=127.0.0.1 port={} user=postgres", self.port);
        let settings: Vec<_> = settings.iter().copied().chain([("primary_conninfo", primary.as_str())]).collect();
        let standby = Self { bin: self.bin.clone(), folder, port: 0, major: self.major, programs: None };
        standby.begun(&settings)
    }

    /// Waits until this standby has replayed all that `primary` has written.
    pub fn catch_up(&self, primary: &Self) {
        let written = primary.sql("postgres", "select pg_current_wal_insert_lsn()");
        let replayed = format!("select coalesce(pg_last_wal_replay_lsn() >= '{written}', false)");
        crate::wait_until("the standby has caught up", || self.sql("postgres", &replayed) == "t");
    }

    /// Puts a file where the server may read it and nobody else.
    pub fn place(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).expect("a file for the server");
        own(&path);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("a private file");
        path
    }

    fn begun(self, settings: &[(&str, &str)]) -> Self {
        let mut cluster = self;
        for attempt in 1.. {
            cluster.port = free_port();
            cluster.configure(settings);
            let started = cluster.control(&["start", "-w", "-t", "120", "-s", "-l"], Some("log"));
            if started.status.success() {
                break;
            }
            // Somebody else may have taken the port since it was found free.
            assert!(attempt < STARTS_MAX, "the cluster does not start: {}", cluster.log());
        }
        cluster
    }

    fn configure(&self, settings: &[(&str, &str)]) {
        let mut file = File::create(self.data().join("postgresql.auto.conf")).expect("the cluster's settings");
        let port = self.port.to_string();
        let socket = self.folder.path().display().to_string();
        let own = [("port", port.as_str()), ("unix_socket_directories", socket.as_str())];
        for (name, value) in SETTINGS.iter().chain(&own).chain(settings) {
            writeln!(file, "{name} = '{value}'").expect("the cluster's settings");
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn major(&self) -> u32 {
        self.major
    }

    /// The folder of the server's programs, client tools among them.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A connection URL for the superuser.
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", database)
    }

    pub fn url_as(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs SQL as the superuser and returns what psql prints, unaligned, rows only. Fails the test on any error.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.sql_as("postgres", database, sql).unwrap_or_else(|error| panic!("{error}\nin: {sql}"))
    }

    pub fn sql_as(&self, role: &str, database: &str, sql: &str) -> Result<String, String> {
        let mut child = self
            .client("psql")
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", role, "-d", database])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql");
        let mut input = child.stdin.take().expect("psql's input");
        let sql = sql.to_owned();
        // From a thread: psql may fill its output before it has read all of its input.
        let writer = std::thread::spawn(move || input.write_all(sql.as_bytes()));
        let output = child.wait_with_output().expect("psql's output");
        let written = writer.join().expect("the thread that feeds psql");
        if output.status.success() && written.is_ok() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    pub fn create(&self, database: &str) {
        done(self.client("createdb").args(["-U", "postgres", "--", database]), "create a database");
    }

    /// The whole database as `pg_dump` writes it, without the lines that are random.
    pub fn dump(&self, database: &str) -> String {
        self.dump_with(database, &[])
    }

    pub fn dump_with(&self, database: &str, arguments: &[&str]) -> String {
        let connection = format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"));
        let output = done(self.client("pg_dump").args(["-U", "postgres", "-d", &connection]).args(arguments), "dump");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let random = |line: &&str| !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict ");
        text.lines().filter(random).collect::<Vec<_>>().join("\n")
    }

    /// A client program of this major, told where the server is.
    pub fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string()).env("PGCONNECT_TIMEOUT", "60");
        command.env_remove("PGDATABASE").env_remove("PGUSER").env_remove("PGPASSWORD");
        command
    }

    pub fn restart(&self) {
        let output = self.control(&["restart", "-w", "-t", "120", "-s", "-m", "fast", "-l"], Some("log"));
        assert!(output.status.success(), "the cluster does not restart: {}", self.log());
    }

    pub fn stop(&self) {
        // Without a result: it may be stopped already.
        let _ = self.control(&["stop", "-w", "-t", "120", "-s", "-m", "immediate"], None);
    }

    pub fn start_again(&self) {
        let output = self.control(&["start", "-w", "-t", "120", "-s", "-l"], Some("log"));
        assert!(output.status.success(), "the cluster does not start again: {}", self.log());
    }

    fn control(&self, arguments: &[&str], log: Option<&str>) -> Output {
        let mut command = as_server(&self.bin.join("pg_ctl"));
        command.args(arguments);
        if let Some(log) = log {
            command.arg(self.folder.path().join(log));
        }
        command.arg("-D").arg(self.data()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.output().expect("pg_ctl")
    }
}

impl Drop for PrivateCluster {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("the port that was bound").port()
}

/// A fresh data folder of this major, made once for all tests on this machine.
fn template(bin: &Path, major: u32) -> PathBuf {
    let root = std::env::temp_dir().join(format!("backstay-testkit-{}", rustix::process::getuid().as_raw()));
    fs::create_dir_all(&root).expect("a folder for the template");
    let lock = File::create(root.join("lock")).expect("the template's lock");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("the template's lock");
    let made = root.join(format!("cluster-{major}"));
    if !made.exists() {
        let half = root.join(format!("cluster-{major}-half"));
        let _ = fs::remove_dir_all(&half);
        fs::create_dir(&half).expect("a folder for the template");
        own(&half);
        let mut initdb = as_server(&bin.join("initdb"));
        initdb
            .args([
                "-A",
                "trust",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "--wal-segsize=1",
                "-D",
            ])
            .arg(&half);
        done(&mut initdb, "make a cluster");
        fs::rename(&half, &made).expect("the template");
    }
    made
}

/// The server refuses to run as root.
fn as_server(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = server_account() {
        command.uid(user).gid(group).env("HOME", "/tmp");
    }
    command.current_dir("/tmp").env("LC_ALL", "C.UTF-8");
    command
}

fn own(folder: &Path) {
    if let Some((user, group)) = server_account() {
        std::os::unix::fs::chown(folder, Some(user), Some(group)).expect("the right to give a folder away");
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder, mode).expect("the right to open a folder");
}

fn server_account() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").expect("the list of accounts");
    let account = accounts
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("an account `postgres` to run the server as");
    let mut fields = account.split(':').skip(2).map(|field| field.parse().expect("a number"));
    Some((fields.next()?, fields.next()?))
}

#[track_caller]
fn done(command: &mut Command, what: &str) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("cannot {what}: {error}"));
    assert!(output.status.success(), "cannot {what}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_major_here_starts_answers_and_is_gone_afterwards() {
        let found = majors();
        if found.is_empty() {
            crate::left_out("PostgreSQL", "no server programs here");
        }
        for bin in found {
            let cluster = PrivateCluster::start_from(&bin, &[]);
            cluster.create("shop \"one\"");
            assert_eq!(cluster.sql("shop \"one\"", "select 1"), "1");
            assert!(cluster.dump("shop \"one\"").contains("PostgreSQL database dump"));
            cluster.restart();
            assert_eq!(cluster.sql("postgres", "show port"), cluster.port().to_string());
            let data = cluster.data();
            drop(cluster);
            assert!(!data.exists());
        }
    }
}
