use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use backstay_compose::{Container, Health, Project, State};
use backstay_model::with_causes;
use chrono::{DateTime, Utc};

use crate::probe::{Ask, Seen};

/// The containers of one service: do they run, are they healthy, do they restart again and again?
pub struct ContainerAsk {
    pub project: Project,
    pub service: String,
    /// More restarts than this are one too many, however it runs at this moment.
    pub restarts_max: i64,
}

#[async_trait]
impl Ask for ContainerAsk {
    async fn ask(&self) -> Seen {
        let containers = match self.project.containers().await {
            Ok(containers) => containers,
            Err(error) => return Seen::Unknown(with_causes(&error)),
        };
        let mine: Vec<&Container> = containers.iter().filter(|container| container.service == self.service).collect();
        if mine.is_empty() {
            return Seen::Bad("there is no container".to_owned());
        }
        let seen: Vec<Seen> = mine.into_iter().map(|container| self.judge(container)).collect();
        let worst = seen.iter().find(|seen| !matches!(seen, Seen::Good(_)));
        worst.or(seen.first()).cloned().unwrap_or_else(|| Seen::Bad("there is no container".to_owned()))
    }
}

impl ContainerAsk {
    fn judge(&self, container: &Container) -> Seen {
        judge(container.state, container.health, container.exit_code, container.restarts, self.restarts_max)
    }
}

/// Whether the containers of a project run steadily from the first look on: none begins to restart, and none that was
/// made since ends with an error.
pub struct SteadyAsk {
    project: Project,
    looked: Mutex<Option<Looked>>,
}

/// What earlier looks have shown.
struct Looked {
    /// The ids that were there at first.
    at_first: BTreeSet<String>,
    /// How often each had restarted at the last look. Told from look to look, so that what restarts until its
    /// database is there may settle.
    restarts: BTreeMap<String, i64>,
}

impl SteadyAsk {
    pub fn new(project: Project) -> Self {
        Self { project, looked: Mutex::default() }
    }
}

#[async_trait]
impl Ask for SteadyAsk {
    async fn ask(&self) -> Seen {
        let now = match self.project.containers().await {
            Ok(containers) => containers,
            Err(error) => return Seen::Unknown(with_causes(&error)),
        };
        let restarts = now.iter().map(|one| (one.id.clone(), one.restarts)).collect();
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(looked) = looked.as_mut() else {
            *looked = Some(Looked { at_first: now.into_iter().map(|one| one.id).collect(), restarts });
            return Seen::Good("as it is".to_owned());
        };
        let unsteady = now.iter().find_map(|one| {
            let is_new = !looked.at_first.contains(&one.id);
            let before = looked.restarts.get(&one.id).copied().unwrap_or_default();
            unsteady(one.state, one.exit_code, one.restarts - before, is_new).map(|why| format!("{} {why}", one.name))
        });
        looked.restarts = restarts;
        unsteady.map_or_else(|| Seen::Good("nothing restarts".to_owned()), Seen::Bad)
    }
}

fn unsteady(state: State, exit_code: i64, restarts: i64, is_new: bool) -> Option<String> {
    match state {
        _ if restarts > 0 || state == State::Restarting => Some("restarts".to_owned()),
        State::Exited | State::Dead if is_new && exit_code != 0 => Some(format!("ended with exit code {exit_code}")),
        _ => None,
    }
}

/// What a service writes while it is watched: a line that looks like trouble is one too many.
pub struct LogAsk {
    project: Project,
    service: String,
    patterns: Vec<String>,
    /// What it wrote before belongs to another release.
    since: DateTime<Utc>,
}

/// What trouble looks like where nobody says otherwise.
const TROUBLE: [&str; 4] = ["panic", "fatal", "unhandled", "out of memory"];
const LINE_SHOWN_MAX: usize = 160;

