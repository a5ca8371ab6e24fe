//! Reading an image whose bytes are anything: what must hold. See `crate::fuzzing`.

use super::compress::Decompressor;
use super::header::HEADER_LENGTH;
use super::sample::{self, MemoryFile};
use super::{FRAME_LIMIT, Header, Image, Index, Key, ReadBuffer};
use memcr_protocol::deposit::KeyBytes;
use memcr_protocol::image::{Cipher, Compression};
use std::cell::RefCell;
use std::sync::OnceLock;

/// A header that is taken is the one encoding of itself.
pub(crate) fn header(bytes: &[u8]) {
    let Some(first) = bytes.first_chunk::<HEADER_LENGTH>() else { return };
    if let Ok(header) = Header::decode(first) {
        assert_eq!(header.encode(), *first);
    }
}

/// An index that is taken (its seal being genuine) is the one encoding of itself, and its parts fit together. The first
/// byte chooses whether there are checksums in it.
pub(crate) fn index(bytes: &[u8]) {
    let Some((choice, encoded)) = bytes.split_first() else { return };
    let header = sample::header_of(Cipher::default(), Compression::Lz4, choice & 1 == 1);
    let Ok(index) = Index::decode(encoded, &header) else { return };
    assert_eq!(index.encode().as_deref().ok(), Some(encoded));
    let page = u64::from(header.page_size());
    let taken: u64 = index.extents().iter().map(|extent| extent.length / page).sum();
    assert_eq!(taken, index.totals().pages);
    assert!(index.totals().zero_pages <= taken);
    for (number, frame) in (0..).zip(index.frames()) {
        let plain = vec![0; frame.plain_length() as usize];
        assert!(plain.len() <= FRAME_LIMIT);
        let placed: usize = index.pieces(number, &plain).map(|(_, piece)| piece.len()).sum();
        assert_eq!(placed, plain.len());
    }
}

/// A frame (its seal being genuine) gives memory of exactly the length that the index has, or none. The first byte
/// chooses algorithm and length.
pub(crate) fn frame(bytes: &[u8]) {
    let Some((choice, body)) = bytes.split_first() else { return };
    let algorithm = sample::COMPRESSIONS[usize::from(choice & 3) % sample::COMPRESSIONS.len()];
    let length = FRAME_LIMIT >> (choice >> 2 & 15);
    thread_local! {
        // as a thread of a worker has it, from frame to frame
        static DECOMPRESSOR: RefCell<Decompressor> = RefCell::default();
    }
    DECOMPRESSOR.with_borrow_mut(|decompressor| {
        if let Ok(Some(plain)) = decompressor.decompress(algorithm, body, length) {
            assert_eq!(plain.len(), length);
        }
    });
}

/// The key of all images here.
fn key() -> Key {
    Key::from_bytes(KeyBytes([7; 32]))
}

/// Good images, written in every way.
fn images() -> &'static [Vec<u8>] {
    static IMAGES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let image =
            |(number, header): (usize, _)| sample::image(&key(), header, &sample::memory(), 1 + number % 3).0;
        (0..).zip(sample::headers()).map(image).collect()
    })
}

/// An image in which anything was changed opens with the memory that was written, or not at all: no other memory ever comes
/// out of it. The first byte chooses how it is written; each four that follow change, cut or lengthen it somewhere.
pub(crate) fn file(bytes: &[u8]) {
    let Some((choice, edits)) = bytes.split_first() else { return };
    let mut image = images()[usize::from(*choice) % images().len()].clone();
    for edit in edits.chunks_exact(4).take(64) {
        let [kind, low, high, value] = [edit[0], edit[1], edit[2], edit[3]];
        let at = usize::from(u16::from_le_bytes([low, high])) % (image.len() + 1);
        match kind % 4 {
            0 => image.get_mut(at).into_iter().for_each(|byte| *byte ^= value),
            1 => image.truncate(at),
            2 => image.splice(at..at, vec![value; usize::from(kind >> 2) + 1]).for_each(drop),
            _ => drop(image.drain(at..(at + usize::from(value)).min(image.len()))),
        }
    }
    let Ok(opened) = Image::open(MemoryFile::of(image), &key()) else { return };
    thread_local! {
        static BUFFER: RefCell<ReadBuffer> = RefCell::new(ReadBuffer::new());
    }
    let found = BUFFER.with_borrow_mut(|buffer| sample::read_back(&opened, buffer));
    if let Ok(found) = found {
        assert!(found == sample::memory(), "memory that was never written came out");
    }
}

/// Good inputs to begin with, by target: a header, an index with checksums and without, frames of each algorithm.
#[cfg(fuzzing)]
#[must_use]
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    use super::compress::Compressor;
    let mut seeds = Vec::new();
    for (number, header) in (0_u8..).zip(sample::headers()) {
        let choice = u8::from(header.has_checksums());
        let (_, index) = sample::image(&key(), header.clone(), &sample::memory(), 2);
        let encoded = index.encode().unwrap_or_default();
        seeds.push(("image_header", header.encode().to_vec()));
        seeds.push(("image_index", [&[choice][..], &encoded].concat()));
        seeds.push(("image_file", vec![number, 0, 90, 0, 1, 1, 200, 1, 0]));
    }
    let plain = [[7_u8; 40], [9; 40]].concat().repeat(13);
    let plain = &plain[..FRAME_LIMIT >> 10];
    for (choice, algorithm) in [(1_u8, Compression::Lz4), (2, Compression::Zstd)] {
        let mut compressor = Compressor::default();
        if let Some(length) = compressor.compress(algorithm, plain) {
            seeds.push(("image_frame", [&[choice | 10 << 2], &compressor.output()[..length]].concat()));
        }
    }
    seeds
}
