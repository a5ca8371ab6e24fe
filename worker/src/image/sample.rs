//! Images and files for the tests of this module, and its fuzz targets.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use super::{
    BootId, FrameBuffer, Header, Image, ImageError, ImageFile, ImageWriter, Index, IndexBuilder, Key,
    ReadBuffer, Target, WrittenFrame,
};
use memcr_protocol::image::{Cipher, Compression, ImageSettings};
use memcr_protocol::parasite::Range;
use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

pub(super) const PAGE: u64 = 1024;

pub(super) const CIPHERS: [Cipher; 4] =
    [Cipher::None, Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305];

pub(super) const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

#[cfg(test)]
pub(super) fn header() -> Header {
    header_of(Cipher::default(), Compression::Lz4, false)
}

#[cfg(test)]
pub(super) fn stored_header() -> Header {
    header_of(Cipher::default(), Compression::None, false)
}

pub(super) fn header_of(cipher: Cipher, compression: Compression, checksum: bool) -> Header {
    let target = Target { pid: 1234, start_time: 5678, boot_id: BootId([0xb0; 16]) };
    Header::new(target, PAGE as u32, ImageSettings { cipher, checksum }, compression).unwrap()
}

/// One of each cipher with each compression, with checksums and without.
pub(super) fn headers() -> impl Iterator<Item = Header> {
    let pairs = CIPHERS.into_iter().flat_map(|cipher| COMPRESSIONS.map(|compression| (cipher, compression)));
    pairs.flat_map(|(cipher, compression)| {
        [false, true].map(|checksum| header_of(cipher, compression, checksum))
    })
}

/// A file in memory whose reads can be made to fail.
#[derive(Default)]
pub(super) struct MemoryFile {
    pub(super) bytes: Mutex<Vec<u8>>,
    /// Reads at these offsets that are still to go wrong: a bit of them is flipped.
    pub(super) bad_reads: Mutex<BTreeMap<u64, usize>>,
    pub(super) drops: Mutex<Vec<(u64, u64)>>,
    /// Largest read so far.
    pub(super) largest_read: Mutex<usize>,
    /// Write at this offset or behind it fails.
    pub(super) full_at: Option<u64>,
}

impl MemoryFile {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { bytes: Mutex::new(bytes), ..Self::default() }
    }
}

impl ImageFile for MemoryFile {
    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = self.bytes.lock().unwrap();
        let mut largest = self.largest_read.lock().unwrap();
        *largest = (*largest).max(into.len());
        let from = bytes.get(offset as usize..).and_then(|bytes| bytes.get(..into.len()));
        into.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        if let Some(left) = self.bad_reads.lock().unwrap().get_mut(&offset).filter(|left| **left > 0) {
            *left -= 1;
            into[0] ^= 0x10;
        }
        Ok(())
    }

    fn write_all_at(&self, from: &[u8], offset: u64) -> io::Result<()> {
        if self.full_at.is_some_and(|full| offset + from.len() as u64 > full) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut bytes = self.bytes.lock().unwrap();
        let (start, end) = (offset as usize, offset as usize + from.len());
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(from);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }

    fn drop_cache(&self, offset: u64, length: u64) {
        self.drops.lock().unwrap().push((offset, length));
    }
}

/// Memory by the address of each page.
pub(super) type Memory = BTreeMap<u64, Vec<u8>>;

/// What was written, for the index.
#[derive(Default)]
pub(super) struct Written {
    frames: Vec<WrittenFrame>,
    zeros: Vec<Range>,
}

impl Written {
    pub(super) fn add_to(self, builder: &mut IndexBuilder) {
        self.frames.into_iter().for_each(|frame| builder.add_frame(frame));
        self.zeros.into_iter().for_each(|zero| builder.add_zero(zero));
    }
}

/// Gathers all pages, each committed by itself, and writes a frame whenever `pages_a_frame` came
/// together.
pub(super) fn write_pages<F: ImageFile>(
    writer: &ImageWriter<F>,
    memory: &Memory,
    pages_a_frame: usize,
) -> Result<Written, ImageError> {
    let mut written = Written::default();
    let mut buffer = FrameBuffer::new(PAGE as u32);
    let pages: Vec<_> = memory.iter().collect();
    for pages in pages.chunks(pages_a_frame) {
        for (address, page) in pages {
            buffer.space()[..page.len()].copy_from_slice(page);
            buffer.commit(**address, page.len())?;
        }
        if !buffer.is_empty() {
            written.frames.push(writer.write_frame(&mut buffer)?);
        }
    }
    written.zeros = buffer.take_zeros();
    Ok(written)
}

/// The bytes of an image of this memory, in one mapping that begins at 0.
pub(super) fn image(key: &Key, header: Header, memory: &Memory, pages_a_frame: usize) -> (Vec<u8>, Index) {
    let file = MemoryFile::default();
    let writer = ImageWriter::create(&file, key, header).unwrap();
    let mut builder = IndexBuilder::new();
    builder.add_mapping(Range { address: 0, length: 1 << 40 });
    write_pages(&writer, memory, pages_a_frame).unwrap().add_to(&mut builder);
    let (index, length) = writer.finish(builder).unwrap();
    let bytes = file.bytes.into_inner().unwrap();
    assert_eq!(length, bytes.len() as u64);
    (bytes, index)
}

/// All memory of an image, read back page by page.
pub(super) fn read_back<F: ImageFile>(
    image: &Image<F>,
    buffer: &mut ReadBuffer,
) -> Result<Memory, ImageError> {
    let mut memory = Memory::new();
    let mut put = |address: u64, bytes: &[u8]| {
        for (position, page) in (0..).zip(bytes.chunks(PAGE as usize)) {
            assert!(memory.insert(address + position * PAGE, page.to_vec()).is_none());
        }
    };
    for number in 0..image.index().frames().len() as u32 {
        let plain = image.read_frame(number, buffer)?;
        let placed: usize = image.index().pieces(number, plain).map(|(_, piece)| piece.len()).sum();
        assert_eq!(placed, plain.len());
        image.index().pieces(number, plain).for_each(|(address, piece)| put(address, piece));
    }
    for zero in image.index().zeros() {
        put(zero.address, &vec![0; zero.length as usize]);
    }
    Ok(memory)
}

/// Pages of four kinds: zeros, one byte all over, text, noise.
pub(super) fn page(kind: u8, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut noise = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..PAGE)
        .map(|position| match kind % 4 {
            0 => 0,
            1 => 0xaa,
            2 => b"the quick brown fox "[(position % 20) as usize].wrapping_add(seed as u8 & 3),
            _ => noise(),
        })
        .collect()
}

/// A little memory of all kinds, scattered.
pub(super) fn memory() -> Memory {
    let kinds = [(16, 2), (17, 3), (18, 0), (19, 0), (32, 3), (33, 1), (40, 0), (41, 2), (99, 3)];
    kinds.into_iter().map(|(number, kind)| (number * PAGE, page(kind, number))).collect()
}
