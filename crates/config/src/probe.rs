//! The health probes: as they are written, and as they are meant.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::{Address, Reference, Span};

/// One probe: exactly one of `http`, `tcp`, `postgres`, `redis`, `command`, `tls`, `oidc`,
/// `container` and `log`, and what goes with it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthTable {
    /// An address that must answer.
    pub http: Option<String>,
    /// With `http`: the answer's status, one or several. Default: any from 200 to 299.
    pub status: Option<Statuses>,
    /// With `http`: a text the answer must hold.
    pub contains: Option<String>,
    /// With `http`: values the JSON answer must hold, by path: `{ "checks.db" = "ok" }`.
    pub json: Option<BTreeMap<String, serde_json::Value>>,
    /// With `http`: headers of the request. Those that are secret are references.
    pub headers: Option<BTreeMap<String, HeaderValue>>,
    /// A `host:port` that must accept connections.
    pub tcp: Option<String>,
    /// A database of this file that must answer.
    pub postgres: Option<String>,
    /// With `postgres`: a query that must answer `true`.
    pub query: Option<String>,
    /// With `postgres`: how far a standby may lag.
    pub max_lag: Option<Span>,
    /// A Redis server that must answer, as `redis://` or `rediss://`: a reference, or an address that
    /// holds no password.
    pub redis: Option<Address>,
    /// With `redis`: its password.
    pub password: Option<Reference>,
    /// A command that must end with 0: a list of words.
    pub command: Option<Vec<String>>,
    /// A `host:port` whose certificate must be valid.
    pub tls: Option<String>,
    /// With `tls`: for how long yet. Default `14d`.
    pub valid_for: Option<Span>,
    /// The address of an OpenID issuer that must give a token.
    pub oidc: Option<String>,
    /// With `oidc`: the client to ask as.
    pub client_id: Option<String>,
    /// With `oidc`: the client's secret.
    pub client_secret: Option<Reference>,
    /// A service of the Compose project whose containers must run and be healthy.
    pub container: Option<String>,
    /// With `container`: how often it may have been started again since the deploy. Default 0.
    pub max_restarts: Option<u32>,
    /// A service of the Compose project whose log must show no new errors.
    pub log: Option<String>,
    /// With `log`: regular expressions that mark an error. Default: the usual words.
    pub patterns: Option<Vec<String>>,
    /// How often to look. Default `2s`.
    pub interval: Option<Span>,
    /// How long one look may take. Default `10s`.
    pub timeout: Option<Span>,
    /// How long an answer may take and still count as healthy.
    pub latency: Option<Span>,
    /// How many looks in a row must be good. Default 3.
    pub successes: Option<u32>,
}

/// One look at one thing, and how often it must be good.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    pub name: String,
    pub probe: Probe,
    pub interval: Span,
    pub timeout: Span,
    pub latency: Option<Span>,
    pub successes: u32,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    Http {
        url: String,
        /// Empty: any from 200 to 299.
        statuses: Vec<u16>,
        contains: Option<String>,
        /// Dotted paths into the JSON answer, and the values they must have.
        json: BTreeMap<String, serde_json::Value>,
        headers: BTreeMap<String, HeaderValue>,
    },
    Tcp {
        address: String,
    },
    Postgres {
        /// A database of the settings.
        database: String,
        query: Option<String>,
        max_lag: Option<Span>,
    },
    Redis {
        address: Address,
        password: Option<Reference>,
    },
    Command {
        words: Vec<String>,
    },
    Tls {
        address: String,
        valid_for: Span,
    },
    Oidc {
        issuer: String,
        client_id: String,
        client_secret: Reference,
    },
    Container {
        service: String,
        max_restarts: u32,
    },
    Log {
        service: String,
        /// Empty: the usual words.
        patterns: Vec<String>,
    },
}

/// One status or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Statuses {
    One(u16),
    Several(Vec<u16>),
}

impl Statuses {
    pub(crate) fn all(&self) -> Vec<u16> {
        match self {
            Self::One(status) => vec![*status],
            Self::Several(statuses) => statuses.clone(),
        }
    }
}

/// The value of a header of a request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum HeaderValue {
    Plain(String),
    Reference(Reference),
}

impl std::str::FromStr for HeaderValue {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        if text.starts_with("env:") || text.starts_with("file:") {
            return text.parse().map(Self::Reference);
        }
        Ok(Self::Plain(text.to_owned()))
    }
}

impl TryFrom<String> for HeaderValue {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse()
    }
}

impl JsonSchema for HeaderValue {
    fn schema_name() -> Cow<'static, str> {
        "HeaderValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "title": "text or reference",
            "description": "A text, or a reference where it is secret: `env:NAME`, `file:PATH`, `file:PATH#NAME`.",
        })
    }
}

/// Whether a header of this name carries a secret, as far as names tell.
pub(crate) fn is_secret_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["authorization", "cookie", "token", "key", "secret", "password", "signature", "credential"]
        .iter()
        .any(|word| name.contains(word))
}
