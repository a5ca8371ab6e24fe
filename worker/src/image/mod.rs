//! The image: the file that holds the memory of a sleeping process, encrypted and authenticated.
//!
//! doc/image-format.md is the format byte by byte. [`ImageWriter`] writes one, from several threads
//! if need be; [`Image`] authenticates header and index when it is opened and each frame before a
//! byte of it is given out.

mod builder;
mod cipher;
mod encoding;
mod error;
mod file;
mod frame;
mod header;
mod index;
mod index_encoding;
mod key;
mod reader;
mod trailer;
mod writer;
mod zero;

#[cfg(test)]
mod round_trip_tests;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tamper_tests;
#[cfg(test)]
mod vector_tests;

pub use builder::IndexBuilder;
pub use cipher::{Cipher, TAG_LENGTH};
pub use error::{ImageError, Part};
pub use file::ImageFile;
pub use frame::{FrameBuffer, ReadBuffer, WrittenFrame};
pub use header::{BootId, Compression, Encryption, HEADER_LENGTH, Header, Target};
pub use index::{Content, Extent, FrameEntry, Index, Totals};
pub use index_encoding::INDEX_LIMIT;
pub use key::Key;
pub use reader::Image;
pub use trailer::TRAILER_LENGTH;
pub use writer::ImageWriter;
pub use zero::is_zero;

/// Memory in one frame at most, in bytes before compression.
pub const FRAME_LIMIT: usize = 1 << 20;
