use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Loss, PartKind, PartName};

/// What a restore would do to one part. It is made without changing anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartPlan {
    pub part: PartName,
    pub kind: PartKind,
    /// The live part already is as recorded, so nothing need be switched.
    pub unchanged: bool,
    pub steps: Vec<String>,
    pub differences: Vec<Difference>,
    /// Why the recorded release could not run on this part as it is live: a schema or a migration
    /// head that is not as captured. Where this is empty, images and files may go back alone.
    pub must_go_back: Vec<String>,
    /// What must still be so when the plan is executed: schema, database oids, container ids, file
    /// digests; never rows. Opaque to everybody but the part.
    pub basis: serde_json::Value,
    pub loss: Option<Loss>,
    /// Free space the staged copy needs.
    pub bytes_needed: Option<u64>,
    pub warnings: Vec<String>,
    pub not_covered: Vec<String>,
    /// Why this cannot be done. Empty where it can.
    pub refusals: Vec<String>,
}

impl PartPlan {
    pub fn new(part: PartName, kind: PartKind, basis: serde_json::Value) -> Self {
        Self {
            part,
            kind,
            unchanged: false,
            steps: Vec::new(),
            differences: Vec::new(),
            must_go_back: Vec::new(),
            basis,
            loss: None,
            bytes_needed: None,
            warnings: Vec::new(),
            not_covered: Vec::new(),
            refusals: Vec::new(),
        }
    }
}

/// One thing that is not as it was recorded. Never holds a secret value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    pub subject: String,
    pub recorded: String,
    pub live: String,
}
