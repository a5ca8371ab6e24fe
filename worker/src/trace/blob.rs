//! The parasite's code, built and checked by the build script.

/// Position-independent code; its first byte is its entry.
pub(crate) const BLOB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/parasite.bin"));

/// The parasite's code from an address on, if it begins at `start`; nothing for an address that is not in it.
pub(crate) fn code_at(start: u64, address: u64) -> &'static [u8] {
    let offset = address.checked_sub(start).and_then(|offset| usize::try_from(offset).ok());
    offset.and_then(|offset| BLOB.get(offset..)).unwrap_or_default()
}
