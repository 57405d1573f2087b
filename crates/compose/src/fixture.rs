//! A Compose project on a real engine, made of images that are made here, and taken away at the end.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backstay_model::{Manifest, Origin, PartRecord, Purpose, RunId, SystemClock};
use backstay_part::{Captured, Part, Recorded};
use backstay_repository::{FolderStore, LeasePurpose, Options, Repository, Secret};
use backstay_run::{Context, Interrupt};
use backstay_testkit::{Memory, server_from};
use tempfile::TempDir;

use crate::{
    ComposeCommand, ComposeWorkload, Container, Engine, EngineSettings, ImagesPart, Keep, Project, ProjectSettings,
    Rule,
};

/// What every container runs: it does what its first argument says.
const PROGRAM: &str = include_str!("../../../fixtures/container/main.rs");

static NEXT: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Stack {
    pub name: String,
    pub folder: TempDir,
    host: String,
    pub engine: Engine,
    pub heard: Arc<Memory>,
    repository: Option<Repository>,
    runs: AtomicU32,
}

impl Stack {
    /// Nothing where there is no engine.
    pub async fn new() -> Option<Self> {
        let host = server_from("DOCKER_HOST", "Docker Compose projects")?;
        let settings = EngineSettings { host: host.clone(), tls: None };
        let engine = Engine::connect(&settings).await.unwrap();
        let name = format!("bst{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        Some(Self {
            name,
            folder: tempfile::tempdir().unwrap(),
            host,
            engine,
            heard: Arc::default(),
            repository: None,
            runs: AtomicU32::new(0),
        })
    }

    /// The engine's address, as `DOCKER_HOST` says it.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of the project. `NAME` in it becomes the project's name.
    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text.replace("NAME", &self.name)).unwrap();
    }

    pub fn docker(&self, arguments: &[&str]) -> String {
        self.try_docker(arguments).unwrap_or_else(|said| panic!("docker {arguments:?}: {said}"))
    }

    pub fn try_docker(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("docker").args(arguments).env("DOCKER_HOST", &self.host).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// `docker compose` as an operator calls it in the project's folder.
    pub fn compose(&self, arguments: &[&str]) -> String {
        let file = self.path("compose.yml");
        let mut all = vec!["compose", "-p", &self.name, "-f", file.to_str().unwrap()];
        all.extend(arguments);
        self.docker(&all)
    }

    /// An image with one marking file, under a name that begins with the project's. Returns its id.
    pub fn image(&self, name: &str, mark: &str) -> String {
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_path_with_name(program(), "stay").unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(mark.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, "mark", mark.as_bytes()).unwrap();
        let tar = tar.into_inner().unwrap();
        let label = format!("LABEL test={}", self.name);
        let full = format!("{}/{name}", self.name);
        let mut child = Command::new("docker")
            .args(["import", "--change", "ENTRYPOINT [\"/stay\"]", "--change", &label, "-", &full])
            .env("DOCKER_HOST", &self.host)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&tar).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What an operator does when the disk is full, kept to this test's images.
    pub fn prune_all_images(&self) {
        self.docker(&["image", "prune", "-a", "-f", "--filter", &format!("label=test={}", self.name)]);
    }

    pub async fn project(&self) -> Project {
        let compose = ComposeCommand::find(self.engine.settings()).await.unwrap();
        let settings = ProjectSettings {
            name: Some(self.name.clone()),
            files: vec![self.path("compose.yml")],
            database_services: vec!["db".to_owned()],
            ..ProjectSettings::default()
        };
        Project::open(self.engine.clone(), compose, settings).await.unwrap()
    }

    pub async fn part(&self, keep: Keep) -> ImagesPart {
        ImagesPart::new("images".parse().unwrap(), self.project().await, keep)
    }

    pub async fn workload(&self) -> ComposeWorkload {
        let rule = Rule { window: Duration::from_millis(500), restarts_max: 3 };
        let workload = ComposeWorkload::new("workload".parse().unwrap(), self.project().await);
        workload.with_rule(rule, Duration::from_secs(60))
    }

    /// The surroundings of a run of its own.
    pub fn context(&self) -> Context {
        let clock = SystemClock::default();
        let salt = self.runs.fetch_add(1, Ordering::SeqCst);
        Context {
            run: RunId::new(chrono::Utc::now(), u16::try_from(salt).unwrap()),
            project: "shop".parse().unwrap(),
            environment: "test".parse().unwrap(),
            host: "here".to_owned(),
            state: self.path("state"),
            clock: Arc::new(clock),
            listener: self.heard.clone(),
            interrupt: Interrupt::default(),
        }
    }

    /// Takes a snapshot of the images alone, and reads it back.
    pub async fn snapshot(&mut self, part: &ImagesPart) -> (Captured, Recorded) {
        let context = self.context();
        if self.repository.is_none() {
            let store = Arc::new(FolderStore::new(&self.path("repository")));
            let options = Options { cache: None, clock: context.clock.clone(), host: "here".to_owned() };
            self.repository = Some(Repository::create(store, &Secret::None, options).await.unwrap());
        }
        let repository = self.repository.clone().unwrap();
        let lease = repository
            .lease(LeasePurpose::Write, &context.run, Duration::from_secs(60), context.listener.as_ref())
            .await
            .unwrap();
        let writer = repository.begin(&lease, &context.environment).await.unwrap();
        let captured = part.capture(&context, &writer).await.unwrap();
        let record = PartRecord {
            name: part.name().clone(),
            kind: part.kind(),
            contents: writer.bytes(serde_json::to_vec(&captured.contents).unwrap()).await.unwrap(),
            facts: writer.bytes(serde_json::to_vec(&captured.facts).unwrap()).await.unwrap(),
            bytes: captured.bytes(),
            summary: captured.summary.clone(),
        };
        let manifest = Manifest {
            id: writer.id().clone(),
            project: context.project.clone(),
            environment: context.environment.clone(),
            purpose: Purpose::Deliberate,
            taken_at: chrono::Utc::now(),
            committed_at: chrono::Utc::now(),
            run: context.run.clone(),
            origin: Origin::default(),
            labels: BTreeMap::new(),
            parts: vec![record.clone()],
            not_covered: Vec::new(),
        };
        writer.commit(manifest).await.unwrap();
        lease.release().await;
        (captured, Recorded::open(&repository, &record).await.unwrap())
    }

    /// The containers that run, by name.
    pub async fn up(&self) -> BTreeMap<String, Container> {
        let containers = self.project().await.containers().await.unwrap();
        containers.into_iter().filter(|one| one.state.is_up()).map(|one| (one.name.clone(), one)).collect()
    }

    /// The images that a service's running containers were made from.
    pub async fn images_of(&self, service: &str) -> Vec<String> {
        self.up().await.into_values().filter(|one| one.service == service).map(|one| one.image).collect()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let labels =
            [format!("com.docker.compose.project={}", self.name), format!("io.backstay.keep.project={}", self.name)];
        for label in &labels {
            let filter = format!("label={label}");
            let found = self.try_docker(&["ps", "-aq", "--filter", &filter]).unwrap_or_default();
            let ids: Vec<&str> = found.lines().collect();
            if !ids.is_empty() {
                let _ = self.try_docker(&[&["rm", "-f", "-v"], ids.as_slice()].concat());
            }
        }
        let filter = format!("label={}", labels[0]);
        for kind in ["network", "volume"] {
            let found = self.try_docker(&[kind, "ls", "-q", "--filter", &filter]).unwrap_or_default();
            for id in found.lines() {
                let _ = self.try_docker(&[kind, "rm", id]);
            }
        }
        let label = format!("label=test={}", self.name);
        let found = self.try_docker(&["images", "-aq", "--no-trunc", "--filter", &label]).unwrap_or_default();
        for id in found.lines() {
            let _ = self.try_docker(&["rmi", "-f", id]);
        }
    }
}

/// The program as a static binary: made once, kept beside the tests' own.
fn program() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let beside = std::env::current_exe().unwrap();
        let folder = beside.parent().unwrap().join("backstay-compose-fixture");
        std::fs::create_dir_all(&folder).unwrap();
        let digest: String = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(PROGRAM)).chars().take(12).collect();
        let made = folder.join(format!("stay-{digest}"));
        if !made.is_file() {
            let work = tempfile::tempdir_in(&folder).unwrap();
            let source = work.path().join("stay.rs");
            std::fs::write(&source, PROGRAM).unwrap();
            let built = work.path().join("stay");
            let arguments = ["--edition", "2021", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o"];
            let status = Command::new("rustc").args(arguments).arg(&built).arg(&source).status().unwrap();
            assert!(status.success());
            std::fs::rename(&built, &made).unwrap();
        }
        made
    })
}
