use std::env;
use std::path::PathBuf;
use std::sync::Arc;

use backstay_model::{Clock, Listener, SystemClock};
use backstay_run::Interrupt;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::Everywhere;
use crate::output::{Printer, Progress};

/// The one reading of the machine the command runs on; everything below is told.
#[derive(Clone)]
pub struct Surroundings {
    pub everywhere: Everywhere,
    pub printer: Printer,
    pub clock: Arc<dyn Clock>,
    pub listener: Arc<dyn Listener>,
    pub interrupt: Interrupt,
    pub host: String,
    pub folder: PathBuf,
}

impl Surroundings {
    pub fn read(everywhere: Everywhere) -> Self {
        let listener = Progress::new(&everywhere);
        Self {
            printer: Printer::new(&everywhere),
            everywhere,
            clock: Arc::new(SystemClock::default()),
            listener,
            interrupt: Interrupt::default(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            folder: env::current_dir().unwrap_or_default(),
        }
    }

    /// Turns signals into requests. What a run does with one depends on how far it is; it says so.
    pub fn heed_signals(&self) {
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let Ok(mut stream) = signal(kind) else { continue };
            let interrupt = self.interrupt.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    interrupt.request();
                }
            });
        }
    }

    /// An environment variable that is set and not empty.
    pub fn variable(name: &str) -> Option<String> {
        env::var(name).ok().filter(|value| !value.is_empty())
    }
}
