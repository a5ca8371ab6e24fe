//! What can go wrong with an image, as sentences that name the frame or the place in the file.

use std::fmt;
use std::io;
use thiserror::Error;

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The header at its beginning.
    Header,
    /// The frame of this number.
    Frame(u32),
    /// The index after the frames.
    Index,
    /// The trailer at its end.
    Trailer,
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => formatter.write_str("the header"),
            Self::Frame(number) => write!(formatter, "frame {number}"),
            Self::Index => formatter.write_str("the index"),
            Self::Trailer => formatter.write_str("the trailer"),
        }
    }
}

/// Why an image can't be written or read. Lengths, offsets and positions are bytes.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each sentence says what its fields are")]
pub(crate) enum ImageError {
    // the system
    #[error("can't obtain random numbers for the image")]
    Random,
    #[error("can't reserve {length} bytes of memory for the image's index")]
    Memory { length: usize },
    #[error("can't reserve memory for decompressing the image")]
    DecompressorMemory,
    #[error("can't tell the length of the image file: {cause}")]
    Length { cause: io::Error },
    #[error("can't read {length} bytes of {part} at offset {offset} of the image: {cause}")]
    Read { part: Part, offset: u64, length: usize, cause: io::Error },
    #[error("can't write {length} bytes of {part} at offset {offset} of the image: {cause}")]
    Write { part: Part, offset: u64, length: usize, cause: io::Error },

    // the header
    #[error("a field of the image's header is cut off: only {have} bytes are left")]
    HeaderCutOff { have: usize },
    #[error("the file is no image: it doesn't begin with an image's magic bytes")]
    Magic,
    #[error("the image has format version {found}, which is unknown here")]
    Version { found: u16 },
    #[error("the image's header says it has {found} bytes, which its version has not")]
    HeaderLength { found: u16 },
    #[error("the image is encrypted with algorithm {found}, which is unknown here")]
    Cipher { found: u8 },
    #[error("the image is compressed with algorithm {found}, which is unknown here")]
    Compression { found: u8 },
    #[error("the image's header says {found} of checksums, and only 0 (none) and 1 (MD5) are known here")]
    ChecksumFlag { found: u8 },
    #[error("the reserved byte of the image's header is not zero")]
    Reserved,
    #[error("the image's page size of {found} bytes is no power of two from 1 KiB to 1 MiB")]
    PageSize { found: u32 },

    // the file as a whole
    #[error("the image file holds {length} bytes already, but a new one must be empty")]
    NotEmpty { length: u64 },
    #[error("the image is cut off: it has {length} bytes, and none has fewer than {least}")]
    TooShort { length: u64, least: u64 },
    #[error("the image has no trailer at offset {offset}: it is cut off or was never finished")]
    Unfinished { offset: u64 },
    #[error("{part} at offset {offset} of the image fails authentication")]
    Authentication { part: Part, offset: u64 },
    #[error("{part} of the image can't be sealed")]
    Seal { part: Part },
    #[error("the image's frames end at offset {end}, but its index begins at offset {index}")]
    FramesEnd { end: u64, index: u64 },

