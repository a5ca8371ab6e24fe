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

fn header(cipher: u8) -> Header {
    let mut bytes =
        *b"memcrimg\x02\x00\x50\x00\x00\x00\x01\x00\x00\x04\x00\x00\xd2\x04\x00\x00\x2e\x16\0\0\0\0\0\0\
        ................................................";
    bytes[12] = cipher;
    bytes[32..48].copy_from_slice(&counted::<16>(0xb0));
    bytes[48..].copy_from_slice(&counted::<32>(0x00));
    Header::decode(&bytes).unwrap()
}

/// Two frames: page 16 of bytes 0, 1, 2...; page 18 of bytes 0x55. Page 17 is zeros.
fn image(cipher: u8) -> Vec<u8> {
    let file = MemoryFile::default();
    let writer = ImageWriter::create(&file, &key(), header(cipher)).unwrap();
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

/// SHA-256 of the file by the number of its cipher.
const FILES: [&str; 4] = [
    "24c3dbfcf0120c0671a1442a25da3e28290583939955c00bc4fcf5d93744dc6e",
    "c04ad2d8b87ec4141a14143b95d7d12ca3f629666c033b244440d25e9763c61a",
    "eb13cc78209e04e313584e7b4ea1dec838cb4d217895794e87338aa6ed6cf4e5",
    "d48278c665907b54a877da557f7c12d63db4811bbc92ac1728d2a02ce22a165b",
];

#[test]
fn the_image_of_the_specification_is_written_byte_by_byte() {
    for (cipher, expected) in (0..).zip(FILES) {
        let bytes = image(cipher);
        assert_eq!(bytes.len(), 2313);
        assert_eq!(hex(digest(&SHA256, &bytes).as_ref()), expected, "cipher {cipher}");
    }
    let bytes = image(2);
    assert_eq!(hex(&bytes[80..96]), "ec0ebf2c703974a06cb1a6c813e66b4f");
    assert_eq!(hex(&bytes[2281..]), "c1df82a788faede96d896cdd44777c2cb9879a5de1b7ca166d656d6372656e64");
    let bytes = image(0);
    assert_eq!(bytes[80..80 + 1024], counted::<1024>(0));
    let index = "020000000000000003000000000000000100000000000000000800000000000020080000000000000100\
                 00000000000003000000000000000f08019008b2ea9f7fcea831a4a63b213f41a8855b0190085f6d5107\
                 656412e073fc755b1c69fdb2100101000100000102";
    assert_eq!(hex(&bytes[2160..2265]), index);
    assert_eq!(hex(&bytes[2281..]), "79000000000000002d64b7cb0fdb8d397c9c6548b0f74ad16d656d6372656e64");
}

#[test]
fn the_image_of_the_specification_is_read() {
    for cipher in 0..4 {
        let image = Image::open(MemoryFile::of(image(cipher)), &key()).unwrap();
        assert_eq!(image.header().target().pid, 1234);
        let mut buffer = ReadBuffer::new();
        assert_eq!(image.read_frame(0, &mut buffer).unwrap(), counted::<1024>(0));
        assert_eq!(image.read_frame(1, &mut buffer).unwrap(), [0x55; 1024]);
        let zeros: Vec<Range> = image.index().zeros().collect();
        assert_eq!(zeros, [Range { address: 17 * 1024, length: 1024 }]);
        assert_eq!(image.checksum().unwrap().to_string(), "61071b319c4977c28957c64bfd390a08");
    }
}