impl LogAsk {
    pub fn new(project: Project, service: String, patterns: Vec<String>, since: DateTime<Utc>) -> Self {
        Self { project, service, patterns, since }
    }
}

#[async_trait]
impl Ask for LogAsk {
    async fn ask(&self) -> Seen {
        match self.project.logs_since(&self.service, self.since).await {
            Ok(lines) => trouble_in(&lines, &self.patterns),
            Err(error) => Seen::Unknown(with_causes(&error)),
        }
    }
}

fn trouble_in(lines: &[String], patterns: &[String]) -> Seen {
    let usual = patterns.is_empty();
    let bad = lines.iter().find(|line| {
        let lower = line.to_lowercase();
        let mentions = |pattern: &str| lower.contains(&pattern.to_lowercase());
        if usual {
            TROUBLE.iter().any(|pattern| mentions(pattern))
        } else {
            patterns.iter().any(|pattern| mentions(pattern))
        }
    });
    match bad {
        Some(line) => Seen::Bad(line.chars().take(LINE_SHOWN_MAX).collect()),
        None => Seen::Good("no trouble in the log".to_owned()),
    }
}

fn judge(state: State, health: Option<Health>, exit_code: i64, restarts: i64, restarts_max: i64) -> Seen {
    if restarts > restarts_max {
        return Seen::Bad(format!("restarted {restarts} times"));
    }
    match (state, health) {
        (State::Running, None) => Seen::Good("runs".to_owned()),
        (State::Running, Some(Health::Healthy)) => Seen::Good("runs, healthy".to_owned()),
        (State::Running, Some(Health::Starting)) => Seen::Unknown("its health check has not passed yet".to_owned()),
        (State::Running, Some(Health::Unhealthy)) => Seen::Bad("its health check fails".to_owned()),
        (State::Exited, _) if exit_code == 0 => Seen::Good("did its work and ended".to_owned()),
        (State::Exited, _) => Seen::Bad(format!("ended with exit code {exit_code}")),
        _ => Seen::Bad("does not run".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_in_a_log_is_what_was_named_or_the_usual() {
        let lines = ["started".to_owned(), "PANIC at the disco".to_owned()];
        assert_eq!(trouble_in(&lines, &[]), Seen::Bad("PANIC at the disco".to_owned()));
        assert!(matches!(trouble_in(&lines, &["timeout".to_owned()]), Seen::Good(_)));
        assert!(matches!(trouble_in(&lines[..1], &[]), Seen::Good(_)));
    }

    #[test]
    fn what_restarts_or_is_new_and_ends_badly_is_not_steady() {
        assert_eq!(unsteady(State::Running, 0, 0, true), None);
        assert!(unsteady(State::Running, 0, 1, false).is_some(), "it died between two looks");
        assert!(unsteady(State::Restarting, 1, 0, true).is_some());
        assert!(unsteady(State::Exited, 70, 0, true).is_some());
        assert_eq!(unsteady(State::Exited, 143, 0, false), None, "the deploy stopped what was there before");
        assert_eq!(unsteady(State::Exited, 0, 0, true), None, "a one-shot did its work");
    }

    #[test]
    fn each_state_of_a_container_has_its_answer() {
        let good = |seen: &Seen| matches!(seen, Seen::Good(_));
        assert!(good(&judge(State::Running, None, 0, 0, 3)));
        assert!(good(&judge(State::Running, Some(Health::Healthy), 0, 3, 3)));
        assert!(good(&judge(State::Exited, None, 0, 0, 3)), "a one-shot that did its work is fine");
        assert!(!good(&judge(State::Exited, None, 1, 0, 3)));
        assert!(!good(&judge(State::Running, Some(Health::Unhealthy), 0, 0, 3)));
        assert!(!good(&judge(State::Running, None, 0, 4, 3)), "one that restarts again and again is not");
        assert!(matches!(judge(State::Running, Some(Health::Starting), 0, 0, 3), Seen::Unknown(_)));
    }
}
