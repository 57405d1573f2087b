//! Backstay: files.
