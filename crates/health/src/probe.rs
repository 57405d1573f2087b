use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

mod command;
mod http;
mod oidc;
mod redis;
mod tcp;
mod tls;

pub use http::Expectation;

/// One thing to look at, with its own time limit.
#[derive(Clone)]
pub struct Probe {
    pub name: String,
    /// The service it speaks for; `health --service` chooses by it.
    pub service: Option<String>,
    pub timeout: Duration,
    pub kind: Kind,
}

/// What to look at. Values that may be secret are never printed.
#[derive(Clone)]
pub enum Kind {
    Http {
        url: String,
        headers: Vec<(String, String)>,
        expect: Expectation,
    },
    Tcp {
        address: String,
    },
    /// `redis://[user:password@]host:port` or `rediss://…`; the password may be given beside it.
    Redis {
        url: String,
        password: Option<String>,
    },
    /// Words, the first of which is the program.
    Command {
        words: Vec<String>,
        folder: std::path::PathBuf,
    },
    /// A certificate that will not expire within `days_min`.
    Tls {
        address: String,
        server_name: String,
        days_min: i64,
    },
    /// A token for these client credentials, from an issuer's discovery document.
    Oidc {
        issuer: String,
        client: String,
        secret: String,
    },
    /// Anything that another crate looks at: a database, a container.
    Asked(Arc<dyn Ask>),
}

/// A look that belongs to another crate's knowledge.
#[async_trait]
pub trait Ask: Send + Sync {
    async fn ask(&self) -> Seen;
}

/// One answer of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub seen: Seen,
    pub took: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Good(String),
    Bad(String),
    /// It could not be looked at, which says nothing of its health.
    Unknown(String),
    /// It ended and will not come back by itself.
    Fatal(String),
}

impl Seen {
    pub fn words(&self) -> &str {
        match self {
            Self::Good(words) | Self::Bad(words) | Self::Unknown(words) | Self::Fatal(words) => words,
        }
    }
}

impl Probe {
    /// Looks once, for no longer than the probe's time limit.
    pub async fn look(&self) -> Look {
        let start = Instant::now();
        let seen = tokio::time::timeout(self.timeout, self.kind.look())
            .await
            .unwrap_or_else(|_| Seen::Bad(format!("no answer within {:.1} s", self.timeout.as_secs_f64())));
        Look { seen, took: start.elapsed() }
    }
}

impl Kind {
    async fn look(&self) -> Seen {
        match self {
            Self::Http { url, headers, expect } => http::look(url, headers, expect).await,
            Self::Tcp { address } => tcp::look(address).await,
            Self::Redis { url, password } => redis::look(url, password.as_deref()).await,
            Self::Command { words, folder } => command::look(words, folder).await,
            Self::Tls { address, server_name, days_min } => tls::look(address, server_name, *days_min).await,
            Self::Oidc { issuer, client, secret } => oidc::look(issuer, client, secret).await,
            Self::Asked(other) => other.ask().await,
        }
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("name", &self.name).finish_non_exhaustive()
    }
}
