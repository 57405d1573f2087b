//! Parts and a workload in memory. A [`World`] is the machine they live on: it outlives the process,
//! and each process reaches it through a wire of its own, so that it can die or fail at any effect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use backstay_model::{Finding, Loss, PartKind, PartName, PartPlan, RunId, TableLoss};
use backstay_repository::SnapshotWriter;
use backstay_run::Context;
use backstay_run::fakes::Tripwire;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Captured, Comparison, Condition, Contents, Error, ErrorKind, Part, Proof, Recorded, Standing, Token, Workload,
};

/// A value that makes whatever runs on it unhealthy.
pub const SICK: &str = "sick";

/// What is on the machine. Cheap to clone; all clones are the same machine.
#[derive(Debug, Clone, Default)]
pub struct World {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    parts: BTreeMap<String, Slots>,
    /// What the workload was started with, part by part. Nothing where it is stopped.
    running: Option<BTreeMap<String, String>>,
}

/// Everything there is of one part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Slots {
    live: String,
    /// The run whose activation made it live.
    live_by: Option<RunId>,
    staged: BTreeMap<RunId, String>,
    kept: BTreeMap<RunId, String>,
    /// The runs whose copies something ran on: it may have written to them.
    run_on: BTreeSet<RunId>,
    /// Rows written to the live side since the last switch: what a switch would lose.
    writes: u64,
    /// The schema that what runs on it must know.
    schema: u32,
}

/// What a test compares: what is live, what runs, and what lies about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    pub live: BTreeMap<String, String>,
    pub running: Option<BTreeMap<String, String>>,
    pub staged: Vec<String>,
    pub kept: Vec<String>,
}

impl World {
    /// A machine of its own with the same on it.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.state().clone())) }
    }

    /// Sets what is live, as if somebody had deployed it.
    pub fn deploy(&self, part: &str, value: &str) {
        let mut state = self.state();
        let slots = state.parts.entry(part.to_owned()).or_default();
        value.clone_into(&mut slots.live);
        slots.live_by = None;
        if let Some(running) = &mut state.running {
            running.insert(part.to_owned(), value.to_owned());
        }
    }

    /// Rows are written to the live side.
    pub fn write_rows(&self, part: &str, rows: u64) {
        self.state().parts.entry(part.to_owned()).or_default().writes += rows;
    }

    /// The schema of the live side changes.
    pub fn migrate(&self, part: &str, schema: u32) {
        self.state().parts.entry(part.to_owned()).or_default().schema = schema;
    }

    /// The workload runs with what is live.
    pub fn start(&self) {
        let mut state = self.state();
        state.running = Some(state.live());
        for slots in state.parts.values_mut() {
            slots.run_on.extend(slots.live_by.clone());
        }
    }

    pub fn look(&self) -> Sight {
        let state = self.state();
        let lying = |slots: fn(&Slots) -> &BTreeMap<RunId, String>| {
            let of = |(part, all): (&String, &Slots)| {
                slots(all).iter().map(|(run, value)| format!("{part} {value} {run}")).collect::<Vec<_>>()
            };
            state.parts.iter().flat_map(of).collect()
        };
        Sight {
            live: state.live(),
            running: state.running.clone(),
            staged: lying(|slots| &slots.staged),
            kept: lying(|slots| &slots.kept),
        }
    }

    /// A part of this machine as one process reaches it.
    pub fn part(
        &self,
        name: &str,
        kind: PartKind,
        wire: &Tripwire,
    ) -> Result<Arc<dyn Part>, backstay_model::InvalidName> {
        Ok(Arc::new(FakePart { name: name.parse()?, kind, world: self.clone(), wire: wire.clone() }))
    }

    pub fn workload(&self, wire: &Tripwire) -> FakeWorkload {
        FakeWorkload { world: self.clone(), wire: wire.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn live(&self) -> BTreeMap<String, String> {
        self.parts.iter().map(|(name, slots)| (name.clone(), slots.live.clone())).collect()
    }
}

/// A part whose whole state is one text.
pub struct FakePart {
    name: PartName,
    kind: PartKind,
    world: World,
    wire: Tripwire,
}

#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    value: String,
    schema: u32,
}

/// Where the staged state comes from, and whose run it is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct FakeToken {
    run: RunId,
    /// The earlier run that keeps it, where it was not staged anew.
    kept_by: Option<RunId>,
    /// Not for use: it lacks what a proof does not need.
    for_proof: bool,
}

const VALUE_BYTES_MAX: u64 = 1 << 20;

