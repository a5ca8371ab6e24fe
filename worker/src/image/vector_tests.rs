//! The test vector of doc/image-format.md: a change of the format can't go unnoticed.

use super::sample::MemoryFile;
use super::{FrameBuffer, Header, Image, ImageWriter, IndexBuilder, Key, ReadBuffer};
use memcr_protocol::deposit::KeyBytes;
use memcr_protocol::parasite::Range;
use ring::digest::{SHA256, digest};

const PAGE: u32 = 1024;

/// 0, 1, 2... from `first` on.
fn counted<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|position| first.wrapping_add(position as u8))
}

fn key() -> Key {
    Key::from_bytes(KeyBytes(counted(0x20)))
}

fn header() -> Header {
    let mut bytes =
        *b"memcrimg\x01\x00\x50\x00\x01\x00\x00\x00\x00\x04\x00\x00\xd2\x04\x00\x00\x2e\x16\0\0\0\0\0\0\
        ................................................";
    bytes[32..48].copy_from_slice(&counted::<16>(0xb0));
    bytes[48..].copy_from_slice(&counted::<32>(0x00));
    Header::decode(&bytes).unwrap()
}

/// Two frames: page 16 of bytes 0, 1, 2...; page 18 of bytes 0x55. Page 17 is zeros.
fn image() -> Vec<u8> {
    let file = MemoryFile::default();
    let writer = ImageWriter::create(&file, &key(), header()).unwrap();
    let mut builder = IndexBuilder::new();
    builder.add_mapping(Range { address: 15 * 1024, length: 8 * 1024 });
    let mut buffer = FrameBuffer::new(PAGE);
    let pages = buffer.space();
    pages[..1024].copy_from_slice(&counted::<1024>(0));
    pages[1024..2048].fill(0);
    buffer.commit(16 * 1024, 2048).unwrap();
    builder.add_frame(writer.write_frame(&mut buffer).unwrap());
    buffer.space()[..1024].fill(0x55);
    buffer.commit(18 * 1024, 1024).unwrap();
    builder.add_frame(writer.write_frame(&mut buffer).unwrap());
    buffer.take_zeros().into_iter().for_each(|zero| builder.add_zero(zero));
    writer.finish(builder).unwrap();
    file.bytes.into_inner().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_image_of_the_specification_is_written_byte_by_byte() {
    let bytes = image();
    assert_eq!(bytes.len(), 2281);
    assert_eq!(hex(&bytes[80..96]), "46f08a13760782505a057b84bae459ff");
    assert_eq!(hex(&bytes[2249..]), "f0628968ee6ecf7733393da1eefc8343e2c975b6fdb472af6d656d6372656e64");
    let sum = hex(digest(&SHA256, &bytes).as_ref());
    assert_eq!(sum, "ebd244c63a5eb49bcbe4770e561593789083354656f69d1cf6ddee49f41a1cb7");
}

#[test]
fn the_image_of_the_specification_is_read() {
    let image = Image::open(MemoryFile::of(image()), &key()).unwrap();
    assert_eq!(image.header().target().pid, 1234);
    let mut buffer = ReadBuffer::new();
    assert_eq!(image.read_frame(0, &mut buffer).unwrap(), counted::<1024>(0));
    assert_eq!(image.read_frame(1, &mut buffer).unwrap(), [0x55; 1024]);
    let zeros: Vec<Range> = image.index().zeros().collect();
    assert_eq!(zeros, [Range { address: 17 * 1024, length: 1024 }]);
}
