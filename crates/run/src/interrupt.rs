use std::sync::Arc;

use tokio::sync::watch;

/// Whether somebody asked this run to stop. Cheap to clone; every clone hears the same request.
#[derive(Debug, Clone)]
pub struct Interrupt {
    sender: Arc<watch::Sender<bool>>,
}

impl Default for Interrupt {
    fn default() -> Self {
        Self { sender: Arc::new(watch::Sender::new(false)) }
    }
}

impl Interrupt {
    /// Asks the run to stop at the next place where it can.
    pub fn request(&self) {
        self.sender.send_replace(true);
    }

    pub fn is_requested(&self) -> bool {
        *self.sender.borrow()
    }

    /// Returns once a stop was requested.
    pub async fn requested(&self) {
        let mut receiver = self.sender.subscribe();
        // The sender lives as long as `self`, so this waits for the value alone.
        let _ = receiver.wait_for(|requested| *requested).await;
    }

    /// Does `work`, unless a stop was or is requested before it ends: then it is dropped.
    pub async fn unless<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.requested() => None,
            done = work => Some(done),
        }
    }
}
