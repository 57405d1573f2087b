//! Backstay: restore.
