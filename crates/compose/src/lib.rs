//! Backstay: compose.
