//! A stack on the real engine whose database no port and no address leads to, and whose server is newer than any
//! program of PostgreSQL on this host: everything goes through the container itself.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use backstay_testkit::{Backstay, left_out, server_from, wait_until};
use tempfile::TempDir;

/// Every character that a URL, a list of keywords or a shell would take for something else.
const PASSWORD: &str = r#"p@ss: /'%41#w?&=\"$x"#;
/// With more bytes than one message on the way.
const RELEASE: &str = "
create table orders (id bigint generated always as identity primary key, note text not null, scan bytea);
insert into orders (note, scan) select 'order ' || n, decode(repeat('00ff', 40 + n), 'hex') from generate_series(1, 2000) n;
create materialized view notes as select note from orders;
select lo_from_bytea(4711, '\\x00ff');";
const BAD_RELEASE: &str = "drop materialized view notes; delete from orders; alter table orders add column broken int";

struct Stack {
    folder: TempDir,
    name: String,
}

impl Stack {
    /// Nothing where there is no engine, or no image of a server that this host's own programs are too old for.
    fn start() -> Option<Self> {
        server_from("DOCKER_HOST", "a stack's database")?;
        let registry = server_from("BACKSTAY_REGISTRY", "a stack's database")?;
        let image = format!("{registry}/shop-db:18");
        let there = Command::new("docker").args(["image", "inspect", &image]).stdout(Stdio::null()).status();
        let own = PathBuf::from("/usr/lib/postgresql/18");
        if !there.is_ok_and(|status| status.success()) || own.exists() {
            left_out("a stack's database", "wants an image of PostgreSQL 18 (fixtures/shop/build) and no such package");
            return None;
        }
        let folder = TempDir::new().expect("a folder for the stack");
        let name = format!("bstdb{}", std::process::id());
        let compose = format!(
            "name: {name}\nservices:\n  db:\n    image: {image}\n    network_mode: none\n    env_file: db.env\n    \
             stop_signal: SIGKILL\n"
        );
        fs::write(folder.path().join("compose.yml"), compose).expect("the Compose file");
        let variables =
            format!("POSTGRES_USER=shop\nPOSTGRES_DB=shop\nPOSTGRES_PASSWORD='{}'\n", PASSWORD.replace('\'', r"\'"));
        fs::write(folder.path().join("db.env"), variables).expect("the env file");
        let stack = Self { folder, name };
        stack.docker(&["compose", "up", "-d"]);
        wait_until("the stack's database answers", || stack.try_sql("select 1").is_some());
        Some(stack)
    }

    fn docker(&self, arguments: &[&str]) -> String {
        let output =
            Command::new("docker").args(arguments).current_dir(self.folder.path()).output().expect("docker runs");
        assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn inside(&self, command: &[&str]) -> Option<String> {
        let container = format!("{}-db-1", self.name);
        let mut exec = Command::new("docker");
        exec.args(["exec", &container]).args(command).stderr(Stdio::null());
        let output = exec.output().expect("docker runs");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn try_sql(&self, sql: &str) -> Option<String> {
        self.inside(&["psql", "-h", "/tmp", "-U", "shop", "-d", "shop", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql])
    }

    fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|| panic!("cannot run {sql}"))
    }

    /// What pg_dump writes of it, with large objects.
    fn text(&self) -> String {
        let dump =
            self.inside(&["pg_dump", "-h", "/tmp", "-U", "shop", "--large-objects", "shop"]).expect("pg_dump runs");
        dump.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n")
    }

    /// Since when the server has not fallen over.
    fn unbroken_since(&self) -> String {
        self.sql("select backend_start from pg_stat_activity where backend_type = 'checkpointer'")
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-f", "-v", &format!("{}-db-1", self.name)]).output();
    }
}

#[test]
fn a_stacks_database_that_nothing_leads_to_is_recorded_and_taken_back_through_its_container() {
    let Some(stack) = Stack::start() else { return };
    stack.sql(RELEASE);
    let (before, since) = (stack.text(), stack.unbroken_since());
    let backstay = Backstay::in_folder(stack.folder.path()).with("BACKSTAY_PG_BIN_DIRS", "");
    let _ = backstay.run(&["init", "--project", "stack"]).ended(0);
    let toml = stack.folder.path().join("backstay.toml");
    let text = fs::read_to_string(&toml).expect("backstay.toml is read");
    fs::write(&toml, text.replace("[compose]\n", "[compose]\nimages = \"none\"\n")).expect("backstay.toml is written");

    let taken = backstay.run(&["snapshot", "--json"]).ended(0).json();
    let id = taken["snapshot"]["id"].as_str().expect("the id of a snapshot");
    stack.sql(BAD_RELEASE);
    let restored = backstay.run(&["restore", id, "--only", "database", "--yes", "--json"]).ended(0);
    assert_eq!(stack.text(), before);
    assert_eq!(stack.unbroken_since(), since, "the server takes nothing of this for a crash of its own");
    assert!(!restored.stdout.contains(PASSWORD) && !restored.stderr.contains(PASSWORD));
    wait_until("nothing of it is left in the container", || {
        stack.sql("select count(*) from pg_stat_activity where application_name like 'backstay%'") == "0"
    });
    let left = stack.inside(&["sh", "-c", "echo /tmp/backstay-*"]);
    assert_eq!(left.as_deref(), Some("/tmp/backstay-*"), "archives were taken away");
}
