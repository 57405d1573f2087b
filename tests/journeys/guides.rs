//! What the guides tell people to type and to copy, run as it stands there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use backstay_testkit::{PrivateCluster, S3_CREDENTIALS, S3Server, left_out};
use tempfile::TempDir;

use crate::ground::Ground;
use crate::killed_at_random::is_full;
use crate::tidy::{files_under, root};

/// The pages whose commands are run here, in `documents.rs`, or beside what they are about.
const RUN: &[&str] = &[
    "disaster-recovery.md",
    "export.md",
    "guard.md",
    "health.md",
    "kubernetes-ecs.md",
    "managed-postgres.md",
    "migrations.md",
    "pipelines.md",
    "rollback.md",
    "s3.md",
    "scheduled.md",
    "security.md",
];

#[test]
fn every_guide_that_has_something_to_type_is_run() {
    let with_commands: BTreeSet<String> = files_under(&root().join("docs/guides"))
        .into_iter()
        .filter(|page| fs::read_to_string(page).expect("a page is read").contains("```sh\n"))
        .map(|page| page.file_name().expect("a page has a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(with_commands, RUN.iter().map(|page| (*page).to_owned()).collect());
}

pub fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs/guides").join(name)).expect("a guide is read")
}

/// What stands in a page between fences of one language.
pub fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// A shell in a project's folder, with the real command, the server's programs, and stand-ins that come first.
pub struct Shell<'ground> {
    ground: &'ground Ground<'ground>,
    programs: TempDir,
    environment: Vec<(String, String)>,
}

pub struct Said {
    pub code: Option<i32>,
    pub text: String,
}

impl<'ground> Shell<'ground> {
    pub fn new(ground: &'ground Ground<'ground>) -> Self {
        let shell = Self { ground, programs: TempDir::new().expect("a folder for programs"), environment: Vec::new() };
        let backstay = ground.backstay.command(&[]);
        symlink(backstay.get_program(), shell.programs.path().join("backstay")).expect("the command is found");
        shell.stands_in("sudo", "[ \"$1\" = -u ] && shift 2\nexec \"$@\"");
        shell
    }

    /// A program that is not here, or must not be reached.
    pub fn stands_in(&self, name: &str, body: &str) {
        let path = self.programs.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("a stand-in");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it can be run");
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn run(&self, script: &str) -> Said {
        let backstay = self.ground.backstay.command(&[]);
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{}:{path}", self.programs.path().display(), self.ground.cluster.bin().display());
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", script]).current_dir(self.ground.path("")).env_clear();
        shell.envs(backstay.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", path);
        shell
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.ground.cluster.port().to_string())
            .env("PGUSER", "postgres");
        shell.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let output = shell.stdin(std::process::Stdio::null()).output().expect("a shell");
        let text = [output.stdout, output.stderr].concat();
        Said { code: output.status.code(), text: String::from_utf8_lossy(&text).into_owned() }
    }

    /// Runs it, and fails with all that it said unless it ends so.
    #[track_caller]
    pub fn ends(&self, script: &str, code: i32) -> String {
        let said = self.run(script);
        assert_eq!(said.code, Some(code), "\n--- script\n{script}\n--- said\n{}", said.text);
        said.text
    }
}

pub fn jq_is_here() -> bool {
    let here = Command::new("jq").arg("--version").output().is_ok();
    if !here {
        left_out("what pipelines do", "no program `jq` here");
    }
    here
}

#[test]
fn the_guides_to_guard_health_and_migrations_do_what_they_say_when_they_are_typed() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    ground.sql("create table orders (id bigint primary key)");
    ground.configure("[guard]\nsettle_window = \"1s\"\n[health.api]\npostgres = \"main\"");
    let shell = Shell::new(&ground);
    ground.script("deploy.sh", "true");
    for block in blocks(&page("guard.md"), "sh") {
        assert!(shell.ends(&block, 0).contains("healthy"), "{block}");
    }
    let health = blocks(&page("health.md"), "sh").concat();
    shell.ends(&health, 0);
    assert!(fs::read_to_string(ground.path("health.xml")).expect("a report").contains("<testcase"));

    ground.configure(&blocks(&page("migrations.md"), "toml")[0]);
    let said = shell.ends(&blocks(&page("migrations.md"), "sh").concat(), 0);
    assert!(said.contains("reversible"), "{said}");
    assert_eq!(ground.sql("select count(*) from information_schema.columns where table_name = 'orders'"), "5");
    assert_eq!(ground.sql("select count(*) from _sqlx_migrations"), "0");
}

