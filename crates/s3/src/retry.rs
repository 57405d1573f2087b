use std::time::Duration;

use rand::RngExt;

use crate::S3Error;

const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How long a store puts up with a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) attempts: u32,
    pub(crate) first_wait: Duration,
    /// Of the SDK itself, within each of ours.
    pub(crate) attempts_within: u32,
    /// How long an answer may stay away.
    pub(crate) silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let first_wait = Duration::from_millis(100);
        Self { attempts: 5, first_wait, attempts_within: 3, silence: Duration::from_secs(60) }
    }
}

/// Tries again what may well succeed a little later: what the SDK itself does not try again, such as
/// 408 and 429, and bodies that broke off.
pub(crate) async fn retrying<T, F>(patience: Patience, mut attempt: impl FnMut() -> F) -> Result<T, S3Error>
where
    F: Future<Output = Result<T, S3Error>>,
{
    let mut tried = 1;
    loop {
        match attempt().await {
            Err(error) if error.is_passing() && tried < patience.attempts => {
                tokio::time::sleep(wait(patience, tried)).await;
                tried += 1;
            }
            done => return done,
        }
    }
}

/// Somewhere between nothing and twice as long as before, so that many do not come back at once.
fn wait(patience: Patience, tried: u32) -> Duration {
    let longest = LONGEST_WAIT.min(patience.first_wait * 2u32.pow(tried));
    longest.mul_f64(rand::rng().random_range(0.0..1.0))
}
