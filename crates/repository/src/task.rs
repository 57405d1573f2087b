use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};
use std::thread;

use tokio::sync::oneshot;
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

type Job = Box<dyn FnOnce() + Send>;

/// Threads of our own, as many as there are processors: more would not be done sooner. The runtime's threads
/// for blocking work are many and take turns, and an allocator keeps for each thread what it once needed.
static PROCESSORS: LazyLock<mpsc::Sender<Job>> = LazyLock::new(|| {
    let (sender, receiver) = mpsc::channel::<Job>();
    let receiver = Arc::new(Mutex::new(receiver));
    let processors = thread::available_parallelism().map_or(2, usize::from);
    for number in 0..processors.clamp(2, 8) {
        let receiver = Arc::clone(&receiver);
        // Where a thread cannot be had the others do its work; with none at all every job is refused.
        let _ = thread::Builder::new().name(format!("bytes-{number}")).spawn(move || work_off(&receiver));
    }
    sender
});

fn work_off(receiver: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // Whoever waits for a job that panicked is told by its reply never coming.
        let _ = std::panic::catch_unwind(AssertUnwindSafe(job));
    }
}

/// Work for a processor, off the threads that wait for input and output.
pub(crate) async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let stopped = || Error::Stopped { action: "work on bytes" };
    let (reply, done) = oneshot::channel();
    let job: Job = Box::new(move || {
        // Nobody may be waiting any more.
        if !reply.is_closed() {
            let _ = reply.send(work());
        }
    });
    PROCESSORS.send(job).map_err(|_| stopped())?;
    done.await.map_err(|_| stopped())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_ends_no_other_work() {
        for _ in 0..20 {
            let panicked = compute(|| assert_eq!(1, 2, "on purpose")).await;
            assert!(matches!(panicked, Err(Error::Stopped { .. })));
            assert_eq!(compute(|| 7).await.unwrap(), 7);
        }
    }
}
