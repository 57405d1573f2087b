use backstay_repository::{Creation, Put, Store, StoreError};
use bytes::Bytes;
use futures_util::future::join_all;

use crate::S3Store;

const ROUNDS: usize = 4;
const RACERS: usize = 8;

impl S3Store {
    /// Tries whether creation holds, with objects under `probe/` that are removed again. Some servers
    /// say yes and overwrite.
    pub(crate) async fn try_creation(&self) -> Result<Creation, StoreError> {
        let mut keys = Vec::new();
        let found = self.try_creating(&mut keys).await;
        let mut removed = Ok(());
        for key in keys {
            removed = removed.and(self.remove(&key).await);
        }
        found.and_then(|found| removed.map(|()| found))
    }

    async fn try_creating(&self, keys: &mut Vec<String>) -> Result<Creation, StoreError> {
        let key = probe_key(keys);
        match self.put_any(&key, &Bytes::from_static(b"first"), Put::Create).await {
            // It knows no conditions: `put` looks before it writes, and somebody may come between.
            Err(error) if error.status() == Some(501) => return Ok(Creation::Races),
            done => done.map_err(|error| error.on("write", &key))?,
        }
        match self.put(&key, Bytes::from_static(b"second"), Put::Create).await {
            Err(StoreError::AlreadyThere { .. }) => {}
            Ok(()) => return Ok(Creation::Overwrites),
            Err(error) => return Err(error),
        }
        for _ in 0..ROUNDS {
            let key = probe_key(keys);
            // Not by `put`, which reads back: what several wrote at once may not even be readable.
            let bodies = (0..RACERS).map(|racer| Bytes::from(format!("racer {racer}"))).collect::<Vec<_>>();
            let racers = bodies.iter().map(|body| self.put_any(&key, body, Put::Create));
            let mut winners = 0;
            for done in join_all(racers).await {
                match done {
                    Ok(()) => winners += 1,
                    Err(error) if error.status() == Some(412) => {}
                    Err(error) => return Err(error.on("write", &key)),
                }
            }
            if winners > 1 {
                return Ok(Creation::Races);
            }
        }
        Ok(Creation::Holds)
    }
}

fn probe_key(keys: &mut Vec<String>) -> String {
    let key = format!("probe/{:032x}", rand::random::<u128>());
    keys.push(key.clone());
    key
}
