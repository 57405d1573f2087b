//! The nouns of Backstay: identifiers, manifests, facts, plans, verdicts, runs and events.
//!
//! Everything here is plain data. This crate does no input or output, knows nothing of async, and
//! depends on none of its siblings; every other crate speaks in its words.

mod causes;
mod clock;
mod event;
mod finding;
mod id;
mod loss;
mod manifest;
mod plan;
mod root;
mod run;
mod verdict;

pub use causes::with_causes;
pub use clock::{Clock, SystemClock};
pub use event::{Event, Listener, Silent};
pub use finding::{Finding, Severity};
pub use id::{Environment, InvalidName, ObjectId, PartName, Project, RunId, SnapshotId};
pub use loss::{Loss, TableLoss};
pub use manifest::{HEALTH_LABEL, HEALTHY, Manifest, Origin, PartKind, PartRecord, Purpose};
pub use plan::{Difference, PartPlan};
pub use root::{Place, Root};
pub use run::{Outcome, Phase, RunRecord};
pub use verdict::{Examination, Judgement, Verdict};
