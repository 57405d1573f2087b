use std::collections::HashMap;
use std::time::Duration;

use backstay_model::{Environment, RunId, RunRecord, SnapshotId};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::lease::Purpose;
use crate::names::LEASES;
use crate::{Error, Put, Repository, StoreError, names};

/// What a lease says of its holder, rewritten with every beat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) purpose: Purpose,
    pub(crate) run: RunId,
    pub(crate) host: String,
    pub(crate) process: Option<Process>,
    pub(crate) since: DateTime<Utc>,
    pub(crate) beat: u64,
    /// It does not hold yet; prune, seeing it, makes way.
    pub(crate) waiting: bool,
    /// Ids of snapshots in the making.
    pub(crate) reserved: Vec<(Environment, SnapshotId)>,
}

/// Enough of a process to know on the same machine, beyond doubt, that it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// The boot of the machine and the process namespace.
    machine: String,
    pid: i32,
    began: String,
}

/// A claim as an observer found it.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) key: String,
    /// Nothing where it cannot be read: it stands in everybody's way until it is stale.
    pub(crate) claim: Option<Claim>,
}

/// When an observer first saw each claim as it is now, by its own clock.
pub(crate) type Sightings = HashMap<String, (Bytes, Duration)>;

impl Claim {
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        self.run != other.run && self.purpose.excludes(&other.purpose)
    }
}

impl Found {
    pub(crate) fn stands_in_the_way_of(&self, other: &Claim) -> bool {
        self.claim.as_ref().is_none_or(|claim| !claim.waiting && claim.conflicts(other))
    }
}

impl Process {
    pub(crate) fn own() -> Option<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Some(Self { machine: machine()?, pid, began: beginning_of(pid)? })
    }

    /// Whether it ran on this machine and does not any more.
    fn is_gone(&self) -> bool {
        machine().is_some_and(|here| here == self.machine)
            && beginning_of(self.pid).is_none_or(|began| began != self.began)
    }
}

fn machine() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

/// When a process began, in ticks since the boot; nothing if there is none of that number.
fn beginning_of(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the command, in parentheses, may hold anything; the fields after it are plain.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18).map(str::to_owned))?
}

impl Repository {
    /// The claims that stand. Those whose holder is dead, as this observer knows it, are removed.
    pub(crate) async fn claims(&self, sightings: &mut Sightings, own: &str) -> Result<Vec<Found>, Error> {
        let keys = self.keys_in(LEASES).await?;
        sightings.retain(|key, _| keys.contains(key));
        let mut standing = Vec::new();
        for key in keys.into_iter().filter(|key| key != own) {
            let stored = match self.store().get(&key).await {
                Err(StoreError::NotThere { .. }) => continue,
                stored => stored.map_err(Error::store(&key))?,
            };
            let claim: Option<Claim> =
                self.keys().open_record(&key, &stored).ok().and_then(|json| serde_json::from_slice(&json).ok());
            let now = self.clock().elapsed();
            let seen = sightings.entry(key.clone()).or_insert_with(|| (stored.clone(), now));
            if seen.0 != stored {
                *seen = (stored, now);
            }
            let unchanged = now.saturating_sub(seen.1);
            let gone = claim.as_ref().and_then(|claim| claim.process.as_ref()).is_some_and(Process::is_gone);
            if gone || unchanged >= self.terms().expiry {
                self.remove_claim(&key).await?;
            } else {
                standing.push(Found { key, claim });
            }
        }
        Ok(standing)
    }

    pub(crate) async fn put_claim(&self, key: &str, claim: &Claim) -> Result<(), Error> {
        let json = serde_json::to_vec(claim).map_err(|source| Error::Encode { subject: key.to_owned(), source })?;
        let sealed = Bytes::from(self.keys().seal_record(key, &json));
        self.store().put(key, sealed, Put::Replace).await.map_err(Error::store(key))?;
        self.store().barrier().await.map_err(Error::store(key))
    }

    /// Somebody who only reads may not be able to, and need not: the holder is dead.
    async fn remove_claim(&self, key: &str) -> Result<(), Error> {
        match self.store().remove(key).await {
            Err(StoreError::Denied { .. }) => Ok(()),
            removed => removed.map_err(Error::store(key)),
        }
    }

    /// Who stands in the way, for people.
    pub(crate) async fn describe(&self, found: &Found) -> String {
        let Some(claim) = &found.claim else {
            return format!("an unreadable lease (`{}`)", found.key);
        };
        let command = match &claim.purpose {
            Purpose::Change(environment) => {
                let run = self.record::<RunRecord>(&names::run(environment, &claim.run)).await;
                run.ok().flatten().map_or_else(|| format!("a change of {environment}"), |run| run.command)
            }
            Purpose::Read => "a run that reads".to_owned(),
            Purpose::Write => "snapshot".to_owned(),
            Purpose::Prune => "prune".to_owned(),
        };
        let since = claim.since.format("%Y-%m-%d %H:%M:%S");
        format!("{command} ({}) on {}, since {since} UTC", claim.run, claim.host)
    }
}
