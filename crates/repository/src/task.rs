use std::future::Future;

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

/// Work for a processor, off the threads that wait for input and output.
pub(crate) async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Stopped { action: "work on bytes" })
}
