use std::time::Duration;

/// How many looks it takes to believe something, and how far apart they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Looks in a row that must be good before a probe counts as healthy.
    pub successes: usize,
    /// Looks in a row that must be bad before a probe counts as unhealthy: a single blip decides nothing.
    pub failures: usize,
    pub interval: Duration,
    /// For so long what is good must stay good before it is believed.
    pub settle: Duration,
    /// When the verdict is due at the latest.
    pub timeout: Duration,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            successes: 3,
            failures: 3,
            interval: Duration::from_secs(1),
            settle: Duration::ZERO,
            timeout: Duration::from_secs(60),
        }
    }
}
