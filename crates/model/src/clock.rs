use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

/// Where every crate gets the time from, so that tests can hold it.
pub trait Clock: Send + Sync {
    /// Wall-clock time: for names, records and retention. It may jump.
    fn now(&self) -> DateTime<Utc>;

    /// Time since an arbitrary start: for timeouts and leases. It never goes back.
    fn elapsed(&self) -> Duration;
}

/// The machine's own clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