#[test]
fn keys_are_added_and_removed_as_the_page_on_security_says() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::new(&cluster, "shop");
    let typed = blocks(&page("security.md"), "sh").concat();
    let key = ground.path("shop.key").display().to_string();
    let typed = typed.replace("/media/usb/shop.key", &key);
    let (remove, add): (Vec<&str>, Vec<&str>) = typed.lines().partition(|line| line.contains("key remove"));
    let shell = Shell::new(&ground);
    let listed = shell.ends(&add.join("\n"), 0);
    let id = listed.split("as key ").nth(1).and_then(|rest| rest.split('.').next()).expect("the id of the key");
    shell.ends(&remove.join("\n").replace("ID", id), 0);
    let keys = ground.backstay.run(&["key", "list", "--json"]).ended(0).json();
    assert_eq!(keys["keys"].as_array().expect("keys").len(), 1, "{keys}");
}

#[test]
fn pipelines_report_a_good_deploy_one_taken_back_and_one_that_a_person_decides() {
    let Some(cluster) = PrivateCluster::start() else { return };
    if !jq_is_here() {
        return;
    }
    let ground = Ground::new(&cluster, "shop");
    ground.configure("[guard]\nsettle_window = \"1s\"\n[environment.production]\nproduction = true");
    let folder = ground.path("").display().to_string();
    let shell = Shell::new(&ground)
        .with("BACKSTAY_ENV", "production")
        .with("RUNNER_TEMP", &folder)
        .with("CI_PROJECT_DIR", &folder)
        .with("GITHUB_STEP_SUMMARY", &ground.path("summary").display().to_string())
        .with("RELEASE", "1.0");
    let pages = page("pipelines.md");
    let typed = blocks(&pages, "sh");
    let (plain, apart) = (&typed[0], &typed[1]);
    let workflows = blocks(&pages, "yaml");
    let github = steps(&workflows[0]);
    let gitlab = gitlab_script(&workflows[1]).replace("cd /srv/shop", ":");
    assert_eq!(github.len(), 3, "{github:?}");
    let _ = ground.backstay.run(&["init", "--env", "production"]).ended(0);
    let _ = ground.backstay.run(&["snapshot", "--env", "production"]).ended(0);

    let breaks = "echo 'greeting = broken' >config/shop.conf";
    let url = cluster.url("shop");
    let migrates =
        format!("psql -qX -d '{url}' -c 'alter table store.orders add column if not exists discount bigint'");
    let writes = format!("psql -qX -d '{url}' -c 'insert into store.orders (customer_id) values (1)'");
    let outcomes = [
        ("true".to_owned(), 0, "done", "deployed"),
        (format!("{breaks}; exit 3"), 12, "taken_back", "taken back"),
        (format!("{migrates}; {writes}; {breaks}; exit 3"), 13, "stuck", "A PERSON IS NEEDED"),
    ];
    for (place, (deploy, code, outcome, words)) in outcomes.into_iter().enumerate() {
        // Every pipeline with every outcome takes a while: here each of them has one.
        let turn = |number: usize| is_full() || place == number;
        ground.script("deploy.sh", &deploy);
        if turn(2) {
            ground.write("pipeline.sh", plain);
            let said = shell.ends("sh pipeline.sh", code);
            assert!(said.contains(words), "{said}");
            mended(&ground);
        }
        if turn(1) {
            fs::write(ground.path("summary"), "").expect("an empty summary");
            shell.ends(&github[0], 0);
            shell.ends(&github[1], code);
            shell.ends(&github[2], 0);
            let summary = fs::read_to_string(ground.path("summary")).expect("a summary");
            assert!(summary.contains(&format!("## Deploy: {outcome}")), "{summary}");
            assert!(summary.contains(&format!("| exit | {code} |")) && !summary.contains("null"), "{summary}");
            mended(&ground);
        }
        if turn(0) {
            let said = shell.ends(&gitlab, code);
            assert!(said.contains(&format!("outcome {outcome}, exit {code}, snapshot 2")), "{said}");
            assert!(ground.path("health.xml").exists() && ground.path("guard.json").exists());
            mended(&ground);
        }
    }
    ground.script("deploy.sh", "true");
    shell.ends(apart, 0);
}

/// What a person does after the deploy of a pipeline went wrong: the files as they were.
fn mended(ground: &Ground<'_>) {
    ground.write("config/shop.conf", "greeting = hello\n");
    ground.sql("alter table store.orders drop column if exists discount");
}

/// What the steps of a GitHub workflow run, in their order.
fn steps(workflow: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut inside = false;
    for line in workflow.lines() {
        if let Some(command) = line.strip_prefix("        run: ") {
            inside = command == "|";
            found.push(if inside { String::new() } else { command.to_owned() });
        } else if inside && line.starts_with("          ") {
            let script = found.last_mut().expect("a step was begun");
            script.push_str(&line[10..]);
            script.push('\n');
        } else {
            inside = false;
        }
    }
    found
}

