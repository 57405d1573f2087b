use std::collections::BTreeMap;
use std::time::Duration;

use crate::State;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Starting,
    Healthy,
    Unhealthy,
}

/// One container at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// On a clock that never goes back.
    pub at: Duration,
    pub state: State,
    pub started_at: String,
    pub restarts: i64,
    pub exit_code: i64,
    /// Nothing where the container has no health check.
    pub health: Option<Health>,
    pub restarted_by_engine: bool,
}

/// When a container counts as settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// For so long it must have run without a break.
    pub window: Duration,
    /// After so many restarts under our eyes it has failed.
    pub restarts_max: i64,
}

impl Default for Rule {
    fn default() -> Self {
        Self { window: Duration::from_secs(5), restarts_max: 3 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It ran through the whole window and is healthy.
    Ready,
    NotYet(String),
    /// It will not become ready by waiting.
    Failed(String),
}

impl Rule {
    /// What looks at one container, oldest first, say. It depends on the looks alone: how many there
    /// were and how unevenly they came matters only for how soon something is known.
    pub fn judge(&self, looks: &[Look]) -> Settled {
        let (Some(first), Some(last)) = (looks.first(), looks.last()) else {
            return Settled::NotYet("it was not seen yet".to_owned());
        };
        let restarts = last.restarts - first.restarts;
        if restarts >= self.restarts_max {
            return Settled::Failed(format!("it ended {restarts} times, the last time with exit code {}", exit(looks)));
        }
        match last.state {
            State::Exited | State::Dead if !last.restarted_by_engine => {
                return Settled::Failed(format!("it ended with exit code {}", last.exit_code));
            }
            State::Running => {}
            state => return Settled::NotYet(format!("it is {}", said(state))),
        }
        match last.health {
            Some(Health::Unhealthy) => return Settled::Failed("its health check fails".to_owned()),
            Some(Health::Starting) => return Settled::NotYet("its health check has not passed yet".to_owned()),
            Some(Health::Healthy) | None => {}
        }
        let unbroken = looks.iter().rev().take_while(|look| look.is_same_life(last)).last().unwrap_or(last);
        if last.at.saturating_sub(unbroken.at) >= self.window {
            return Settled::Ready;
        }
        Settled::NotYet("it has not run for long enough yet".to_owned())
    }

    /// What looks at several containers, by name, say together.
    pub fn judge_all(&self, looks: &BTreeMap<String, Vec<Look>>) -> BTreeMap<String, Settled> {
        looks.iter().map(|(name, looks)| (name.clone(), self.judge(looks))).collect()
    }
}

impl Look {
    /// Whether the container ran on, without an end in between, from one look to the other.
    fn is_same_life(&self, later: &Self) -> bool {
        self.state == State::Running && self.started_at == later.started_at && self.restarts == later.restarts
    }
}

fn exit(looks: &[Look]) -> i64 {
    looks.iter().rev().find(|look| look.state != State::Running).map_or(0, |look| look.exit_code)
}

fn said(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Paused => "paused",
        State::Restarting => "between two starts",
        State::Created => "created and not started",
        State::Exited => "ended",
        State::Dead => "dead",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(second: u64, state: State, life: &str, restarts: i64) -> Look {
        Look {
            at: Duration::from_secs(second),
            state,
            started_at: life.to_owned(),
            restarts,
            exit_code: i64::from(state != State::Running) * 7,
            health: None,
            restarted_by_engine: true,
        }
    }

    fn with_health(health: Health, mut look: Look) -> Look {
        look.health = Some(health);
        look
    }

    fn rule() -> Rule {
        Rule { window: Duration::from_secs(5), restarts_max: 3 }
    }

    fn is_ready(looks: &[Look]) -> bool {
        rule().judge(looks) == Settled::Ready
    }

    #[test]
    fn what_ran_through_the_window_is_ready_and_not_a_moment_earlier() {
        use State::Running;
        assert!(!is_ready(&[]));
        assert!(!is_ready(&[look(0, Running, "a", 0)]));
        assert!(!is_ready(&[look(0, Running, "a", 0), look(4, Running, "a", 0)]));
        assert!(is_ready(&[look(0, Running, "a", 0), look(5, Running, "a", 0)]));
        assert!(is_ready(&[look(0, State::Created, "", 0), look(1, Running, "a", 0), look(9, Running, "a", 0)]));
    }

    #[test]
    fn a_container_that_restarts_again_and_again_is_not_ready_though_it_runs_at_times() {
        use State::{Restarting, Running};
        // Every look happens to find it running; only its beginnings tell.
        let looks = [look(0, Running, "a", 0), look(6, Running, "b", 1), look(10, Running, "b", 1)];
        assert_eq!(rule().judge(&looks), Settled::NotYet("it has not run for long enough yet".to_owned()));
        let looks = [look(0, Running, "a", 0), look(1, Restarting, "a", 1), look(7, Running, "b", 1)];
        assert!(!is_ready(&looks));
        let looks = [look(0, Running, "a", 4), look(3, Restarting, "a", 5), look(20, Running, "c", 7)];
        let Settled::Failed(why) = rule().judge(&looks) else { panic!("it restarted three times") };
        assert_eq!(why, "it ended 3 times, the last time with exit code 7");
        // Restarts before the first look are history.
        assert!(is_ready(&[look(0, Running, "z", 9), look(5, Running, "z", 9)]));
    }

    #[test]
    fn what_ended_for_good_has_failed_and_what_the_engine_restarts_has_not_yet() {
        let mut ended = look(1, State::Exited, "a", 0);
        assert!(matches!(rule().judge(std::slice::from_ref(&ended)), Settled::NotYet(_)));
        ended.restarted_by_engine = false;
        assert_eq!(rule().judge(&[ended]), Settled::Failed("it ended with exit code 7".to_owned()));
    }

    #[test]
    fn a_health_check_decides_where_there_is_one() {
        let at = |second| look(second, State::Running, "a", 0);
        let starting = [with_health(Health::Starting, at(0)), with_health(Health::Starting, at(60))];
        assert!(matches!(rule().judge(&starting), Settled::NotYet(_)));
        let healthy = [with_health(Health::Starting, at(0)), with_health(Health::Healthy, at(6))];
        assert!(is_ready(&healthy));
        let unhealthy = [with_health(Health::Healthy, at(0)), with_health(Health::Unhealthy, at(6))];
        assert!(matches!(rule().judge(&unhealthy), Settled::Failed(_)));
    }
}
