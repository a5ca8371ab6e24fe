//! Whatever is done to an image is noticed, and memory that is not genuine is never given out.

use super::checksum::digest;
use super::compress::Compressor;
use super::header::HEADER_LENGTH;
use super::index::{Content, Extent, FrameEntry, Parts};
use super::sample::{self, CIPHERS, Memory, MemoryFile, PAGE, memory, read_back};
use super::sealer::{Kind, Sealer};
use super::{Header, Image, ImageError, Key, Part, ReadBuffer, TAG_LENGTH, TRAILER_LENGTH, trailer};
use memcr_protocol::image::Compression;
use memcr_protocol::parasite::Range;

fn open(bytes: Vec<u8>, key: &Key) -> Result<Image<MemoryFile>, ImageError> {
    Image::open(MemoryFile::of(bytes), key)
}

/// The error when this is opened, which must fail.
fn refusal(bytes: Vec<u8>, key: &Key) -> ImageError {
    open(bytes, key).err().expect("it must not open")
}

/// Which frames open, the image itself being untouched but for its frames.
fn frames_that_open(bytes: &[u8], key: &Key) -> Vec<u32> {
    let image = open(bytes.to_vec(), key).unwrap();
    let mut buffer = ReadBuffer::new();
    let mut good = Vec::new();
    for number in 0..image.index().frames().len() as u32 {
        match image.read_frame(number, &mut buffer) {
            Ok(_) => good.push(number),
            Err(ImageError::Authentication { part, .. }) => assert_eq!(part, Part::Frame(number)),
            Err(other) => panic!("{other}"),
        }
    }
    good
}

/// Four frames of one stored page each, all of one length.
fn equal_frames() -> Memory {
    (0..4).map(|number| (number * PAGE, sample::page(3, number))).collect()
}

const FRAME: usize = PAGE as usize + TAG_LENGTH;

fn frame_at(number: usize) -> std::ops::Range<usize> {
    HEADER_LENGTH + number * FRAME..HEADER_LENGTH + (number + 1) * FRAME
}

