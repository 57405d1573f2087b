use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

/// Where every crate gets the time from, so that tests can hold it.
pub trait Clock: Send + Sync {
    /// Wall-clock time: for names, records and retention. It may jump.
    fn now(&self) -> DateTime<Utc>;

    /// Time since an arbitrary start: for timeouts and leases. It never goes back, and goes on while the
    /// machine sleeps.
    fn elapsed(&self) -> Duration;
}

/// The machine's own clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
    up_at_start: Duration,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now(), up_at_start: up() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn elapsed(&self) -> Duration {
        // Whole seconds, so that one of them may only have seemed to pass.
        let up = up().saturating_sub(self.up_at_start).saturating_sub(Duration::from_secs(1));
        self.start.elapsed().max(up)
    }
}

/// How long the machine is up, asleep or awake; `Instant` counts only what it was awake.
fn up() -> Duration {
    #[cfg(target_os = "linux")]
    let seconds = rustix::system::sysinfo().uptime.try_into().unwrap_or(0);
    #[cfg(not(target_os = "linux"))]
    let seconds = 0;
    Duration::from_secs(seconds)
}
