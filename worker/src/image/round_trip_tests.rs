//! What is written is read back, by one thread or several.

use super::sample::{self, Memory, MemoryFile, PAGE, memory, read_back};
use super::{
    FrameBuffer, Header, Image, ImageError, ImageWriter, IndexBuilder, Key, Part, ReadBuffer, WrittenFrame,
};
use memcr_protocol::image::{Cipher, Compression};
use memcr_protocol::parasite::Range;
use proptest::prelude::*;
use std::sync::Mutex;
use std::thread;

const ALL: Range = Range { address: 0, length: 1 << 40 };

fn filled(value: u8) -> FrameBuffer {
    let mut buffer = FrameBuffer::new(PAGE as u32);
    buffer.space()[..PAGE as usize].fill(value);
    buffer.commit(0, PAGE as usize).unwrap();
    buffer
}

proptest! {
    #[test]
    fn any_memory_comes_back_as_it_was(
        pages in proptest::collection::btree_map(0_u64..2000, (any::<u8>(), any::<u64>()), 0..60),
        pages_a_frame in 1_usize..20,
        cipher in proptest::sample::select(&sample::CIPHERS[..]),
        compression in proptest::sample::select(&sample::COMPRESSIONS[..]),
        checksum: bool,
    ) {
        let memory = pages.into_iter().map(|(at, (kind, seed))| (at * PAGE, sample::page(kind, seed))).collect();
        let header = sample::header_of(cipher, compression, checksum);
        let key = Key::random().unwrap();
        let (bytes, written) = sample::image(&key, header.clone(), &memory, pages_a_frame);

        let image = Image::open(MemoryFile::of(bytes), &key).unwrap();

        prop_assert_eq!(image.header(), &header);
        prop_assert_eq!(image.index(), &written);
        prop_assert_eq!(&read_back(&image, &mut ReadBuffer::new()).unwrap(), &memory);
        let zeros = memory.values().filter(|page| super::is_zero(page)).count() as u64;
        let totals = written.totals();
        prop_assert_eq!((totals.pages, totals.zero_pages), (memory.len() as u64, zeros));
        prop_assert_eq!(totals.plain, (memory.len() as u64 - zeros) * PAGE);
        prop_assert_eq!(image.checksum(), written.checksum());
        prop_assert_eq!(image.checksum().is_some(), checksum);
    }
}

#[test]
fn an_image_of_nothing_can_be_read() {
    let key = Key::random().unwrap();
    let (bytes, _) = sample::image(&key, sample::header(), &Memory::new(), 1);
    let image = Image::open(MemoryFile::of(bytes), &key).unwrap();
    assert_eq!(image.index().totals(), super::Totals::default());
    assert!(matches!(
        image.read_frame(0, &mut ReadBuffer::new()),
        Err(ImageError::NoSuchFrame { frame: 0, frames: 0 })
    ));
}

#[test]
fn several_threads_write_and_read_one_file() {
    for compression in sample::COMPRESSIONS {
        several_threads_write_and_read(sample::header_of(Cipher::default(), compression, true));
    }
}

fn several_threads_write_and_read(header: Header) {
    const THREADS: u64 = 4;
    const PAGES: u64 = 3000;
    let key = Key::random().unwrap();
    let file = tempfile::tempfile().unwrap();
    let writer = ImageWriter::create(&file, &key, header).unwrap();
    let builder = Mutex::new(IndexBuilder::new());
    builder.lock().unwrap().add_mapping(ALL);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (writer, builder) = (&writer, &builder);
            scope.spawn(move || {
                let numbers = (0..PAGES).map(|number| number * THREADS + thread);
                let memory =
                    numbers.map(|number| (number * PAGE, sample::page(number as u8, number))).collect();
                let written = sample::write_pages(writer, &memory, 100).unwrap();
                written.add_to(&mut builder.lock().unwrap());
            });
        }
    });
    let (index, length) = writer.finish(builder.into_inner().unwrap()).unwrap();
    assert_eq!(length, file.metadata().unwrap().len());
    assert_eq!(index.totals().pages, THREADS * PAGES);

    let image = Image::open(&file, &key).unwrap();
    assert_eq!(image.checksum(), None);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let memory = read_back(&image, &mut ReadBuffer::new()).unwrap();
                assert_eq!(memory.len() as u64, THREADS * PAGES);
                for (address, page) in memory {
                    let number = address / PAGE;
                    assert_eq!(page, sample::page(number as u8, number));
                }
            });
        }
    });
    assert_eq!(image.checksum(), index.checksum());
}

#[test]
fn any_frame_can_be_read_alone_and_the_checksum_is_known_only_once_all_were() {
    let key = Key::random().unwrap();
    let memory = memory();
    let mut buffer = ReadBuffer::new();
    for header in sample::headers() {
        let has_checksums = header.has_checksums();
        let (bytes, written) = sample::image(&key, header, &memory, 2);
        let image = Image::open(MemoryFile::of(bytes), &key).unwrap();
        for number in (0..written.frames().len() as u32).rev() {
            assert_eq!(image.checksum(), None);
            let plain = image.read_frame(number, &mut buffer).unwrap();
            for (address, piece) in written.pieces(number, plain) {
                for (position, page) in (0..).zip(piece.chunks(PAGE as usize)) {
                    assert_eq!(page, memory[&(address + position * PAGE)]);
                }
            }
        }
        assert_eq!(image.checksum(), written.checksum());
        assert_eq!(image.checksum().is_some(), has_checksums);
    }
}

