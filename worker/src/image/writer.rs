//! Writing an image: header, frames by several threads at a time, index, trailer.

use super::header::{HEADER_LENGTH, Header};
use super::sealer::{Kind, Sealer};
use super::{FrameBuffer, ImageError, ImageFile, Index, IndexBuilder, Key, Part, WrittenFrame, trailer};
use std::sync::{Mutex, PoisonError};

/// An image that is being written. Threads share it by reference.
///
/// It hands out each frame number once, and with it the nonce and the place in the file. After any
/// error the image can't be finished: a frame would be missing.
pub(crate) struct ImageWriter<F> {
    file: F,
    header: Header,
    sealer: Sealer,
    next: Mutex<Next>,
}

/// Number and offset of the next frame.
struct Next {
    number: u32,
    offset: u64,
}

impl<F: ImageFile> ImageWriter<F> {
    /// Begins an image in an empty file.
    ///
    /// # Errors
    /// [`ImageError::NotEmpty`], [`ImageError::Length`], [`ImageError::Write`],
    /// [`ImageError::Seal`].
    pub(crate) fn create(file: F, key: &Key, header: Header) -> Result<Self, ImageError> {
        let length = file.length().map_err(|cause| ImageError::Length { cause })?;
        if length != 0 {
            return Err(ImageError::NotEmpty { length });
        }
        let sealer = Sealer::new(key, &header)?;
        let next = Mutex::new(Next { number: 0, offset: HEADER_LENGTH as u64 });
        let writer = Self { file, header, sealer, next };
        writer.write(Part::Header, &writer.header.encode(), 0)?;
        Ok(writer)
    }

    /// The sealer, for locking its key into memory.
    #[must_use]
    pub(crate) fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// Compresses, seals and writes what the buffer has gathered; the buffer is empty afterwards,
    /// but for zeros not yet taken.
    ///
    /// # Errors
    /// [`ImageError::FrameEmpty`], [`ImageError::TooManyFrames`], [`ImageError::Seal`],
    /// [`ImageError::Write`].
    pub(crate) fn write_frame(&self, buffer: &mut FrameBuffer) -> Result<WrittenFrame, ImageError> {
        let packed = buffer.pack(&self.header)?;
        let (number, offset) = self.reserve(packed.sealed_length())?;
        let (frame, sealed) = buffer.seal(&packed, &self.sealer, number)?;
        self.write(Part::Frame(number), sealed, offset)?;
        Ok(frame)
    }

    /// Writes index and trailer. Returns the index and the length of the whole file in bytes.
    ///
    /// # Errors
    /// [`ImageError::FrameMissing`] or [`ImageError::FrameForeign`] if the index doesn't list
    /// exactly the frames written here, the errors of a rule that it breaks, [`ImageError::Write`].
    pub(crate) fn finish(self, index: IndexBuilder) -> Result<(Index, u64), ImageError> {
        let index = index.build(&self.header)?;
        let offset = self.check_frames(&index)?;
        let mut sealed = index.encode()?;
        let tag = self.sealer.seal(Kind::Index, &mut sealed)?;
        sealed.extend_from_slice(&tag);
        self.write(Part::Index, &sealed, offset)?;
        let end = offset + sealed.len() as u64;
        let trailer = trailer::seal(&self.sealer, sealed.len() as u64)?;
        self.write(Part::Trailer, &trailer, end)?;
        Ok((index, end + trailer.len() as u64))
    }

    /// Takes the next number and the place for a frame of this length. Both ascend together, so
    /// that lengths alone say where each frame stands.
    fn reserve(&self, sealed_length: u32) -> Result<(u32, u64), ImageError> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, offset) = (next.number, next.offset);
        next.number = number.checked_add(1).ok_or(ImageError::TooManyFrames { limit: u32::MAX })?;
        next.offset = offset + u64::from(sealed_length);
        Ok((number, offset))
    }

    /// Whether the index lists exactly the frames written; returns where they end.
    fn check_frames(&self, index: &Index) -> Result<u64, ImageError> {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = u32::try_from(index.frames().len()).unwrap_or(u32::MAX);
        if listed < next.number {
            return Err(ImageError::FrameMissing { frame: listed });
        }
        if listed > next.number {
            return Err(ImageError::FrameForeign { frame: next.number });
        }
        if index.frames_end() != next.offset {
            return Err(ImageError::FramesEnd { end: index.frames_end(), index: next.offset });
        }
        Ok(next.offset)
    }

    fn write(&self, part: Part, bytes: &[u8], offset: u64) -> Result<(), ImageError> {
        let written = self.file.write_all_at(bytes, offset);
        written.map_err(|cause| ImageError::Write { part, offset, length: bytes.len(), cause })
    }
}
