//! Writing frames: up to 1 MiB of memory, gathered, compressed and sealed in buffers that a thread uses
//! again and again (1 MiB, 2.2 MiB with LZ4, 2.6 MiB with zstd; wiped when dropped, but for zstd's own).

use super::checksum::{Digest, digest};
use super::compress::Compressor;
use super::sealer::{Kind, Sealer};
use super::{FRAME_LIMIT, Header, ImageError, TAG_LENGTH, is_zero};
use memcr_protocol::parasite::Range;
use zeroize::Zeroizing;

/// A frame with less room than this counts as full: small reads cost more than they bring.
const FULL_ENOUGH: usize = 64 * 1024;

/// Gathers memory for one frame at a time.
///
/// Read memory into [`FrameBuffer::space`], then [`FrameBuffer::commit`] it, in ascending order of
/// addresses; when [`FrameBuffer::is_full`], hand the buffer to `ImageWriter::write_frame`. Pages of
/// zeros are left out of the frame and remembered.
pub(crate) struct FrameBuffer {
    page_size: usize,
    /// The memory gathered, with room for a tag after it.
    plain: Zeroizing<Vec<u8>>,
    filled: usize,
    runs: Vec<Range>,
    zeros: Vec<Range>,
    /// Where committed memory ends, zeros included.
    end: u64,
    compressor: Compressor,
}

/// A frame that stands in the file, for the index.
#[derive(Debug)]
pub(crate) struct WrittenFrame {
    pub(super) number: u32,
    pub(super) sealed_length: u32,
    pub(super) plain_length: u32,
    pub(super) digest: Option<Digest>,
    pub(super) runs: Vec<Range>,
}

impl FrameBuffer {
    /// An empty buffer for pages of this size in bytes, which a `Header` has accepted.
    #[must_use]
    pub(crate) fn new(page_size: u32) -> Self {
        Self {
            page_size: usize::try_from(page_size).unwrap_or(FRAME_LIMIT).clamp(1, FRAME_LIMIT),
            plain: Zeroizing::new(vec![0; FRAME_LIMIT + TAG_LENGTH]),
            filled: 0,
            runs: Vec::new(),
            zeros: Vec::new(),
            end: 0,
            compressor: Compressor::default(),
        }
    }

    /// Where the next memory is to be read to: whole pages; empty when there is no room.
    #[must_use]
    pub(crate) fn space(&mut self) -> &mut [u8] {
        self.plain.get_mut(self.filled..FRAME_LIMIT).unwrap_or_default()
    }

    /// Takes the first `length` bytes of [`FrameBuffer::space`] as the memory at `address`, all of
    /// one mapping. Pages of zeros give their room back.
    ///
    /// # Errors
    /// [`ImageError::Space`], [`ImageError::Unaligned`], [`ImageError::BeyondAddressSpace`],
    /// [`ImageError::Descending`]. Nothing was taken then.
    pub(crate) fn commit(&mut self, address: u64, length: usize) -> Result<(), ImageError> {
        let memory = Range { address, length: length as u64 };
        let space = self.space().len();
        if length > space {
            return Err(ImageError::Space { length, space });
        }
        let page = self.page_size as u64;
        if address % page != 0 || memory.length % page != 0 {
            return Err(ImageError::Unaligned { address, length: memory.length });
        }
        let beyond = ImageError::BeyondAddressSpace { address, length: memory.length };
        let end = address.checked_add(memory.length).ok_or(beyond)?;
        if address < self.end {
            return Err(ImageError::Descending { address, after: self.end });
        }
        self.end = end;
        self.take_pages(memory);
        Ok(())
    }

    /// Whether it is time to write the frame: little room is left in it.
    #[must_use]
    pub(crate) fn is_full(&self) -> bool {
        FRAME_LIMIT - self.filled < FULL_ENOUGH.max(self.page_size)
    }

    /// Whether there is nothing to write; there may be zeros to take.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// The pages of zeros committed since they were last taken: for `IndexBuilder::add_zero`.
    #[must_use]
    pub(crate) fn take_zeros(&mut self) -> Vec<Range> {
        std::mem::take(&mut self.zeros)
    }

    /// Sorts the pages just read into runs, kept side by side, and zeros.
    fn take_pages(&mut self, memory: Range) {
        let page = self.page_size;
        // A commit is of one mapping; a run that reached into the next could not be put back.
        let (first_run, first_zero) = (self.runs.len(), self.zeros.len());
        let (mut from, mut address) = (self.filled, memory.address);
        while address < self.end {
            let Some(bytes) = self.plain.get(from..from + page) else { return };
            if is_zero(bytes) {
                extend(&mut self.zeros, first_zero, address, page as u64);
            } else {
                if from != self.filled {
                    self.plain.copy_within(from..from + page, self.filled);
                }
                self.filled += page;
                extend(&mut self.runs, first_run, address, page as u64);
            }
            from += page;
            address += page as u64;
        }
    }

