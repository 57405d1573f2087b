use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What a phase leaves for the next one, and for a recovery that has nothing else: small, opaque to
/// everybody but the part, and without secrets, because it is written to the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub serde_json::Value);

impl Token {
    pub fn new<T: Serialize>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::to_value(value).map(Self)
    }

    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_value(self.0.clone())
    }
}
