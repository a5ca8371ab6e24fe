//! The trailer: the last bytes of a finished image. It says how long the index before it is.

use super::sealer::{Kind, Sealer};
use super::{ImageError, TAG_LENGTH};

/// Bytes of the trailer: the sealed length of the index and eight magic bytes.
pub(crate) const TRAILER_LENGTH: usize = 8 + TAG_LENGTH + MAGIC.len();

/// In the clear, at the very end: an image that is cut off has no such end.
const MAGIC: [u8; 8] = *b"memcrend";

/// The trailer behind an index that takes `index_length` bytes in the file.
pub(super) fn seal(sealer: &Sealer, index_length: u64) -> Result<Vec<u8>, ImageError> {
    let mut body = index_length.to_le_bytes();
    let tag = sealer.seal(Kind::Trailer, &mut body)?;
    Ok([&body[..], &tag, &MAGIC].concat())
}

/// The length of the index that the trailer at `offset` names; it is known to be genuine.
pub(super) fn open(
    sealer: &Sealer,
    trailer: &mut [u8; TRAILER_LENGTH],
    offset: u64,
) -> Result<u64, ImageError> {
    let unfinished = ImageError::Unfinished { offset };
    let Some((sealed, magic)) = trailer.split_last_chunk_mut() else { return Err(unfinished) };
    if *magic != MAGIC {
        return Err(unfinished);
    }
    let body = sealer.open(Kind::Trailer, sealed, offset)?;
    body.first_chunk().map(|length| u64::from_le_bytes(*length)).ok_or(unfinished)
}