    /// Takes the checksum of what was gathered, if the header says so, and compresses it, if that makes it
    /// shorter.
    pub(super) fn pack(&mut self, header: &Header) -> Result<Packed, ImageError> {
        let plain = self.plain.get(..self.filled).unwrap_or_default();
        if plain.is_empty() {
            return Err(ImageError::FrameEmpty);
        }
        let digest = header.has_checksums().then(|| digest(plain));
        let compressed = self.compressor.compress(header.compression(), plain);
        let plain_length = u32::try_from(plain.len()).unwrap_or(u32::MAX);
        Ok(Packed {
            is_compressed: compressed.is_some(),
            body: compressed.unwrap_or(plain.len()),
            plain_length,
            digest,
        })
    }

    /// Seals what was packed where it lies; it can be read from the result only. What was gathered
    /// is lost, and the buffer takes up the next frame.
    pub(super) fn seal(
        &mut self,
        packed: &Packed,
        sealer: &Sealer,
        number: u32,
    ) -> Result<(WrittenFrame, &[u8]), ImageError> {
        self.filled = 0;
        self.end = 0;
        let runs = std::mem::take(&mut self.runs);
        let (buffer, kind) = match packed.is_compressed {
            true => (self.compressor.output(), Kind::CompressedFrame(number)),
            false => (self.plain.as_mut_slice(), Kind::StoredFrame(number)),
        };
        let sealed = buffer.get_mut(..packed.body + TAG_LENGTH).unwrap_or_default();
        let parts = sealed.split_last_chunk_mut::<TAG_LENGTH>();
        let (body, tag) = parts.ok_or(ImageError::FrameEmpty)?;
        *tag = sealer.seal(kind, body)?;
        let Packed { plain_length, digest, .. } = *packed;
        let sealed_length = packed.sealed_length();
        Ok((WrittenFrame { number, sealed_length, plain_length, digest, runs }, sealed))
    }
}

/// A frame ready to be sealed.
pub(super) struct Packed {
    is_compressed: bool,
    body: usize,
    plain_length: u32,
    digest: Option<Digest>,
}

impl Packed {
    /// Bytes it will take in the file.
    pub(super) fn sealed_length(&self) -> u32 {
        u32::try_from(self.body + TAG_LENGTH).unwrap_or(u32::MAX)
    }
}

