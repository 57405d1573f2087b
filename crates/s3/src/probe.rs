use backstay_repository::{Put, Store, StoreError};
use bytes::Bytes;
use futures_util::future::join_all;

use crate::S3Store;

const ROUNDS: usize = 4;
const RACERS: usize = 8;

/// Whether a server creates only what is absent. Some say yes and overwrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionalCreate {
    /// As far as can be told from outside.
    Holds,
    /// One after the other it holds, and at the same moment several succeed.
    Races,
    /// What is there is overwritten: leases alone protect.
    Ignored,
}

impl S3Store {
    /// Tries whether creation holds, with objects under `probe/` that are removed again.
    pub async fn probe(&self) -> Result<ConditionalCreate, StoreError> {
        let mut keys = Vec::new();
        let found = self.try_creating(&mut keys).await;
        for key in keys {
            self.remove(&key).await?;
        }
        found
    }

    async fn try_creating(&self, keys: &mut Vec<String>) -> Result<ConditionalCreate, StoreError> {
        let key = probe_key(keys);
        self.put(&key, Bytes::from_static(b"first"), Put::Create).await?;
        match self.put(&key, Bytes::from_static(b"second"), Put::Create).await {
            Err(StoreError::AlreadyThere { .. }) => {}
            Ok(()) => return Ok(ConditionalCreate::Ignored),
            Err(error) => return Err(error),
        }
        for _ in 0..ROUNDS {
            let key = probe_key(keys);
            let racers = (0..RACERS).map(|racer| self.put(&key, format!("racer {racer}").into(), Put::Create));
            let mut winners = 0;
            for done in join_all(racers).await {
                match done {
                    Ok(()) => winners += 1,
                    Err(StoreError::AlreadyThere { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            if winners > 1 {
                return Ok(ConditionalCreate::Races);
            }
        }
        Ok(ConditionalCreate::Holds)
    }
}

fn probe_key(keys: &mut Vec<String>) -> String {
    let key = format!("probe/{:032x}", rand::random::<u128>());
    keys.push(key.clone());
    key
}
