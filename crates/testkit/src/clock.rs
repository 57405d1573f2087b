use std::sync::Mutex;
use std::time::Duration;

use backstay_model::{Clock, SnapshotId};
use chrono::{DateTime, TimeDelta, Utc};

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    time: Mutex<(DateTime<Utc>, Duration)>,
}

impl ManualClock {
    /// Stands at `moment`, written as a snapshot id: `20251022_153000`.
    pub fn at(moment: &str) -> Self {
        let id: SnapshotId = moment.parse().expect("a moment such as 20251022_153000");
        Self { time: Mutex::new((id.moment(), Duration::ZERO)) }
    }

    /// Time passes.
    pub fn advance(&self, by: Duration) {
        let mut time = self.time.lock().expect("no test panicked while it moved the clock");
        time.0 += TimeDelta::from_std(by).expect("a step that fits");
        time.1 += by;
    }

    /// The wall clock jumps, and no time passes.
    pub fn set(&self, moment: DateTime<Utc>) {
        self.time.lock().expect("no test panicked while it moved the clock").0 = moment;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        self.time.lock().expect("no test panicked while it moved the clock").0
    }

    fn elapsed(&self) -> Duration {
        self.time.lock().expect("no test panicked while it moved the clock").1
    }
}
