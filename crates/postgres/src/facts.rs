//! What capture observed. Everything is defaulted on reading, so that facts of an older Backstay stay readable.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Fingerprint, RowHash};

/// The databases of one server at the moments they were captured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerFacts {
    /// How fingerprints were made.
    pub fingerprints: RowHash,
    /// As `server_version_num`: 150018.
    pub server_version: u32,
    /// Which cluster it was, where that may be known: the same after a restart, another after `initdb`.
    pub system_identifier: Option<String>,
    pub standby: bool,
    /// The version of the pg_dump that wrote the schemas.
    pub pg_dump: String,
    pub databases: Vec<DatabaseFacts>,
    /// The roles that objects, grants and settings name.
    pub roles: Vec<RoleFacts>,
    /// The stream with what the roles' passwords are verified by; nothing where it could not be read, or not sealed.
    pub verifiers_stream: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DatabaseFacts {
    /// Its name in the configuration; the first part of the names of its streams.
    pub label: String,
    pub name: String,
    pub owner: String,
    pub encoding: String,
    pub collate: String,
    pub ctype: String,
    /// `c` for the C library, `i` for ICU, `b` for built in.
    pub locale_provider: String,
    pub locale: Option<String>,
    pub icu_rules: Option<String>,
    pub tablespace: String,
    pub connection_limit: i32,
    pub comment: Option<String>,
    /// Items as PostgreSQL writes them; nothing where it is the default.
    pub acl: Option<Vec<String>>,
    /// `ALTER DATABASE … SET` and `ALTER ROLE … IN DATABASE … SET`.
    pub settings: Vec<SettingFacts>,
    pub security_labels: Vec<(String, String)>,
    pub moment: Moment,
    /// `pg_database_size`.
    pub bytes: u64,
    pub extensions: Vec<ExtensionFacts>,
    /// The stream with the archive `pg_dump --schema-only -Fc` wrote.
    pub schema_stream: String,
    pub objects: Vec<ObjectFacts>,
    pub tables: Vec<TableFacts>,
    pub sequences: Vec<SequenceFacts>,
    /// How many more there are that a standby has nothing of.
    pub sequences_lost: u64,
    pub large_objects: LargeObjectFacts,
    pub matviews: Vec<MatviewFacts>,
    pub publications: Vec<String>,
    /// Constraints that old rows need not obey, as `schema.table.constraint`; nothing where it was not looked at.
    pub unvalidated: Option<Vec<String>>,
    /// The roles this database needs to be restored as it was.
    pub roles: Vec<String>,
    pub migrations: Vec<MigrationHead>,
    pub not_covered: Vec<String>,
}

impl DatabaseFacts {
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

/// When a database was captured; every row of it is as it was then.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Moment {
    /// The server's clock.
    pub at: DateTime<Utc>,
    /// `pg_current_snapshot()`: what was visible.
    pub snapshot: String,
    /// Where the write-ahead log stood, or had been replayed to.
    pub lsn: Option<String>,
    /// What the server had counted just before; nothing where it does not count.
    pub counters: Option<WriteCounters>,
}

/// The server's counters of rows written: what they have grown by later was written since.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WriteCounters {
    /// The database's oid.
    pub database: i64,
    /// When counters were reset, as the server says it. Another text means that they begin anew.
    pub resets: String,
    pub tables: Vec<TableCounters>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TableCounters {
    pub schema: String,
    pub name: String,
    pub oid: i64,
    /// The file it lies in: another one after it was truncated or rewritten.
    pub filenode: i64,
    pub inserted: i64,
    pub updated: i64,
    pub deleted: i64,
}

/// A parameter set for the database, or for one role in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SettingFacts {
    /// Nothing: for everybody.
    pub role: Option<String>,
    pub name: String,
    pub value: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExtensionFacts {
    pub name: String,
    pub version: String,
    pub schema: String,
}

/// One entry of the schema archive and the digest of its SQL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectFacts {
    /// As pg_dump calls it: `TABLE`, `FK CONSTRAINT`, `ACL`.
    pub kind: String,
    pub schema: String,
    pub name: String,
    /// SHA-256, hexadecimal, of all SQL of this kind and name.
    pub digest: String,
}

/// Whose rows these are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowsOf {
    #[default]
    Table,
    /// Has rows only in its partitions, which are tables of their own here.
    PartitionedTable,
    /// Rows a user added to a table that belongs to an extension: those the condition selects.
    ExtensionConfiguration { extension: String, condition: String },
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TableFacts {
    pub schema: String,
    pub name: String,
    pub rows_of: RowsOf,
    pub unlogged: bool,
    /// The columns of every line, in order. Where there is none, a line is empty.
    pub columns: Vec<String>,
    /// Columns that the database computes itself; not in the lines.
    pub generated: Vec<String>,
    /// Indexes of 8 MiB and more, as the server last counted, the largest first: a copy is built in this order.
    pub large_indexes: Vec<String>,
    pub rows: u64,
    /// The length of all lines.
    pub bytes: u64,
    pub fingerprint: Fingerprint,
    /// Over the generated columns alone, in order; nothing where there is none.
    pub generated_fingerprint: Option<Fingerprint>,
    /// The configuration leaves its rows out.
    pub excluded: bool,
    /// In order; none where the rows are not here.
    pub ranges: Vec<RangeFacts>,
}

/// A stream of rows: COPY text in the database's own encoding.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RangeFacts {
    pub stream: String,
    pub extent: Extent,
    pub rows: u64,
}

/// Blocks of the table as it lay on the server: from the first, up to and without the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Extent {
    pub first: u64,
    pub end: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SequenceFacts {
    pub schema: String,
    pub name: String,
    pub last_value: i64,
    pub is_called: bool,
}

/// All large objects together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LargeObjectFacts {
    pub count: u64,
    pub bytes: u64,
    /// COPY text: oid, owner, ACL (an array of aclitem as text, or null), comment (or null), bytes.
    pub list_stream: Option<String>,
    pub list_fingerprint: Fingerprint,
    /// COPY text: oid, offset, data (bytea), in order.
    pub contents_stream: Option<String>,
    pub contents_fingerprint: Fingerprint,
}

/// Recomputed when it is restored, if it was populated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MatviewFacts {
    pub schema: String,
    pub name: String,
    pub populated: bool,
}

/// A role as `pg_roles` shows it. Passwords are not among the facts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RoleFacts {
    pub name: String,
    pub superuser: bool,
    pub inherit: bool,
    pub create_role: bool,
    pub create_database: bool,
    pub login: bool,
    pub replication: bool,
    pub bypass_row_security: bool,
    pub connection_limit: i32,
    pub member_of: Vec<String>,
    pub settings: Vec<SettingFacts>,
}

/// How far the migrations of one tool had come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MigrationHead {
    /// `sqlx`, `alembic`, `django`, ….
    pub tool: String,
    pub schema: String,
    pub table: String,
    /// The newest version applied; several where the tool has branches, one per application for Django.
    pub versions: Vec<String>,
    pub applied: u64,
    /// Versions that failed or were left half done.
    pub dirty: Vec<String>,
}
