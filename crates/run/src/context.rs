use std::path::PathBuf;
use std::sync::Arc;

use backstay_model::{Clock, Environment, Event, Listener, Project, RunId};

use crate::Interrupt;

/// The surroundings of one run, handed to everything that works for it.
#[derive(Clone)]
pub struct Context {
    pub run: RunId,
    pub project: Project,
    pub environment: Environment,
    /// This machine's name, as leases, verdicts and run records say it.
    pub host: String,
    /// The folder of this project and environment on this host, mode 0700: journals, replaced
    /// files, generated overrides. Never in a checkout.
    pub state: PathBuf,
    pub clock: Arc<dyn Clock>,
    pub listener: Arc<dyn Listener>,
    pub interrupt: Interrupt,
}

impl Context {
    pub fn hear(&self, event: Event) {
        self.listener.hear(event);
    }

    pub fn warn(&self, text: impl Into<String>) {
        self.hear(Event::Warning { text: text.into() });
    }
}