/// Adds a page to the last range of `list`, if that ends there and is not before `first`; else to a
/// new one.
fn extend(list: &mut Vec<Range>, first: usize, address: u64, length: u64) {
    match list.get_mut(first..).and_then(<[Range]>::last_mut) {
        Some(last) if last.address + last.length == address => last.length += length,
        _ => list.push(Range { address, length }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{self, COMPRESSIONS};
    use super::*;
    use memcr_protocol::image::{Cipher, Compression};

    const PAGE: u64 = 4096;

    fn header(compression: Compression) -> Header {
        sample::header_of(Cipher::default(), compression, false)
    }

    /// Fills all of the buffer with bytes that can't be made shorter, or with others.
    fn fill(buffer: &mut FrameBuffer, with_noise: bool) {
        let mut state = 1_u64;
        for byte in buffer.space() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = if with_noise { state.to_le_bytes()[7] } else { (state.to_le_bytes()[7] & 3) + 1 };
        }
        let length = buffer.space().len();
        buffer.commit(0, length).unwrap();
    }

    /// Commits pages filled with these bytes, one after the other from `address` on.
    fn commit(buffer: &mut FrameBuffer, address: u64, pages: &[u8]) -> Result<(), ImageError> {
        let length = pages.len() * PAGE as usize;
        let space = buffer.space();
        for (page, value) in space[..length].chunks_mut(PAGE as usize).zip(pages) {
            page.fill(*value);
        }
        buffer.commit(address, length)
    }

    fn range(page: u64, pages: u64) -> Range {
        Range { address: page * PAGE, length: pages * PAGE }
    }

    #[test]
    fn pages_of_zeros_give_their_room_back() {
        let mut buffer = FrameBuffer::new(4096);
        commit(&mut buffer, 0x10_0000, &[1, 0, 0, 2, 3, 0]).unwrap();
        assert_eq!(buffer.space().len(), FRAME_LIMIT - 3 * 4096);
        assert_eq!(buffer.runs, [range(0x100, 1), range(0x103, 2)]);
        assert_eq!(buffer.take_zeros(), [range(0x101, 2), range(0x105, 1)]);
        assert!(buffer.take_zeros().is_empty());
        let firsts: Vec<u8> = buffer.plain.chunks(4096).take(3).map(|page| page[4095]).collect();
        assert_eq!(firsts, [1, 2, 3]);
    }

    #[test]
    fn runs_of_two_commits_stay_apart_since_a_mapping_may_end_between_them() {
        let mut buffer = FrameBuffer::new(4096);
        commit(&mut buffer, 0x1000, &[1, 0]).unwrap();
        commit(&mut buffer, 0x3000, &[0, 2]).unwrap();
        commit(&mut buffer, 0x5000, &[3]).unwrap();
        assert_eq!(buffer.runs, [range(1, 1), range(4, 1), range(5, 1)]);
        assert_eq!(buffer.take_zeros(), [range(2, 1), range(3, 1)]);
    }

    #[test]
    fn memory_that_cannot_be_taken_is_refused_and_changes_nothing() {
        let mut buffer = FrameBuffer::new(4096);
        commit(&mut buffer, 0x8000, &[1, 2]).unwrap();
        let refusal = |buffer: &mut FrameBuffer, address, length| buffer.commit(address, length).unwrap_err();
        assert!(matches!(refusal(&mut buffer, 0x9000, 4096), ImageError::Descending { after: 0xa000, .. }));
        assert!(matches!(refusal(&mut buffer, 0xa001, 4096), ImageError::Unaligned { .. }));
        assert!(matches!(refusal(&mut buffer, 0xa000, 4095), ImageError::Unaligned { .. }));
        assert!(matches!(refusal(&mut buffer, 0xa000, FRAME_LIMIT), ImageError::Space { .. }));
        assert!(matches!(refusal(&mut buffer, u64::MAX - 4095, 4096), ImageError::BeyondAddressSpace { .. }));
        assert_eq!(buffer.runs, [range(8, 2)]);
        assert_eq!(buffer.filled, 8192);
    }

    #[test]
    fn a_buffer_is_full_when_little_room_is_left() {
        let mut buffer = FrameBuffer::new(4096);
        assert!(buffer.is_empty() && !buffer.is_full());
        commit(&mut buffer, 0, &[1; 240]).unwrap();
        assert!(!buffer.is_full());
        commit(&mut buffer, 0x10_0000, &[1]).unwrap();
        assert!(buffer.is_full());
        assert_eq!(buffer.space().len(), 15 * 4096);
        let mut large_pages = FrameBuffer::new(1 << 20);
        assert!(!large_pages.is_full());
        large_pages.space().fill(1);
        large_pages.commit(0, 1 << 20).unwrap();
        assert!(large_pages.is_full());
    }

    #[test]
    fn memory_is_compressed_only_if_that_makes_it_shorter() {
        for compression in COMPRESSIONS {
            let header = header(compression);
            let mut buffer = FrameBuffer::new(4096);
            assert!(matches!(buffer.pack(&header), Err(ImageError::FrameEmpty)));
            commit(&mut buffer, 0, &[7; 4]).unwrap();
            let packed = buffer.pack(&header).unwrap();
            assert_eq!(packed.is_compressed, compression != Compression::None);
            assert_eq!(packed.sealed_length() < 4096, packed.is_compressed);
            let mut noise = FrameBuffer::new(4096);
            fill(&mut noise, true);
            let packed = noise.pack(&header).unwrap();
            assert!(!packed.is_compressed && packed.sealed_length() as usize == FRAME_LIMIT + TAG_LENGTH);
        }
    }

    #[test]
    fn a_context_compresses_as_before_after_memory_that_it_could_not_compress() {
        for compression in [Compression::Lz4, Compression::Zstd] {
            let mut buffer = FrameBuffer::new(4096);
            let mut lengths = Vec::new();
            for with_noise in [false, true, false] {
                fill(&mut buffer, with_noise);
                lengths.push(buffer.pack(&header(compression)).unwrap().sealed_length());
                (buffer.filled, buffer.end) = (0, 0);
            }
            assert_eq!(lengths[0], lengths[2]);
            assert!(lengths[0] < lengths[1]);
        }
    }

    #[test]
    fn the_checksum_is_of_the_memory_before_it_is_compressed_and_made_only_if_asked_for() {
        for compression in COMPRESSIONS {
            let mut buffer = FrameBuffer::new(4096);
            commit(&mut buffer, 0, &[7, 0, 8]).unwrap();
            let expected = digest(&[[7; 4096], [8; 4096]].concat());
            let with = sample::header_of(Cipher::default(), compression, true);
            assert_eq!(buffer.pack(&with).unwrap().digest, Some(expected));
            assert_eq!(buffer.pack(&header(compression)).unwrap().digest, None);
        }
    }

    #[test]
    fn buffers_of_a_thread_that_writes_take_less_than_three_mib_and_without_zstd_two_and_a_half() {
        for (compression, limit) in
            [(Compression::None, 5 << 18), (Compression::Lz4, 5 << 19), (Compression::Zstd, 3 << 20)]
        {
            let mut buffer = FrameBuffer::new(4096);
            for with_noise in [false, true] {
                fill(&mut buffer, with_noise);
                buffer.pack(&header(compression)).unwrap();
                (buffer.filled, buffer.end) = (0, 0);
            }
            let memory = buffer.plain.capacity() + buffer.compressor.memory();
            assert!(memory < limit, "{}: {memory}", compression.name());
        }
    }
}
