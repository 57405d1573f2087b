//! What a database is made of, as its catalog says.

pub(crate) mod database;
pub(crate) mod partitions;
pub(crate) mod relations;
pub(crate) mod roles;
pub(crate) mod sequences;
