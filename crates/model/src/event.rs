use serde::Serialize;

use crate::PartName;

/// What happens while a run goes on. Libraries say these; only the command prints them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A step of the run begins.
    StepBegan {
        step: String,
    },
    /// A step ended well; `remark` is what a person would like to know of it.
    StepEnded {
        step: String,
        remark: Option<String>,
    },
    /// How much the pieces that follow come to, known before the first of them: of a database, its tables.
    TotalKnown {
        part: PartName,
        subject: String,
        bytes: u64,
        /// Nothing where the server has never counted them.
        rows: Option<u64>,
    },
    /// A piece of work of known or unknown size begins: a table, an archive, an image.
    TransferBegan {
        part: PartName,
        subject: String,
        bytes_expected: Option<u64>,
    },
    /// More of it was moved. `bytes` counts from the last such event.
    TransferMoved {
        part: PartName,
        subject: String,
        bytes: u64,
    },
    TransferEnded {
        part: PartName,
        subject: String,
    },
    /// Somebody else stands in the way.
    Waiting {
        on: String,
    },
    /// Something a person should know and nothing failed for.
    Warning {
        text: String,
    },
}

/// Who hears events. It must not block.
pub trait Listener: Send + Sync {
    fn hear(&self, event: Event);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Listener for Silent {
    fn hear(&self, _event: Event) {}
}
