//! Backstay: migrate.