#[test]
fn every_altered_byte_is_noticed_and_spoils_no_other_frame() {
    let key = Key::random().unwrap();
    let memory = memory();
    for header in sample::headers() {
        let (good, index) = sample::image(&key, header, &memory, 3);
        let mut buffer = ReadBuffer::new();
        for position in 0..good.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[position] ^= flip;
                let hit = (0..).zip(index.frames()).find(|(_, frame)| {
                    (frame.offset()..frame.offset() + u64::from(frame.sealed_length()))
                        .contains(&(position as u64))
                });
                let Some((hit, entry)) = hit else {
                    refusal(bytes, &key);
                    continue;
                };
                let image = open(bytes, &key).unwrap();
                for number in 0..index.frames().len() as u32 {
                    match image.read_frame(number, &mut buffer) {
                        Ok(plain) => {
                            assert_ne!(number, hit, "byte {position}");
                            for (address, piece) in index.pieces(number, plain) {
                                assert_eq!(piece[..PAGE as usize], memory[&address]);
                            }
                        }
                        Err(ImageError::Authentication { part, offset }) => {
                            assert_eq!((part, offset), (Part::Frame(hit), entry.offset()), "byte {position}");
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        }
    }
}

#[test]
fn an_image_cut_off_anywhere_does_not_open() {
    let key = Key::random().unwrap();
    for header in sample::headers() {
        let (good, _) = sample::image(&key, header, &memory(), 3);
        for length in 0..good.len() {
            match refusal(good[..length].to_vec(), &key) {
                ImageError::TooShort { .. } => assert!(length < HEADER_LENGTH + TAG_LENGTH + TRAILER_LENGTH),
                ImageError::Unfinished { offset } => assert_eq!(offset, (length - TRAILER_LENGTH) as u64),
                other => panic!("{other}"),
            }
        }
    }
}

#[test]
fn bytes_added_anywhere_are_noticed() {
    let key = Key::random().unwrap();
    for header in sample::headers() {
        let (good, index) = sample::image(&key, header, &equal_frames(), 1);
        let added = |at: usize| [&good[..at], &[0; 16], &good[at..]].concat();
        assert!(matches!(refusal(added(good.len()), &key), ImageError::Unfinished { .. }));
        let behind_frames = refusal(added(index.frames_end() as usize), &key);
        assert!(matches!(behind_frames, ImageError::FramesEnd { .. }));
        assert!(matches!(refusal(added(HEADER_LENGTH), &key), ImageError::FramesEnd { .. }));
        let behind_index = refusal(added(good.len() - TRAILER_LENGTH), &key);
        assert!(matches!(behind_index, ImageError::Authentication { part: Part::Index, .. }));
    }
}

#[test]
fn frames_that_are_swapped_or_repeated_fail() {
    let key = Key::random().unwrap();
    for header in sample::headers() {
        let (good, _) = sample::image(&key, header, &equal_frames(), 1);
        assert_eq!(frames_that_open(&good, &key), [0, 1, 2, 3]);

        let mut swapped = good.clone();
        swapped[frame_at(1)].copy_from_slice(&good[frame_at(2)]);
        swapped[frame_at(2)].copy_from_slice(&good[frame_at(1)]);
        assert_eq!(frames_that_open(&swapped, &key), [0, 3]);

        let mut repeated = good.clone();
        repeated[frame_at(3)].copy_from_slice(&good[frame_at(0)]);
        assert_eq!(frames_that_open(&repeated, &key), [0, 1, 2]);
    }
}

#[test]
fn a_frame_from_another_image_fails_even_under_the_same_key() {
    let key = Key::random().unwrap();
    for header in sample::headers() {
        // each with a salt of its own
        let image = |key: &Key, cipher| {
            let header = sample::header_of(cipher, header.compression(), header.has_checksums());
            sample::image(key, header, &equal_frames(), 1).0
        };
        let good = image(&key, header.cipher());
        let others = CIPHERS.map(|cipher| image(&key, cipher));
        let of_another_key = image(&Key::random().unwrap(), header.cipher());
        for other in others.into_iter().chain([of_another_key]) {
            let mut mixed = good.clone();
            mixed[frame_at(2)].copy_from_slice(&other[frame_at(2)]);
            assert_eq!(frames_that_open(&mixed, &key), [0, 1, 3]);

            let ends = good.len() - TRAILER_LENGTH..good.len();
            let mut mixed = good.clone();
            mixed[ends.clone()].copy_from_slice(&other[ends]);
            let error = refusal(mixed, &key);
            assert!(matches!(error, ImageError::Authentication { part: Part::Trailer, .. }));

            let mut mixed = good.clone();
            let index = frame_at(3).end..good.len() - TRAILER_LENGTH;
            mixed[index.clone()].copy_from_slice(&other[index]);
            let error = refusal(mixed, &key);
            assert!(matches!(error, ImageError::Authentication { part: Part::Index, .. }));
        }
    }
}

#[test]
fn a_header_altered_to_another_good_one_is_noticed() {
    let key = Key::random().unwrap();
    for header in sample::headers() {
        let (good, _) = sample::image(&key, header, &memory(), 3);
        let next = |position: usize, count| (position, (good[position] + 1) % count);
        // cipher, compression, checksums, page size, pid, start time, boot id, salt
        for (position, value) in [
            next(12, 4),
            next(13, 3),
            next(14, 2),
            (17, 8),
            (20, 0),
            (24, 0),
            (32, 0),
            (48, good[48] ^ 1),
            (79, good[79] ^ 1),
        ] {
            let mut bytes = good.clone();
            bytes[position] = value;
            assert!(Header::decode(bytes.first_chunk().unwrap()).is_ok());
            let error = refusal(bytes, &key);
            assert!(matches!(error, ImageError::Authentication { part: Part::Trailer, .. }), "{error}");
        }
    }
}

#[test]
fn another_key_opens_nothing() {
    for header in sample::headers() {
        let (good, _) = sample::image(&Key::random().unwrap(), header, &memory(), 3);
        let error = refusal(good, &Key::random().unwrap());
        assert!(matches!(error, ImageError::Authentication { part: Part::Trailer, .. }));
    }
}

/// The image with its trailer replaced by a genuine one that names another index length.
fn with_index_length(good: &[u8], key: &Key, length: u64) -> Vec<u8> {
    let header = Header::decode(good.first_chunk().unwrap()).unwrap();
    let lie = trailer::seal(&Sealer::new(key, &header).unwrap(), length).unwrap();
    [&good[..good.len() - TRAILER_LENGTH], &lie].concat()
}

#[test]
fn a_lying_trailer_reserves_nothing() {
    let key = Key::random().unwrap();
    for header in sample::headers() {
        let (good, _) = sample::image(&key, header, &memory(), 3);
        let room = (good.len() - HEADER_LENGTH - TRAILER_LENGTH) as u64;
        for lie in [room + 1, 1 << 30, 1 << 40, u64::MAX] {
            let file = MemoryFile::of(with_index_length(&good, &key, lie));
            let error = Image::open(&file, &key).err().unwrap();
            assert!(matches!(error, ImageError::IndexLength { length, .. } if length == lie), "{error}");
            assert_eq!(*file.largest_read.lock().unwrap(), HEADER_LENGTH);
        }
        for lie in [0, 1, 15, 16, 17, room] {
            let error = refusal(with_index_length(&good, &key, lie), &key);
            assert!(matches!(error, ImageError::Authentication { part: Part::Index, .. }), "{error}");
        }
    }
}

#[test]
fn a_trailer_forged_without_the_key_reserves_nothing() {
    let key = Key::random().unwrap();
    for header in sample::headers() {
        let (mut bytes, _) = sample::image(&key, header, &memory(), 3);
        let at = bytes.len() - TRAILER_LENGTH;
        bytes[at..at + 8].fill(0xff);
        let file = MemoryFile::of(bytes);
        let error = Image::open(&file, &key).err().unwrap();
        assert!(matches!(error, ImageError::Authentication { part: Part::Trailer, .. }));
        assert_eq!(*file.largest_read.lock().unwrap(), HEADER_LENGTH);
    }
}

#[test]
fn an_index_beyond_the_limit_is_refused_though_the_file_has_room_for_it() {
    let key = Key::random().unwrap();
    let header = sample::header();
    let file = tempfile::tempfile().unwrap();
    let end = 1 << 40;
    let lie = trailer::seal(&Sealer::new(&key, &header).unwrap(), 1 << 39).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &header.encode(), 0).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &lie, end).unwrap();
    let error = Image::open(&file, &key).err().unwrap();
    assert!(matches!(error, ImageError::IndexLength { room, .. } if room < 1 << 29), "{error}");
}