impl FakePart {
    fn error(&self, action: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error { part: self.name.clone(), action, kind: ErrorKind::Failed, source: source.into() }
    }

    /// One effect on this part: before it, it, and after it.
    async fn change<T>(
        &self,
        action: &'static str,
        change: impl FnOnce(&mut Slots) -> Result<T, String> + Send,
    ) -> Result<T, Error> {
        self.point(action, "before").await?;
        let changed = self.with(action, change)?;
        self.point(action, "after").await?;
        Ok(changed)
    }

    fn with<T>(&self, action: &'static str, change: impl FnOnce(&mut Slots) -> Result<T, String>) -> Result<T, Error> {
        let mut state = self.world.state();
        let slots = state.parts.entry(self.name.to_string()).or_default();
        change(slots).map_err(|why| self.error(action, why))
    }

    async fn point(&self, action: &'static str, when: &str) -> Result<(), Error> {
        let name = format!("{when} {action} {}", self.name);
        self.wire.point("part", name).await.map_err(|tripped| self.error(action, tripped))
    }

    fn token(&self, action: &'static str, token: &FakeToken) -> Result<Token, Error> {
        Token::new(token).map_err(|source| self.error(action, source))
    }

    fn read(&self, action: &'static str, token: &Token) -> Result<FakeToken, Error> {
        token.read().map_err(|source| self.error(action, source))
    }

    fn facts(&self, action: &'static str, recorded: &Recorded) -> Result<Facts, Error> {
        recorded.facts().map_err(|source| self.error(action, source))
    }
}

#[async_trait]
impl Part for FakePart {
    fn name(&self) -> &PartName {
        &self.name
    }

    fn kind(&self) -> PartKind {
        self.kind
    }

    async fn preflight(&self, _context: &Context) -> Result<Vec<Finding>, Error> {
        Ok(Vec::new())
    }

    async fn look(&self, _context: &Context) -> Result<Option<serde_json::Value>, Error> {
        self.point("look at", "before").await?;
        let live = self.with("look at", |slots| Ok(slots.live.clone()))?;
        Ok((self.kind != PartKind::Database).then(|| live.into()))
    }

    async fn capture(&self, _context: &Context, writer: &SnapshotWriter) -> Result<Captured, Error> {
        self.point("capture", "before").await?;
        let (value, schema) = self.with("capture", |slots| Ok((slots.live.clone(), slots.schema)))?;
        let mut stream = writer.stream();
        let pushed = stream.push(Bytes::from(value.clone())).await;
        pushed.map_err(|source| self.error("capture", source))?;
        let root = stream.finish().await.map_err(|source| self.error("capture", source))?;
        let contents = Contents::from([("value".to_owned(), root)]);
        let summary = format!("the value {value}");
        Captured::new(contents, &Facts { value, schema }, summary).map_err(|source| self.error("capture", source))
    }

    async fn plan(&self, _context: &Context, recorded: &Recorded) -> Result<PartPlan, Error> {
        self.point("plan", "before").await?;
        let facts = self.facts("plan", recorded)?;
        let slots = self.with("plan", |slots| Ok(slots.clone()))?;
        let database = self.kind == PartKind::Database;
        // Rows are not the basis; everything else is.
        let basis = if database { serde_json::json!(slots.schema) } else { slots.live.clone().into() };
        let mut plan = PartPlan::new(self.name.clone(), self.kind, basis);
        plan.unchanged = slots.live == facts.value && slots.writes == 0;
        plan.steps = vec![format!("bring back {}", facts.value)];
        if database {
            let table = TableLoss { table: "rows".to_owned(), inserted: slots.writes, ..TableLoss::default() };
            plan.loss = Some(Loss { exact: false, tables: vec![table], caveats: Vec::new() });
            if slots.schema != facts.schema {
                plan.must_go_back.push(format!("the schema is {} and was {}", slots.schema, facts.schema));
            }
        }
        Ok(plan)
    }

    async fn stage(&self, context: &Context, recorded: &Recorded) -> Result<Token, Error> {
        let root = recorded.contents.get("value").ok_or_else(|| self.error("stage", "there is no value"))?;
        let read = recorded.repository.read_whole(root, VALUE_BYTES_MAX).await;
        let value = read.map_err(|source| self.error("stage", source))?;
        let value = String::from_utf8(value).map_err(|source| self.error("stage", source))?;
        let run = context.run.clone();
        self.change("stage", |slots| {
            slots.staged.insert(run.clone(), value);
            Ok(())
        })
        .await?;
        self.token("stage", &FakeToken { run: context.run.clone(), kept_by: None, for_proof: false })
    }

