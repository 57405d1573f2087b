use std::sync::Mutex;

use backstay_model::{Event, Listener};

/// Remembers every event.
#[derive(Debug, Default)]
pub struct Memory {
    events: Mutex<Vec<Event>>,
}

impl Memory {
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().expect("no listener panicked").clone()
    }
}

impl Listener for Memory {
    fn hear(&self, event: Event) {
        self.events.lock().expect("no listener panicked").push(event);
    }
}