#[test]
fn the_checksum_depends_on_the_memory_alone() {
    let checksum = |header, memory: Memory| {
        sample::image(&Key::random().unwrap(), header, &memory, 2).1.checksum().unwrap()
    };
    let one = checksum(sample::header_of(Cipher::None, Compression::None, true), memory());
    for header in sample::headers().filter(Header::has_checksums) {
        assert_eq!(checksum(header, memory()), one);
    }
    let mut other = memory();
    other.get_mut(&(16 * PAGE)).unwrap()[5] ^= 1;
    assert_ne!(checksum(sample::header_of(Cipher::None, Compression::None, true), other), one);
}

#[test]
fn memory_is_in_the_file_as_it_was_only_without_cipher_and_compression() {
    let text: Memory = (0..4).map(|number| (number * PAGE, sample::page(2, number))).collect();
    for header in sample::headers() {
        let is_clear = header.cipher() == Cipher::None && header.compression() == Compression::None;
        let (bytes, _) = sample::image(&Key::random().unwrap(), header, &text, 4);
        let is_there = |page: &Vec<u8>| bytes.windows(page.len()).any(|window| window == page);
        assert_eq!(text.values().all(is_there), is_clear);
        assert_eq!(text.values().any(is_there), is_clear);
    }
}

#[test]
fn equal_memory_looks_different_in_each_frame_and_never_like_itself() {
    let key = Key::random().unwrap();
    let page = sample::page(3, 5);
    let memory = (0..4).map(|number| (number * PAGE, page.clone())).collect();
    for header in sample::headers().filter(|header| header.cipher() != Cipher::None) {
        let (bytes, index) = sample::image(&key, header, &memory, 1);
        let sealed: Vec<&[u8]> =
            index.frames().iter().map(|frame| &bytes[frame.offset() as usize..][..PAGE as usize]).collect();
        for (number, frame) in sealed.iter().enumerate() {
            assert!(sealed[number + 1..].iter().all(|other| other[..16] != frame[..16]));
            assert!(!bytes.windows(16).any(|window| window == &page[..16]));
        }
    }
}

#[test]
fn a_full_disk_is_reported_with_the_frame_and_the_image_cannot_be_finished() {
    let file = MemoryFile { full_at: Some(200), ..MemoryFile::default() };
    let writer = ImageWriter::create(&file, &Key::random().unwrap(), sample::stored_header()).unwrap();
    match writer.write_frame(&mut filled(1)).unwrap_err() {
        ImageError::Write { part: Part::Frame(0), offset: 80, length: 1040, cause } => {
            assert_eq!(cause.kind(), std::io::ErrorKind::StorageFull);
        }
        other => panic!("{other}"),
    }
    let error = writer.finish(IndexBuilder::new()).unwrap_err();
    assert!(matches!(error, ImageError::FrameMissing { frame: 0 }));
}

#[test]
fn only_an_empty_file_can_become_an_image() {
    let file = MemoryFile::of(vec![0]);
    let refusal = ImageWriter::create(&file, &Key::random().unwrap(), sample::header()).err().unwrap();
    assert!(matches!(refusal, ImageError::NotEmpty { length: 1 }));
}

#[test]
fn the_index_must_list_exactly_the_frames_written() {
    let finish = |written: usize, change: fn(&mut Vec<WrittenFrame>)| {
        let file = MemoryFile::default();
        let writer = ImageWriter::create(&file, &Key::random().unwrap(), sample::header()).unwrap();
        let mut frames: Vec<_> = (0..written).map(|_| writer.write_frame(&mut filled(1)).unwrap()).collect();
        for (number, frame) in frames.iter_mut().enumerate() {
            frame.runs[0].address = number as u64 * PAGE;
        }
        change(&mut frames);
        let mut builder = IndexBuilder::new();
        builder.add_mapping(ALL);
        frames.into_iter().for_each(|frame| builder.add_frame(frame));
        writer.finish(builder).map(|_| ())
    };
    assert!(finish(3, |frames| frames.reverse()).is_ok());
    assert!(matches!(finish(3, |frames| frames.truncate(2)), Err(ImageError::FrameMissing { frame: 2 })));
    assert!(matches!(finish(3, |frames| drop(frames.remove(1))), Err(ImageError::FrameMissing { frame: 1 })));
    let foreign = |frames: &mut Vec<WrittenFrame>| {
        let runs = vec![Range { address: 8 * PAGE, length: PAGE }];
        frames.push(WrittenFrame {
            number: 1,
            sealed_length: 40,
            plain_length: PAGE as u32,
            digest: None,
            runs,
        });
    };
    assert!(matches!(finish(1, foreign), Err(ImageError::FrameForeign { frame: 1 })));
    let longer = |frames: &mut Vec<WrittenFrame>| frames[0].sealed_length += 1;
    assert!(matches!(finish(1, longer), Err(ImageError::FramesEnd { .. })));
    let summed = |frames: &mut Vec<WrittenFrame>| frames[0].digest = Some([0; 16]);
    assert!(matches!(finish(1, summed), Err(ImageError::FrameForeign { frame: 0 })));
}

#[test]
fn a_buffer_can_be_used_again_after_a_frame_was_written() {
    let file = MemoryFile::default();
    let writer = ImageWriter::create(&file, &Key::random().unwrap(), sample::header()).unwrap();
    let mut buffer = filled(1);
    writer.write_frame(&mut buffer).unwrap();
    assert!(buffer.is_empty());
    assert!(matches!(writer.write_frame(&mut buffer), Err(ImageError::FrameEmpty)));
    buffer.commit(0, 0).unwrap();
    assert_eq!(buffer.space().len(), super::FRAME_LIMIT);
}
