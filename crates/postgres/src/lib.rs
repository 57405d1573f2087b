//! The databases of one PostgreSQL server as one part: captured while they run, staged beside the
//! live ones, proven equal to what was captured, swapped in one transaction and swapped back.
//!
//! Everything is read over ordinary sessions with pinned settings; only the schema comes from
//! `pg_dump`. This crate knows no Compose, no configuration file and no command line; it reads no
//! environment and no home folder, and what of those it needs is handed over as values.

mod capture;
mod catalog;
mod copy;
mod error;
mod export;
mod facts;
mod fingerprint;
mod fuse;
mod history;
mod loss;
mod names;
mod no_delay;
mod preflight;
mod prove;
mod schema;
mod server_part;
mod session;
mod settings;
mod settle;
mod sockets;
mod stage;
mod statement;
mod swap;
mod tools;
mod wire;

pub use error::{Cause, Error};
pub use export::export;
pub use facts::{
    DatabaseFacts, ExtensionFacts, Extent, LargeObjectFacts, MatviewFacts, MigrationHead, Moment, ObjectFacts,
    RangeFacts, RoleFacts, RowsOf, SequenceFacts, ServerFacts, SettingFacts, TableCounters, TableFacts, WriteCounters,
};
pub use fingerprint::{Fingerprint, RowHash, RowSum};
pub use history::heads as migration_heads;
pub use loss::{RescueReport, RescuedTable};
pub use names::{identifier, literal, qualified};
pub use server_part::{Database, Options, ServerPart};
pub use session::{Session, connect, connect_plainly};
pub use settings::{Host, Settings, Surroundings};
pub use swap::Leftover;
pub use tools::{LocalTools, Tool, ToolCall, ToolOutcome, Tools};

#[cfg(test)]
mod bench;
#[cfg(test)]
mod connection_tests;
#[cfg(test)]
mod elsewhere_tests;
#[cfg(test)]
mod faults_tests;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod wire_tests;
