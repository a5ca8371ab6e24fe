//! Compressing frames and decompressing them, in buffers and contexts that a thread uses again and again.
//! Each is made when it is first needed. The buffers are wiped when dropped; zstd's contexts are not.

use super::{FRAME_LIMIT, ImageError, TAG_LENGTH};
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use memcr_protocol::image::Compression;
use zeroize::Zeroizing;
use zstd::zstd_safe::{CCtx, CParameter, DCtx};

/// Level of zstd: the target stands still meanwhile, and the levels above take longer for little less.
const ZSTD_LEVEL: i32 = 1;

/// Compresses one frame at a time.
#[derive(Default)]
pub(super) struct Compressor {
    /// The compressed frame, with room for a tag after it.
    output: Zeroizing<Vec<u8>>,
    lz4: Option<CompressTable>,
    zstd: Option<CCtx<'static>>,
}

impl Compressor {
    /// Compresses `plain` to the beginning of [`Compressor::output`]. The length there; nothing if it did not
    /// get shorter, or can't be compressed for another reason: it can be stored all the same.
    pub(super) fn compress(&mut self, algorithm: Compression, plain: &[u8]) -> Option<usize> {
        let length = match algorithm {
            Compression::None => None,
            Compression::Lz4 => self.lz4(plain),
            Compression::Zstd => self.zstd(plain),
        };
        length.filter(|length| *length < plain.len())
    }

    /// What was compressed, and the room after it.
    pub(super) fn output(&mut self) -> &mut [u8] {
        &mut self.output
    }

    fn lz4(&mut self, plain: &[u8]) -> Option<usize> {
        // it asks for room for the worst case
        let output = reserve(&mut self.output, get_maximum_output_size(FRAME_LIMIT));
        let table = self.lz4.get_or_insert_with(CompressTable::large);
        compress_into_with_table(plain, output, table).ok()
    }

    fn zstd(&mut self, plain: &[u8]) -> Option<usize> {
        // it gives up when it finds no room
        let output = reserve(&mut self.output, FRAME_LIMIT).get_mut(..plain.len())?;
        let context = match &mut self.zstd {
            Some(context) => context,
            none @ None => none.insert(zstd_context()?),
        };
        context.compress2(output, plain).ok()
    }

    /// Bytes of memory that it takes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        // its table has 16 KiB
        let lz4 = self.lz4.as_ref().map_or(0, |_| 16 << 10);
        self.output.capacity() + lz4 + self.zstd.as_ref().map_or(0, CCtx::sizeof)
    }
}

fn zstd_context() -> Option<CCtx<'static>> {
    let mut context = CCtx::try_create()?;
    context.set_parameter(CParameter::CompressionLevel(ZSTD_LEVEL)).ok()?;
    Some(context)
}

/// The first `length` bytes of a buffer, behind which there is room for a tag.
fn reserve(buffer: &mut Zeroizing<Vec<u8>>, length: usize) -> &mut [u8] {
    if buffer.len() < length + TAG_LENGTH {
        *buffer = Zeroizing::new(vec![0; length + TAG_LENGTH]);
    }
    buffer.get_mut(..length).unwrap_or_default()
}

/// Decompresses one frame at a time.
#[derive(Default)]
pub(super) struct Decompressor {
    plain: Zeroizing<Vec<u8>>,
    zstd: Option<DCtx<'static>>,
}

impl Decompressor {
    /// The memory in a body that is known to be genuine; nothing if it isn't of exactly this length.
    ///
    /// # Errors
    /// [`ImageError::DecompressorMemory`].
    pub(super) fn decompress(
        &mut self,
        algorithm: Compression,
        body: &[u8],
        length: usize,
    ) -> Result<Option<&[u8]>, ImageError> {
        if self.plain.is_empty() {
            self.plain = Zeroizing::new(vec![0; FRAME_LIMIT]);
        }
        let plain = self.plain.get_mut(..length).unwrap_or_default();
        let decompressed = match algorithm {
            Compression::None => None,
            Compression::Lz4 => decompress_into(body, plain).ok(),
            Compression::Zstd => {
                let context = match &mut self.zstd {
                    Some(context) => context,
                    none @ None => none.insert(DCtx::try_create().ok_or(ImageError::DecompressorMemory)?),
                };
                context.decompress(plain, body).ok()
            }
        };
        Ok((decompressed == Some(length)).then_some(plain))
    }

    /// The first bytes of what was decompressed last.
    pub(super) fn plain(&self, length: usize) -> &[u8] {
        self.plain.get(..length).unwrap_or_default()
    }

    /// Bytes of memory that it takes.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.plain.capacity() + self.zstd.as_ref().map_or(0, DCtx::sizeof)
    }
}