#[test]
fn a_read_that_goes_wrong_once_is_repeated_from_the_medium() {
    let key = Key::random().unwrap();
    for header in sample::headers() {
        let (good, index) = sample::image(&key, header, &memory(), 3);
        let frame = index.frames()[1];
        let (length, trailer_at) = (good.len() as u64, (good.len() - TRAILER_LENGTH) as u64);
        let file = MemoryFile::of(good);
        let spoil = |offset: u64, times: usize| file.bad_reads.lock().unwrap().insert(offset, times);
        let drops = || std::mem::take(&mut *file.drops.lock().unwrap());
        for part in [0, index.frames_end(), trailer_at] {
            spoil(part, 1);
            assert!(Image::open(&file, &key).is_ok());
            assert_eq!(drops(), [(0, length)]);
            spoil(part, 2);
            assert!(Image::open(&file, &key).is_err());
            assert_eq!(drops(), [(0, length)]);
        }
        let image = Image::open(&file, &key).unwrap();
        let mut buffer = ReadBuffer::new();
        spoil(frame.offset(), 1);
        assert_eq!(read_back(&image, &mut buffer).unwrap(), memory());
        assert_eq!(drops(), [(frame.offset(), frame.sealed_length().into())]);
        spoil(frame.offset(), 2);
        let error = image.read_frame(1, &mut buffer).unwrap_err();
        assert!(matches!(error, ImageError::Authentication { part: Part::Frame(1), .. }));
        assert!(image.read_frame(1, &mut buffer).is_ok());
    }
}

#[test]
fn a_file_that_shrinks_after_it_was_opened_is_an_error_of_that_frame() {
    let key = Key::random().unwrap();
    for header in sample::headers() {
        let (good, index) = sample::image(&key, header, &memory(), 3);
        let file = MemoryFile::of(good);
        let image = Image::open(&file, &key).unwrap();
        let offset = index.frames()[1].offset();
        file.bytes.lock().unwrap().truncate(offset as usize + 1);
        let mut buffer = ReadBuffer::new();
        assert!(image.read_frame(0, &mut buffer).is_ok());
        match image.read_frame(1, &mut buffer).unwrap_err() {
            ImageError::Read { part: Part::Frame(1), offset: named, cause, .. } => {
                assert_eq!((named, cause.kind()), (offset, std::io::ErrorKind::UnexpectedEof));
            }
            other => panic!("{other}"),
        }
    }
}

