use async_trait::async_trait;
use backstay_compose::{Container, Health, Project, State};
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
            Err(error) => return Seen::Unknown(crate::probe::chain(&error)),
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
            Err(error) => Seen::Unknown(crate::probe::chain(&error)),
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
