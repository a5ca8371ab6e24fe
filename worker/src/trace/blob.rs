//! The parasite's code, built and checked by the build script.

/// Position-independent code; its first byte is its entry.
pub(crate) const BLOB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/parasite.bin"));
