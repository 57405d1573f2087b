//! Backstay: config.
