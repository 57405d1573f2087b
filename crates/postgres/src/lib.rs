//! Backstay: postgres.
