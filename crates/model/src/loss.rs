use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a switch takes away: rows that the live side has and the other does not, table by table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Loss {
    /// Whether rows were compared, or write counters read.
    pub exact: bool,
    pub tables: Vec<TableLoss>,
    /// What the figures cannot know.
    pub caveats: Vec<String>,
}

impl Loss {
    /// Rows inserted, updated or deleted since: what `--max-loss` is compared with.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(TableLoss::rows).sum()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TableLoss {
    pub database: String,
    pub table: String,
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
}

impl TableLoss {
    pub fn rows(&self) -> u64 {
        self.inserted + self.updated + self.deleted
    }
}
