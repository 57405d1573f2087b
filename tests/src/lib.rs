//! End-to-end journeys through the binary; see `journeys/`.
