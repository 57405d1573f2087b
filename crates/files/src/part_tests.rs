//! The part as a restore calls it, over a repository in memory.

use std::sync::Arc;
use std::time::Duration;

use backstay_model::{Environment, PartKind, PartRecord, RunId, Severity, Silent, SystemClock};
use backstay_part::{Captured, ErrorKind, Part, Recorded, Standing};
use backstay_repository::{Lease, LeasePurpose, MemoryStore, Options, Repository, Secret, SnapshotWriter};
use backstay_run::{Context, Interrupt};

use crate::FilesPart;
use crate::files_tests::{Project, run};

struct Stand {
    project: Project,
    part: FilesPart,
    repository: Repository,
    writer: SnapshotWriter,
    _lease: Lease,
}

impl Stand {
    async fn new() -> Self {
        let project = Project::new();
        let options = Options { cache: None, clock: Arc::new(SystemClock::default()), host: "web1".to_owned() };
        let store = Arc::new(MemoryStore::default());
        let repository = Repository::create(store, &Secret::None, options).await.unwrap();
        let environment = Environment::unnamed();
        let lease = repository
            .lease(LeasePurpose::Change(environment.clone()), &run(1), Duration::from_secs(60), &Silent)
            .await
            .unwrap();
        let writer = repository.begin(&lease, &environment).await.unwrap();
        let part = FilesPart::new("files".parse().unwrap(), project.selection.clone());
        Self { project, part, repository, writer, _lease: lease }
    }

    fn context(&self, run: RunId) -> Context {
        Context {
            run,
            project: "shop".parse().unwrap(),
            environment: Environment::unnamed(),
            host: "web1".to_owned(),
            state: self.project.state(),
            clock: Arc::new(SystemClock::default()),
            listener: Arc::new(Silent),
            interrupt: Interrupt::default(),
        }
    }

    async fn recorded(&self, captured: Captured) -> Recorded {
        let stored = |value: serde_json::Value| async move {
            self.writer.bytes(serde_json::to_vec(&value).unwrap()).await.unwrap()
        };
        let record = PartRecord {
            name: "files".parse().unwrap(),
            kind: PartKind::Files,
            contents: stored(serde_json::to_value(&captured.contents).unwrap()).await,
            facts: stored(captured.facts.clone()).await,
            bytes: captured.bytes(),
            summary: captured.summary.clone(),
        };
        let Captured { contents, facts, .. } = captured;
        Recorded { record, contents, facts, repository: self.repository.clone() }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_goes_through_every_phase_and_back() {
    let stand = Stand::new().await;
    let (part, first, second) = (&stand.part, stand.context(run(1)), stand.context(run(2)));
    let looked = part.look(&first).await.unwrap();
    let findings = part.preflight(&first).await.unwrap();
    assert!(findings.iter().all(|finding| finding.severity == Severity::Good), "{findings:?}");
    let captured = part.capture(&first, &stand.writer).await.unwrap();
    assert_eq!(part.look(&first).await.unwrap(), looked);
    let recorded = stand.recorded(captured).await;
    assert!(part.plan(&first, &recorded).await.unwrap().unchanged);

    stand.project.spoil();
    let bad = stand.project.tree();
    assert_ne!(part.look(&first).await.unwrap(), looked);
    let plan = part.plan(&first, &recorded).await.unwrap();
    assert_eq!((plan.steps.len(), plan.refusals.len()), (6, 0), "{plan:?}");
    let staged = part.stage(&first, &recorded).await.unwrap();
    let again = part.stage(&first, &recorded).await.unwrap();
    assert_eq!(again, staged);
    let proof = part.prove(&first, &recorded, &staged).await.unwrap();
    assert!(proof.holds(), "{proof:?}");
    assert_eq!(part.standing(&first, &staged).await.unwrap(), Standing::NotSwitched);
    let activated = part.activate(&first, &staged).await.unwrap();
    assert_eq!(part.standing(&first, &staged).await.unwrap(), Standing::Switched);
    assert_eq!(part.loss(&first, &activated).await.unwrap(), None);

    // What was kept becomes a snapshot of its own, and brings the bad release back.
    let kept = part.capture_kept(&first, &activated, &stand.writer).await.unwrap().unwrap();
    part.settle(&first, &activated).await.unwrap();
    assert!(part.capture_kept(&first, &activated, &stand.writer).await.unwrap().is_none());
    let error = part.stage_kept(&second, &activated).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    let kept = stand.recorded(kept).await;
    let staged = part.stage(&second, &kept).await.unwrap();
    assert!(part.prove(&second, &kept, &staged).await.unwrap().holds());
    part.activate(&second, &staged).await.unwrap();
    let mut back = stand.project.tree();
    back.retain(|path, said| said != "folder" || bad.contains_key(path));
    assert_eq!(back, bad);
    part.revert(&second, &staged).await.unwrap();
    part.abandon(&second, &second.run, Some(&staged)).await.unwrap();
    assert!(!stand.project.layout(2).folder.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_heard_while_staging_and_nothing_is_left_after_abandoning() {
    let stand = Stand::new().await;
    let context = stand.context(run(1));
    let captured = stand.part.capture(&context, &stand.writer).await.unwrap();
    let recorded = stand.recorded(captured).await;
    context.interrupt.request();
    let error = stand.part.stage(&context, &recorded).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Interrupted);
    stand.part.abandon(&context, &context.run, None).await.unwrap();
    assert!(!stand.project.layout(1).folder.exists());
}
