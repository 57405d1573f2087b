use std::future::Future;
use std::sync::LazyLock;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::Error;

/// Work going on beside this one, which ends when nobody waits for it any more.
#[derive(Debug)]
pub(crate) struct Task<T>(JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    pub(crate) fn start(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    pub(crate) async fn end(mut self) -> Result<T, Error> {
        (&mut self.0).await.map_err(|_| Error::Stopped { action: "work on a stream" })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// As much work at once as there are processors: more would not be done sooner, and hold more memory.
static TURNS: LazyLock<Semaphore> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    Semaphore::new(processors.clamp(2, 8))
});

/// Work for a processor, off the threads that wait for input and output.
pub(crate) async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let _turn = TURNS.acquire().await.map_err(|_| Error::Stopped { action: "work on bytes" })?;
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Stopped { action: "work on bytes" })
}
