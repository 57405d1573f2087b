//! Backstay: s3.
