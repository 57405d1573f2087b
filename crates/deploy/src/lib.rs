//! Backstay: deploy.
