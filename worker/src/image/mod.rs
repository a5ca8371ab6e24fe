//! The image: the file that holds the memory of a sleeping process, authenticated and, by default, encrypted.
//!
//! doc/image-format.md is the format byte by byte. [`ImageWriter`] writes one, from several threads
//! if need be; [`Image`] authenticates header and index when it is opened and each frame before a
//! byte of it is given out.

mod builder;
mod checksum;
mod compress;
mod encoding;
mod error;
mod file;
mod frame;
mod header;
mod index;
mod index_encoding;
mod key;
mod read_buffer;
mod reader;
mod sealer;
mod trailer;
mod writer;
mod zero;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod round_trip_tests;
#[cfg(any(test, fuzzing))]
mod sample;
#[cfg(test)]
mod tamper_tests;
#[cfg(test)]
mod vector_tests;

pub(crate) use builder::IndexBuilder;
pub(crate) use error::{ImageError, Part};
pub(crate) use file::ImageFile;
pub(crate) use frame::{FrameBuffer, WrittenFrame};
pub(crate) use header::{BootId, Header, Target};
pub(crate) use index::{Index, Totals};
pub(crate) use index_encoding::INDEX_LIMIT;
pub(crate) use key::Key;
pub(crate) use read_buffer::ReadBuffer;
pub(crate) use reader::Image;
pub(crate) use sealer::TAG_LENGTH;
pub(crate) use trailer::TRAILER_LENGTH;
pub(crate) use writer::ImageWriter;
pub(crate) use zero::is_zero;

/// Memory in one frame at most, in bytes before compression.
pub(crate) const FRAME_LIMIT: usize = 1 << 20;
