use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

/// The bare keyed bytes under a repository. Keys are relative paths of plain names joined by `/`.
///
/// Contract, held by the conformance suite: what `put` stored and `barrier` returned for is there
/// whole, or not at all, after a crash; listing after that shows it; `remove` of what is absent is
/// no error.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Where the bytes lie, for people: `/var/lib/…` or `s3://bucket/prefix`. Never a secret.
    fn location(&self) -> String;

    async fn get(&self, key: &str) -> Result<Bytes, StoreError>;

    /// Stores `bytes` under `key`. With [`Put::Create`] an existing key is
    /// [`StoreError::AlreadyThere`] and stays as it is.
    async fn put(&self, key: &str, bytes: Bytes, put: Put) -> Result<(), StoreError>;

    /// Everything whose key begins with `folder` and a `/`, in no particular order.
    async fn list(&self, folder: &str) -> Result<Vec<Listed>, StoreError>;

    async fn remove(&self, key: &str) -> Result<(), StoreError>;

    /// Returns when everything put so far is durable and visible to others.
    async fn barrier(&self) -> Result<(), StoreError>;

    /// Tries what [`Put::Create`] does here when somebody was first, and leaves nothing behind.
    async fn probe(&self) -> Result<Creation, StoreError> {
        Ok(Creation::Holds)
    }

    /// Removes what writers that died left behind where no key names it: staged files, unfinished
    /// uploads. Only what is older than any run may be.
    async fn sweep(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    Create,
    Replace,
}

/// What a store was found to do with a second creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// It is refused, as far as can be told from outside.
    Holds,
    /// It is refused, but at the same moment several succeed.
    Races,
    /// It overwrites: leases alone protect.
    Overwrites,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub bytes: u64,
}

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("`{key}` is not there")]
    NotThere { key: String },
    #[error("`{key}` is there already")]
    AlreadyThere { key: String },
    #[error("no space left for `{key}`")]
    Full { key: String },
    /// Whether it was done is not known.
    #[error("the store did not {action} `{key}` within {} s", limit.as_secs())]
    NoAnswer { action: &'static str, key: String, limit: std::time::Duration },
    #[error("no right to {action} `{key}`")]
    Denied {
        action: &'static str,
        key: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("cannot {action} `{key}`")]
    Failed {
        action: &'static str,
        key: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
