use std::time::Duration;

use rand::RngExt;

use crate::S3Error;

const ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Tries again what may well succeed a little later: what the SDK itself does not try again, such as
/// 408 and 429, and bodies that broke off.
pub(crate) async fn retrying<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, S3Error>
where
    F: Future<Output = Result<T, S3Error>>,
{
    let mut tried = 1;
    loop {
        match attempt().await {
            Err(error) if error.is_passing() && tried < ATTEMPTS => {
                tokio::time::sleep(wait(tried)).await;
                tried += 1;
            }
            done => return done,
        }
    }
}

/// Somewhere between nothing and twice as long as before, so that many do not come back at once.
fn wait(tried: u32) -> Duration {
    let longest = LONGEST_WAIT.min(FIRST_WAIT * 2u32.pow(tried));
    longest.mul_f64(rand::rng().random_range(0.0..1.0))
}