/// The lines of a GitLab job's `script`, which one shell runs.
fn gitlab_script(workflow: &str) -> String {
    let lines = workflow.lines().skip_while(|line| *line != "  script:").skip(1);
    let lines = lines.map_while(|line| line.strip_prefix("    - "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_night_on_a_schedule_runs_through_and_is_told_of_when_it_does_not() {
    let Some(cluster) = PrivateCluster::start() else { return };
    if !jq_is_here() {
        return;
    }
    let ground = Ground::new(&cluster, "shop");
    ground.configure("[environment.production]\nproduction = true");
    let shell = Shell::new(&ground).with("BACKSTAY_ENV", "production");
    shell.stands_in("systemctl", "echo \"systemctl $*\"");
    shell.stands_in("journalctl", "echo \"journalctl $*\"");
    let pages = page("scheduled.md");
    let units = blocks(&pages, "ini");
    let begins: Vec<_> = units[0].lines().filter_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/")).collect();
    assert_eq!(begins.len(), 4, "{begins:?}");
    for line in begins {
        shell.ends(line, 0);
    }
    understood_by_systemd(&ground, &units);

    let table = blocks(&pages, "cron").concat();
    let jobs: Vec<String> = table
        .lines()
        .filter_map(|line| line.split_once("root  "))
        .map(|(_, job)| job.replace("cd /srv/shop", "true"))
        .collect();
    assert_eq!(jobs.len(), 2, "{table}");
    shell.ends(&jobs[0], 0);
    assert_eq!(shell.ends(&jobs[1], 0), "", "nothing is mailed while all is well");
    for block in blocks(&pages, "sh") {
        shell.ends(&block, 0);
    }
    fs::rename(ground.repository(), ground.path("gone")).expect("the repository goes away");
    assert!(shell.run(&jobs[1]).text.contains("error: "), "somebody is told");
    assert!(shell.run(&jobs[0]).code != Some(0));
}

/// systemd reads the units, where it is here. The program is another one: that of the page need not be installed.
fn understood_by_systemd(ground: &Ground<'_>, units: &[String]) {
    for (name, unit) in [("backstay-nightly.service", &units[0]), ("backstay-nightly.timer", &units[1])] {
        let unit = unit.replace("/usr/local/bin/backstay", "/bin/true").replace("/srv/shop", "/");
        ground.write(&format!("units/{name}"), &unit);
    }
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--recursive-errors=no"]).arg(ground.path("units/backstay-nightly.service"));
    let Ok(output) = verify.arg(ground.path("units/backstay-nightly.timer")).output() else {
        return left_out("what systemd makes of the units", "no program `systemd-analyze` here (package systemd)");
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("Unknown") && !said.contains("Failed to parse"), "{said}");
}

/// backstay.toml of a project whose repository is as the guide to S3 writes it.
pub fn in_a_bucket(guide: &str, key: &Path, endpoint: &str) -> String {
    let settings = blocks(guide, "toml")[0]
        .replace("/etc/backstay/shop.key", &key.display().to_string())
        .replace("# endpoint = \"https://s3.example.com\"", &format!("endpoint = \"{endpoint}\""))
        .replace("# path_style", "path_style");
    let more = "[database.shop]\nurl = \"file:.env#DATABASE_URL\"\n[files]\ninclude = [\".env\", \"config/**\"]\n";
    format!("project = \"shop\"\n{settings}{more}")
}

#[test]
fn a_bucket_is_a_repository_as_the_guide_to_s3_says() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(S3Server::start());
    server.bucket("acme-backups");
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::bare(&cluster, "shop");
    let pages = page("s3.md");
    let key = ground.path("keys/shop.key");
    fs::create_dir_all(ground.path("keys")).expect("a folder for the key");
    ground.write("backstay.toml", &in_a_bucket(&pages, &key, &server.endpoint()));
    let shell =
        Shell::new(&ground).with("AWS_ACCESS_KEY_ID", S3_CREDENTIALS.0).with("AWS_SECRET_ACCESS_KEY", S3_CREDENTIALS.1);
    let said = shell.ends(&blocks(&pages, "sh").concat(), 0);
    assert!(said.contains("repository's store") && said.contains("proven to restore"), "{said}");
    let good = ground.state();
    ground.bad_release();
    shell.ends("backstay restore latest --yes", 0);
    assert_eq!(ground.state(), good);
}

/// Writes down how it was called, and what the files of the project were then.
const WRITES_DOWN: &str =
    "printf '%s %s\\n' \"${0##*/}\" \"$*\" >>calls; [ \"$2\" != register-task-definition ] || echo arn";

#[test]
fn kubernetes_and_ecs_are_stopped_and_started_by_the_commands_of_the_guide() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let pages = page("kubernetes-ecs.md");
    let scripts = blocks(&pages, "bash");
    let settings = blocks(&pages, "toml");
    let script = |number: usize| scripts[number].trim_start_matches("#!/bin/sh\n").trim_start_matches("set -eu\n");
    for (place, name, files, stop, begin, image) in [
        (0, "k8s", [(0, "stop"), (1, "start"), (2, "deploy")].as_slice(), "scale", "apply", "k8s/shop.yml"),
        (1, "ecs", [(3, "stop"), (4, "start")].as_slice(), "--desired-count 0", "register-task", "ecs/task.json"),
    ] {
        if place > 0 && !is_full() {
            continue;
        }
        let ground = Ground::bare(&cluster, name);
        for (number, file) in files {
            ground.script(&format!("{name}/{file}"), script(*number));
        }
        let old = "image: registry.example.com/shop@sha256:aaaa\n";
        ground.write(image, old);
        let repository = ground.path("../").join(format!("repository-{name}-{}", std::process::id()));
        let text = settings[place]
            .replace("s3://acme-backups/shop", &repository.display().to_string())
            .replace("/etc/backstay/shop.key", &ground.path("key").display().to_string())
            .replace("\"kubectl\"", &format!("{:?}", ground.path("kubectl").display().to_string()))
            .replace("\"aws\"", &format!("{:?}", ground.path("aws").display().to_string()));
        ground.write("backstay.toml", &format!("{text}\n[guard]\nsettle_window = \"1s\"\n"));
        for program in ["kubectl", "aws"] {
            ground.script(program, WRITES_DOWN);
        }
        let shell = Shell::new(&ground).with("DIGEST", "bbbb");
        for program in ["kubectl", "aws"] {
            symlink(ground.path(program), shell.programs.path().join(program)).expect("a stand-in");
        }
        shell.ends("backstay init && backstay snapshot --prove", 0);
        let good = ground.state();
        if name == "k8s" {
            shell.ends(&blocks(&pages, "sh").concat(), 0);
            assert!(fs::read_to_string(ground.path(image)).expect("the image").contains("sha256:bbbb"));
        }
        ground.bad_release();
        ground.write(image, &old.replace("aaaa", "cccc"));
        ground.write("calls", "");
        let latest = ground.snapshots().pop().expect("the first snapshot");
        shell.ends(&format!("backstay restore {latest} --yes"), 0);
        assert_eq!(ground.state(), good);
        assert_eq!(
            fs::read_to_string(ground.path(image)).expect("the image"),
            old,
            "the image goes back with its file"
        );
        let calls = fs::read_to_string(ground.path("calls")).expect("what was called");
        let at = |word: &str| calls.find(word).unwrap_or_else(|| panic!("no `{word}` in:\n{calls}"));
        assert!(at(stop) < at(begin), "{calls}");
        let _ = fs::remove_dir_all(repository);
    }
}

/// Everything belongs to an ordinary role, as it does where nobody is superuser.
pub fn owned_by_shop(ground: &Ground<'_>) {
    ground.cluster.sql("postgres", "create role shop login createdb; alter database shop owner to shop");
    ground.sql(
        "do $$ declare one record; begin
           for one in select c.oid::regclass as name from pg_class c join pg_namespace s on s.oid = relnamespace
             where s.nspname = 'store' and relkind in ('r', 'v') loop
             execute format('alter table %s owner to shop', one.name);
           end loop;
         end $$;
         alter schema store owner to shop; alter type store.status owner to shop",
    );
}

/// The role of the page on managed servers, and what it may then do.
#[test]
fn a_role_with_the_rights_of_a_managed_server_snapshots_restores_and_undoes() {
    let Some(cluster) = PrivateCluster::start() else { return };
    let ground = Ground::bare(&cluster, "shop");
    owned_by_shop(&ground);
    let pages = page("managed-postgres.md");
    cluster.sql("postgres", &blocks(&pages, "sql").concat());
    ground.write(".env", &format!("DATABASE_URL={}\nRELEASE=1.0\n", cluster.url_as("backstay", "shop")));
    let _ = ground.backstay.run(&["init", "--project", "shop"]).ended(0);
    let shell = Shell::new(&ground);
    let good = ground.state();
    let said = shell.run("backstay doctor");
    assert!(matches!(said.code, Some(0 | 23)) && !said.text.contains("NOT READY"), "{}", said.text);
    let typed = blocks(&pages, "sh").concat().replace("backstay doctor", "backstay doctor || [ $? -eq 23 ]");
    shell.ends(&typed, 0);
    ground.bad_release();
    let bad = ground.state();
    shell.ends("backstay restore latest --yes", 0);
    assert_eq!(ground.state(), good);
    shell.ends("backstay undo --yes", 0);
    assert_eq!(ground.state(), bad);
}