    async fn stage_for_proof(&self, context: &Context, recorded: &Recorded) -> Result<Token, Error> {
        let staged = self.stage(context, recorded).await?;
        let staged = FakeToken { for_proof: true, ..self.read("stage", &staged)? };
        self.token("stage", &staged)
    }

    async fn keep_warm(&self, _context: &Context, _recorded: &Recorded, staged: &Token) -> Result<(), Error> {
        let staged = self.read("keep warm", staged)?;
        if staged.for_proof { Err(self.error("keep warm", "it was staged for a proof")) } else { Ok(()) }
    }

    async fn stage_kept(&self, context: &Context, activated: &Token) -> Result<Token, Error> {
        self.point("stage what was kept of", "before").await?;
        let kept_by = self.read("stage", activated)?.run;
        self.with("stage", |slots| match slots.kept.contains_key(&kept_by) {
            true => Ok(()),
            false => Err(format!("what {kept_by} kept was let go")),
        })?;
        self.token("stage", &FakeToken { run: context.run.clone(), kept_by: Some(kept_by), for_proof: false })
    }

    async fn prove(&self, _context: &Context, recorded: &Recorded, staged: &Token) -> Result<Proof, Error> {
        self.point("prove", "before").await?;
        let facts = self.facts("prove", recorded)?;
        let run = self.read("prove", staged)?.run;
        let value =
            self.with("prove", |slots| slots.staged.get(&run).cloned().ok_or("nothing is staged".to_owned()))?;
        let findings = match value == facts.value {
            true => Vec::new(),
            false => vec![format!("{value} is staged and {} was captured", facts.value)],
        };
        Ok(Proof { findings, compared: "1 value".to_owned() })
    }

    async fn activate(&self, _context: &Context, staged: &Token) -> Result<Token, Error> {
        let token = self.read("activate", staged)?;
        // Two effects, so that there is a half to die in.
        self.change("keep what is live of", |slots| {
            if slots.live_by.as_ref() != Some(&token.run) && !slots.kept.contains_key(&token.run) {
                let there = match &token.kept_by {
                    Some(earlier) => slots.kept.contains_key(earlier),
                    None => slots.staged.contains_key(&token.run),
                };
                if !there {
                    return Err("there is nothing to activate".to_owned());
                }
                slots.kept.insert(token.run.clone(), slots.live.clone());
            }
            Ok(())
        })
        .await?;
        self.change("activate", |slots| {
            if slots.live_by.as_ref() != Some(&token.run) {
                let next = match &token.kept_by {
                    Some(earlier) => slots.kept.remove(earlier),
                    None => slots.staged.remove(&token.run),
                };
                slots.live = next.ok_or("there is nothing to activate")?;
                slots.live_by = Some(token.run.clone());
            }
            Ok(())
        })
        .await?;
        Ok(staged.clone())
    }

    async fn revert(&self, _context: &Context, staged: &Token) -> Result<(), Error> {
        let token = self.read("revert", staged)?;
        self.change("switch back", |slots| {
            if slots.live_by.as_ref() == Some(&token.run) {
                let before = slots.kept.get(&token.run).cloned().ok_or("what it replaced was let go")?;
                let live = std::mem::replace(&mut slots.live, before);
                slots.live_by = None;
                match token.kept_by.clone() {
                    Some(earlier) => slots.kept.insert(earlier, live),
                    None => slots.staged.insert(token.run.clone(), live),
                };
            }
            Ok(())
        })
        .await?;
        self.change("let go of the kept name of", |slots| {
            slots.kept.remove(&token.run);
            Ok(())
        })
        .await
    }

    async fn standing(&self, _context: &Context, staged: &Token) -> Result<Standing, Error> {
        self.point("read the standing of", "before").await?;
        let run = self.read("read", staged)?.run;
        let slots = self.with("read", |slots| Ok(slots.clone()))?;
        Ok(match (slots.live_by == Some(run.clone()), slots.kept.contains_key(&run)) {
            (true, true) => Standing::Switched,
            (true, false) => Standing::Settled,
            (false, true) => Standing::Half("what is live is kept already".to_owned()),
            (false, false) => Standing::NotSwitched,
        })
    }

