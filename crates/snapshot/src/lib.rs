//! Backstay: snapshot.