/// An image of one compressed frame with this body and perhaps a checksum, made by somebody who has the key.
fn forged(key: &Key, header: &Header, body: &[u8], plain_length: u32, digest: Option<[u8; 16]>) -> Vec<u8> {
    let sealer = Sealer::new(key, header).unwrap();
    let seal = |kind, body: &[u8]| {
        let mut sealed = body.to_vec();
        let tag = sealer.seal(kind, &mut sealed).unwrap();
        [&sealed[..], &tag].concat()
    };
    let kind =
        if body.len() < plain_length as usize { Kind::CompressedFrame(0) } else { Kind::StoredFrame(0) };
    let frame = seal(kind, body);
    let content = Content::Frame { number: 0, position: 0 };
    let parts = Parts {
        mappings: vec![Range { address: 0, length: 1 << 30 }],
        frames: vec![FrameEntry::new(frame.len() as u32, plain_length, digest)],
        extents: vec![Extent { address: 0, length: plain_length.into(), content }],
    };
    let index = seal(Kind::Index, &parts.check(header).unwrap().encode().unwrap());
    let trailer = trailer::seal(&sealer, index.len() as u64).unwrap();
    [&header.encode()[..], &frame, &index, &trailer].concat()
}

/// Compressed if the algorithm can do that, else as it is.
fn compressed(algorithm: Compression, plain: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::default();
    match compressor.compress(algorithm, plain) {
        Some(length) => compressor.output()[..length].to_vec(),
        None => plain.to_vec(),
    }
}

#[test]
fn a_frame_that_does_not_decompress_to_its_length_is_an_error() {
    let key = Key::random().unwrap();
    let mut buffer = ReadBuffer::new();
    for header in sample::headers() {
        let algorithm = header.compression();
        if algorithm == Compression::None {
            continue;
        }
        let mut read = |body: &[u8], plain_length, digest: Option<[u8; 16]>| {
            let digest = header.has_checksums().then(|| digest.unwrap_or_default());
            let image = open(forged(&key, &header, body, plain_length, digest), &key).unwrap();
            image.read_frame(0, &mut buffer).map(<[u8]>::to_vec)
        };
        let plain = sample::page(1, 0);
        let page = compressed(algorithm, &plain);
        assert_eq!(read(&page, PAGE as u32, Some(digest(&plain))).unwrap(), plain);
        let two_pages = 2 * PAGE as u32;
        let cut = &page[..page.len() - 1];
        for body in [&page[..], cut, &[0xff; 40], &[0; 1]] {
            let error = read(body, two_pages, None).unwrap_err();
            let named = matches!(error, ImageError::Decompress { frame: 0, offset: 80, plain: 2048 });
            assert!(named, "{}: {error}", algorithm.name());
        }
        let longer = compressed(algorithm, &[7; 3000]);
        assert!(matches!(read(&longer, PAGE as u32, None), Err(ImageError::Decompress { .. })));
    }
}

#[test]
fn memory_that_is_not_what_its_checksum_says_is_not_given_out() {
    let key = Key::random().unwrap();
    let mut buffer = ReadBuffer::new();
    for header in sample::headers().filter(Header::has_checksums) {
        let plain = sample::page(1, 0);
        let body = compressed(header.compression(), &plain);
        let right = digest(&plain);
        for position in 0..right.len() {
            let mut wrong = right;
            wrong[position] ^= 1;
            let file = MemoryFile::of(forged(&key, &header, &body, PAGE as u32, Some(wrong)));
            let image = Image::open(&file, &key).unwrap();
            let error = image.read_frame(0, &mut buffer).unwrap_err();
            assert!(matches!(error, ImageError::Checksum { frame: 0, offset: 80 }), "{error}");
            assert_eq!(image.checksum(), None);
            // it was read once more
            assert_eq!(*file.drops.lock().unwrap(), [(80, body.len() as u64 + TAG_LENGTH as u64)]);
        }
        let image = open(forged(&key, &header, &body, PAGE as u32, Some(right)), &key).unwrap();
        assert_eq!(image.read_frame(0, &mut buffer).unwrap(), plain);
        assert_eq!(image.checksum(), image.index().checksum());
    }
}