    async fn compare<'a>(&'a self, _context: &'a Context, _activated: &Token) -> Result<Option<Comparison<'a>>, Error> {
        self.point("compare", "before").await?;
        let writes = self.with("compare", |slots| Ok(slots.writes))?;
        let table = TableLoss { table: "rows".to_owned(), inserted: writes, ..TableLoss::default() };
        let loss = Loss { exact: true, tables: vec![table], caveats: Vec::new() };
        let count = async move { self.point("count", "before").await.map(|()| loss) };
        Ok((self.kind == PartKind::Database).then(|| Box::pin(count) as Comparison<'a>))
    }

    async fn capture_kept(
        &self,
        _context: &Context,
        activated: &Token,
        writer: &SnapshotWriter,
    ) -> Result<Option<Captured>, Error> {
        self.point("capture what was kept of", "before").await?;
        let run = self.read("capture", activated)?.run;
        let kept =
            self.with("capture", |slots| Ok(slots.kept.get(&run).cloned().map(|value| (value, slots.schema))))?;
        let Some((value, schema)) = kept else { return Ok(None) };
        let root = writer.bytes(value.clone().into_bytes()).await.map_err(|source| self.error("capture", source))?;
        let contents = Contents::from([("value".to_owned(), root)]);
        let summary = format!("the kept value {value}");
        let captured = Captured::new(contents, &Facts { value, schema }, summary);
        captured.map(Some).map_err(|source| self.error("capture", source))
    }

    async fn settle(&self, _context: &Context, activated: &Token) -> Result<(), Error> {
        let run = self.read("settle", activated)?.run;
        self.change("settle", |slots| {
            slots.kept.remove(&run);
            Ok(())
        })
        .await
    }

    async fn abandon(&self, _context: &Context, run: &RunId, _staged: Option<&Token>) -> Result<(), Error> {
        self.change("abandon", |slots| {
            if self.kind != PartKind::Database || !slots.run_on.contains(run) {
                slots.staged.remove(run);
            }
            Ok(())
        })
        .await
    }

    async fn left(&self, _context: &Context, run: &RunId) -> Result<Vec<String>, Error> {
        self.point("look for copies of", "before").await?;
        self.with("look", |slots| Ok(slots.staged.get(run).cloned().into_iter().collect()))
    }

    async fn discard(&self, _context: &Context, run: &RunId) -> Result<(), Error> {
        self.change("discard", |slots| {
            slots.staged.remove(run);
            Ok(())
        })
        .await
    }
}

/// What runs on a [`World`]: it holds the values it was started with.
pub struct FakeWorkload {
    world: World,
    wire: Tripwire,
}

impl FakeWorkload {
    async fn point(&self, action: &'static str, when: &str) -> Result<(), Error> {
        let point = self.wire.point("workload", format!("{when} {action}")).await;
        point.map_err(|tripped| {
            let part = PartName::try_from("workload".to_owned());
            // The name above is valid; the other one is never built.
            let part = part.unwrap_or_else(|invalid| unreachable!("{invalid}"));
            Error { part, action, kind: ErrorKind::Failed, source: Box::new(tripped) }
        })
    }
}

#[async_trait]
impl Workload for FakeWorkload {
    fn describe(&self) -> String {
        "the fake workload".to_owned()
    }

    async fn running(&self, _context: &Context) -> Result<Vec<String>, Error> {
        self.point("list", "before").await?;
        Ok(self.world.state().running.iter().map(|_| "api".to_owned()).collect())
    }

    async fn observe(&self, _context: &Context) -> Result<Token, Error> {
        self.point("observe", "before").await?;
        Ok(Token(self.world.state().running.is_some().into()))
    }

    async fn observe_besides(&self, context: &Context, before: &Token) -> Result<Token, Error> {
        let now = self.observe(context).await?;
        Ok(Token((now.0 == serde_json::Value::Bool(true) || before.0 == serde_json::Value::Bool(true)).into()))
    }

    async fn stop(&self, _context: &Context, _observed: &Token) -> Result<(), Error> {
        self.point("stop", "before").await?;
        self.world.state().running = None;
        self.point("stop", "after").await
    }

    async fn start(&self, _context: &Context, observed: &Token) -> Result<(), Error> {
        self.point("start", "before").await?;
        if observed.0 == serde_json::Value::Bool(true) {
            self.world.start();
        }
        self.point("start", "after").await
    }

    async fn probe(&self, _context: &Context) -> Result<Condition, Error> {
        self.point("probe", "before").await?;
        let sick = self.world.state().running.iter().flatten().any(|(_, value)| value.contains(SICK));
        Ok(match sick {
            true => Condition::Unhealthy { failures: vec![format!("it is {SICK}")] },
            false => Condition::Healthy,
        })
    }
}
