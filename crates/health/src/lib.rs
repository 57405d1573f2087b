//! Backstay: health.
