//! Backstay: testkit.
