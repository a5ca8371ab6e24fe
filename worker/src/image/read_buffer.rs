//! Reading frames: opened, decompressed and compared with their checksum in buffers that a thread uses again
//! and again (1 MiB, 2 MiB with LZ4, 2.1 MiB with zstd; wiped when dropped, but for zstd's own).

use super::checksum::{Digest, digest};
use super::compress::Decompressor;
use super::index::FrameEntry;
use super::sealer::{Kind, Sealer};
use super::{FRAME_LIMIT, Header, ImageError, TAG_LENGTH};
use zeroize::Zeroizing;

/// Room for reading one frame at a time.
pub(crate) struct ReadBuffer {
    sealed: Zeroizing<Vec<u8>>,
    decompressor: Decompressor,
}

/// A frame that was opened: all of it is known to be right.
pub(super) struct Opened {
    is_compressed: bool,
    /// Of its memory as it came out, if the index has one to compare it with.
    pub(super) digest: Option<Digest>,
}

impl ReadBuffer {
    /// A buffer for frames of any image.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self {
            sealed: Zeroizing::new(vec![0; FRAME_LIMIT + TAG_LENGTH]),
            decompressor: Decompressor::default(),
        }
    }

    /// Where the sealed bytes of this frame are to be read to.
    pub(super) fn sealed(&mut self, entry: &FrameEntry) -> &mut [u8] {
        self.sealed.get_mut(..entry.sealed_length() as usize).unwrap_or_default()
    }

    /// Authenticates and decrypts the frame in place, decompresses it after that, and then compares its
    /// memory with its checksum.
    pub(super) fn open(
        &mut self,
        number: u32,
        entry: &FrameEntry,
        sealer: &Sealer,
        header: &Header,
    ) -> Result<Opened, ImageError> {
        let sealed = self.sealed.get_mut(..entry.sealed_length() as usize).unwrap_or_default();
        let (offset, plain) = (entry.offset(), entry.plain_length());
        let is_compressed = !entry.is_stored();
        let memory = if is_compressed {
            let body = sealer.open(Kind::CompressedFrame(number), sealed, offset)?;
            let memory = self.decompressor.decompress(header.compression(), body, plain as usize)?;
            memory.ok_or(ImageError::Decompress { frame: number, offset, plain })?
        } else {
            &*sealer.open(Kind::StoredFrame(number), sealed, offset)?
        };
        let digest = entry.digest().map(|expected| (expected, digest(memory)));
        match digest {
            Some((expected, found)) if expected != found => {
                Err(ImageError::Checksum { frame: number, offset })
            }
            _ => Ok(Opened { is_compressed, digest: digest.map(|(_, found)| found) }),
        }
    }

    /// The memory of the frame that was opened last.
    pub(super) fn memory(&self, opened: &Opened, entry: &FrameEntry) -> &[u8] {
        let length = entry.plain_length() as usize;
        if opened.is_compressed {
            self.decompressor.plain(length)
        } else {
            self.sealed.get(..length).unwrap_or_default()
        }
    }

    /// Bytes of memory that it takes.
    #[cfg(test)]
    pub(super) fn memory_taken(&self) -> usize {
        self.sealed.capacity() + self.decompressor.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, COMPRESSIONS, MemoryFile};
    use super::super::{Image, Key};
    use super::*;
    use memcr_protocol::image::Cipher;

    #[test]
    fn buffers_of_a_thread_that_reads_take_less_than_two_and_a_half_mib() {
        for compression in COMPRESSIONS {
            let key = Key::random().unwrap();
            let header = sample::header_of(Cipher::default(), compression, true);
            let (bytes, _) = sample::image(&key, header, &sample::memory(), 2);
            let mut buffer = ReadBuffer::new();
            sample::read_back(&Image::open(MemoryFile::of(bytes), &key).unwrap(), &mut buffer).unwrap();
            let memory = buffer.memory_taken();
            assert!(memory < 5 << 19, "{}: {memory}", compression.name());
        }
    }
}
