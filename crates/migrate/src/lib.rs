//! Migrations of a PostgreSQL database: planned without a trace, rehearsed, run in as few
//! transactions as PostgreSQL allows, taken down again.
//!
//! The history is sqlx's own table, byte for byte, so that an application with sqlx inside sees the
//! same truth. This crate knows files, SQL and sessions; it knows no snapshots beyond their names, no
//! configuration and no command line. Only a real run writes anything that stays.

mod aftermath;
mod blocker;
mod bookkeeping;
mod catalog;
mod command;
mod cuts;
mod down;
mod error;
mod failure;
mod folder;
mod foreseen;
mod gate;
mod guise;
mod hazard;
mod history;
mod leftover;
mod lint;
mod lock;
mod lock_mode;
mod measured;
mod observe;
mod plan;
mod rehearsal;
mod report;
mod run;
mod schema;
mod session;
mod sql;
mod status;
mod stepwise;
mod target;
mod transaction;
mod way_back;

pub use aftermath::Aftermath;
pub use blocker::Blocker;
pub use command::{CommandReport, ForeignCommand, run_command, tools};
pub use cuts::Cut;
pub use down::{DownReport, DownTo, down};
pub use error::{Consequence, Error, Place};
pub use failure::Cause;
pub use folder::{Fault, FaultKind, Folder, Migration, Script};
pub use foreseen::Foreseen;
pub use gate::{Candidate, Gate, gate};
pub use history::{Applied, History};
pub use lint::Advice;
pub use lock_mode::LockMode;
pub use measured::{LockTaken, Measured, Rewrite, RowsChanged, Scan};
pub use plan::{Plan, PlannedFile, TableSize, Transaction, plan};
pub use rehearsal::{Rehearsal, WayBack, rehearse_in_place, rehearse_on_copy};
pub use run::{RunOptions, RunReport, run};
pub use schema::{Change, Schema};
pub use sql::Expected;
pub use status::{Status, status};
pub use target::Target;

#[cfg(test)]
mod folder_tests;
#[cfg(test)]
mod forecast_tests;
#[cfg(test)]
mod killed_tests;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod run_tests;
#[cfg(test)]
mod severed_tests;
#[cfg(test)]
mod severing;
#[cfg(test)]
mod stand;
#[cfg(test)]
mod stepwise_tests;
