mod order;
mod start;
mod stop;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use backstay_model::PartName;
use backstay_part::{Condition, ErrorKind, Token, Workload};
use backstay_run::Context;
use serde::{Deserialize, Serialize};

use crate::last_logs::last_logs;
use crate::watch::watch;
use crate::{Container, Error, Health, Project, Rule, Settled, State};

/// The exit codes of a container that was told to stop.
const STOPPED: [i64; 3] = [0, 137, 143];

/// What runs in one Compose project on top of its databases.
#[derive(Debug, Clone)]
pub struct ComposeWorkload {
    project: Project,
    name: PartName,
    rule: Rule,
    limit: Duration,
    /// The services that the last start brought up and left well. Looking at them goes on where it ended.
    started: Arc<Mutex<BTreeSet<String>>>,
}

/// What ran when it was observed. It holds names and ids alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Observed {
    /// A digest over the files, as they were on disk.
    sources: Option<String>,
    services: BTreeMap<String, ObservedService>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ObservedService {
    containers: Vec<ObservedContainer>,
    depends_on: Vec<String>,
    /// It does its work once and ends: it is stopped and not started again.
    one_shot: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ObservedContainer {
    id: String,
    name: String,
    image: String,
    /// It failed its health check, or ended again and again.
    #[serde(default)]
    unwell: bool,
}

impl ObservedService {
    fn was_unwell(&self) -> bool {
        self.containers.iter().any(|container| container.unwell)
    }
}

impl ComposeWorkload {
    /// `name` is what errors call it.
    pub fn new(name: PartName, project: Project) -> Self {
        Self { project, name, rule: Rule::default(), limit: Duration::from_secs(120), started: Arc::default() }
    }

    fn started(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When its containers count as settled, and how long that may take.
    #[must_use]
    pub fn with_rule(mut self, rule: Rule, limit: Duration) -> Self {
        (self.rule, self.limit) = (rule, limit);
        self
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(Error) -> backstay_part::Error + '_ {
        move |error| error.in_part(&self.name, action)
    }

    async fn writers(&self) -> Result<Vec<Container>, Error> {
        let containers = self.project.containers().await?;
        Ok(containers.into_iter().filter(|one| one.state.is_up() && !self.project.is_database(&one.service)).collect())
    }

    async fn observe_all(&self) -> Result<Observed, Error> {
        let all = self.project.containers().await?;
        let completes = |service: &str| {
            let mut dependencies = all.iter().flat_map(|one| &one.depends_on);
            dependencies.any(|dependency| dependency.until_completed && dependency.service == service)
        };
        let mut services: BTreeMap<String, ObservedService> = BTreeMap::new();
        for container in self.writers().await? {
            let service = services.entry(container.service.clone()).or_insert_with(|| ObservedService {
                containers: Vec::new(),
                depends_on: container.depends_on.iter().map(|one| one.service.clone()).collect(),
                one_shot: completes(&container.service),
            });
            service.containers.push(ObservedContainer {
                unwell: container.health == Some(Health::Unhealthy) || container.state == State::Restarting,
                id: container.id,
                name: container.name,
                image: container.image,
            });
        }
        Ok(Observed { sources: self.project.sources_digest().await?, services })
    }

    async fn look(&self, context: &Context) -> Result<Condition, Error> {
        let started = self.started().clone();
        let counts = |container: &Container| match container.state {
            _ if started.contains(&container.service) => true,
            State::Exited => !STOPPED.contains(&container.exit_code),
            State::Created | State::Dead => false,
            State::Running | State::Paused | State::Restarting => true,
        };
        let judged = watch(&self.project, context, &self.rule, self.limit, counts).await?;
        if judged.is_empty() {
            return Ok(Condition::Undecided { why: format!("no container of {} runs", self.project.name()) });
        }
        let failures = self.failures(&judged).await?;
        if !failures.is_empty() {
            return Ok(Condition::Unhealthy { failures });
        }
        let waiting: Vec<String> = judged
            .iter()
            .filter_map(|(name, settled)| match settled {
                Settled::NotYet(why) => Some(format!("{name}: {why}")),
                _ => None,
            })
            .collect();
        Ok(if waiting.is_empty() { Condition::Healthy } else { Condition::Undecided { why: waiting.join("; ") } })
    }

    /// What failed, each with the last that it said.
    async fn failures(&self, judged: &BTreeMap<String, Settled>) -> Result<Vec<String>, Error> {
        let mask = Project::mask(&self.project.containers().await?);
        let mut failures = Vec::new();
        for (name, settled) in judged {
            let Settled::Failed(why) = settled else { continue };
            let logs = last_logs(self.project.engine(), name, &mask).await;
            let said = if logs.is_empty() { String::new() } else { format!("; it said last: {}", logs.join(" | ")) };
            failures.push(format!("{name}: {why}{said}"));
        }
        Ok(failures)
    }
}

#[async_trait]
impl Workload for ComposeWorkload {
    fn describe(&self) -> String {
        format!("the Compose project {}", self.project.name())
    }

    async fn running(&self, _context: &Context) -> Result<Vec<String>, backstay_part::Error> {
        let writers = self.writers().await.map_err(self.failed("look at"))?;
        let mut services: Vec<String> = writers.into_iter().map(|container| container.service).collect();
        services.dedup();
        Ok(services)
    }

    async fn observe(&self, _context: &Context) -> Result<Token, backstay_part::Error> {
        let observed = self.observe_all().await.map_err(self.failed("look at"))?;
        Token::new(&observed).map_err(|source| self.failed("look at")(Error::Token(source)))
    }

    async fn observe_besides(&self, _context: &Context, before: &Token) -> Result<Token, backstay_part::Error> {
        let before = self.read(before, "look at")?;
        let mut now = self.observe_all().await.map_err(self.failed("look at"))?;
        for (service, then) in before.services {
            now.services.entry(service).or_insert(then);
        }
        Token::new(&now).map_err(|source| self.failed("look at")(Error::Token(source)))
    }

    async fn stop(&self, context: &Context, observed: &Token) -> Result<(), backstay_part::Error> {
        let observed = self.read(observed, "stop")?;
        self.started().clear();
        stop::stop(self, context, &observed).await.map_err(self.failed("stop"))
    }

    async fn start(&self, context: &Context, observed: &Token) -> Result<(), backstay_part::Error> {
        let observed = self.read(observed, "start")?;
        start::start(self, context, &observed).await.map_err(self.failed("start"))
    }

    async fn probe(&self, context: &Context) -> Result<Condition, backstay_part::Error> {
        self.look(context).await.map_err(self.failed("probe"))
    }
}

impl ComposeWorkload {
    fn read(&self, token: &Token, action: &'static str) -> Result<Observed, backstay_part::Error> {
        token.read().map_err(|source| backstay_part::Error {
            part: self.name.clone(),
            action,
            kind: ErrorKind::Failed,
            source: Box::new(Error::Token(source)),
        })
    }
}