    // the index
    #[error("the image's index has {length} bytes, and there is room for {room}")]
    IndexLength { length: u64, room: u64 },
    #[error("the image's index would have {length} bytes, and {limit} are allowed")]
    IndexTooLong { length: usize, limit: usize },
    #[error("the image's index is cut off or malformed at position {position}")]
    IndexMalformed { position: usize },
    #[error("the image's index says it lists {count} {what}, but only {left} bytes are left for them")]
    IndexCount { what: &'static str, count: u64, left: usize },
    #[error("the image's index has {left} bytes left over")]
    IndexLeftOver { left: usize },
    #[error("the image's index says {said} {what}, but it lists {found}")]
    Totals { what: &'static str, said: u64, found: u64 },

    // ranges of memory
    #[error("memory at {address:#x} of {length} bytes is not made of whole pages")]
    Unaligned { address: u64, length: u64 },
    #[error("memory at {address:#x} has no length")]
    Empty { address: u64 },
    #[error("memory at {address:#x} of {length} bytes reaches beyond the address space")]
    BeyondAddressSpace { address: u64, length: u64 },
    #[error("{what} at {address:#x} begins before the one before it ends")]
    Overlap { what: &'static str, address: u64 },
    #[error("memory at {address:#x} of {length} bytes is not inside a guarded mapping")]
    OutsideMapping { address: u64, length: u64 },

    #[error("the image is of process {found}, not of process {pid}")]
    Target { found: i32, pid: i32 },

    // frames
    #[error("the image can't hold more than {limit} frames")]
    TooManyFrames { limit: u32 },
    #[error("there is no frame {frame} in an image of {frames} frames")]
    NoSuchFrame { frame: u32, frames: usize },
    #[error("frame {frame} was written, but is not in the index")]
    FrameMissing { frame: u32 },
    #[error("frame {frame} is in the index twice, or was not written to this image")]
    FrameForeign { frame: u32 },
    #[error("frame {frame} holds {length} bytes of memory: none, too many, or no whole pages")]
    FramePlainLength { frame: u32, length: u64 },
    #[error("frame {frame} can't have {sealed} bytes in the file for {plain} bytes of memory")]
    FrameSealedLength { frame: u32, sealed: u64, plain: u32 },
    #[error("frame {frame} holds {plain} bytes of memory, but the index places {placed}")]
    FrameContent { frame: u32, placed: u64, plain: u32 },
    #[error("frame {frame} at offset {offset} of the image doesn't decompress to {plain} bytes")]
    Decompress { frame: u32, offset: u64, plain: u32 },
    #[error("frame {frame} at offset {offset} of the image holds other memory than its checksum is of")]
    Checksum { frame: u32, offset: u64 },

    // filling a frame
    #[error("{length} bytes of memory don't fit the {space} bytes left in the frame")]
    Space { length: usize, space: usize },
    #[error("memory at {address:#x} was added to a frame after memory that ends at {after:#x}")]
    Descending { address: u64, after: u64 },
    #[error("a frame without memory can't be written")]
    FrameEmpty,
}

impl ImageError {
    /// Whether it says something of the machine just now, not of the image: reading it may work later.
    #[must_use]
    pub(crate) fn is_of_the_moment(&self) -> bool {
        match self {
            Self::Memory { .. } | Self::DecompressorMemory | Self::Length { .. } | Self::Random => true,
            // a bad sector and a file cut short stay what they are
            Self::Read { cause, .. } => {
                cause.raw_os_error() != Some(libc::EIO) && cause.kind() != io::ErrorKind::UnexpectedEof
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_name_the_frame_and_the_offset() {
        let error = ImageError::Authentication { part: Part::Frame(7), offset: 1234 };
        assert_eq!(error.to_string(), "frame 7 at offset 1234 of the image fails authentication");
    }

    #[test]
    fn a_lack_of_memory_is_of_the_moment_and_a_bad_sector_is_not() {
        let read = |cause| ImageError::Read { part: Part::Index, offset: 0, length: 1, cause };
        assert!(ImageError::Memory { length: 1 }.is_of_the_moment());
        assert!(ImageError::DecompressorMemory.is_of_the_moment());
        assert!(read(io::Error::from_raw_os_error(libc::ENOMEM)).is_of_the_moment());
        assert!(!read(io::Error::from_raw_os_error(libc::EIO)).is_of_the_moment());
        assert!(!read(io::ErrorKind::UnexpectedEof.into()).is_of_the_moment());
        assert!(!ImageError::Authentication { part: Part::Index, offset: 0 }.is_of_the_moment());
        assert!(!ImageError::Checksum { frame: 0, offset: 0 }.is_of_the_moment());
    }
}
