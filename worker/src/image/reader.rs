//! Reading an image: header and index are authenticated when it is opened, each frame when it is
//! read. What fails is read once more, from the medium if the kernel can be moved to that.

use super::checksum::{Digest, checksum};
use super::header::{HEADER_LENGTH, Header};
use super::index::FrameEntry;
use super::read_buffer::Opened;
use super::sealer::{Kind, Sealer};
use super::{
    INDEX_LIMIT, ImageError, ImageFile, Index, Key, Part, ReadBuffer, TAG_LENGTH, TRAILER_LENGTH, trailer,
};
use memcr_protocol::image::Checksum;
use std::sync::OnceLock;

/// An image whose header and index are genuine. Threads share it by reference.
pub(crate) struct Image<F> {
    file: F,
    header: Header,
    sealer: Sealer,
    index: Index,
    /// Of the memory of the frames as they were read, in an image with checksums.
    digests: Vec<OnceLock<Digest>>,
}

impl<F: ImageFile> Image<F> {
    /// Opens a finished image. No frame is read yet.
    ///
    /// # Errors
    /// Any [`ImageError`] that says what is wrong with it.
    pub(crate) fn open(file: F, key: &Key) -> Result<Self, ImageError> {
        let opened = open_once(&file, key).or_else(|_| {
            file.drop_cache(0, file.length().unwrap_or(0));
            open_once(&file, key)
        });
        let (header, sealer, index) = opened?;
        let digests = index.frames().iter().filter(|_| header.has_checksums()).map(|_| OnceLock::new());
        let digests = digests.collect();
        Ok(Self { file, header, sealer, index, digests })
    }

    /// The header: the caller compares its target with the process at hand.
    #[must_use]
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// The index.
    #[must_use]
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// The sealer, for locking its key into memory.
    #[must_use]
    pub(crate) fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// The checksum of all memory in frames, made anew from what was read: known once every frame was, if the
    /// image has checksums.
    #[must_use]
    pub(crate) fn checksum(&self) -> Option<Checksum> {
        let digests: Option<Vec<Digest>> = self.digests.iter().map(|digest| digest.get().copied()).collect();
        digests.filter(|_| self.header.has_checksums()).map(checksum)
    }

    /// The memory in a frame: `Index::pieces` says where it belongs. It is known to be genuine.
    ///
    /// # Errors
    /// [`ImageError::NoSuchFrame`]; after the second attempt [`ImageError::Read`],
    /// [`ImageError::Authentication`], [`ImageError::Decompress`], [`ImageError::DecompressorMemory`] or
    /// [`ImageError::Checksum`].
    pub(crate) fn read_frame<'b>(
        &self,
        number: u32,
        buffer: &'b mut ReadBuffer,
    ) -> Result<&'b [u8], ImageError> {
        let frames = self.index.frames();
        let entry = frames.get(number as usize);
        let entry = entry.ok_or(ImageError::NoSuchFrame { frame: number, frames: frames.len() })?;
        let opened = self.read_frame_once(number, entry, buffer).or_else(|_| {
            self.file.drop_cache(entry.offset(), entry.sealed_length().into());
            self.read_frame_once(number, entry, buffer)
        });
        let opened = opened?;
        if let Some((slot, digest)) = self.digests.get(number as usize).zip(opened.digest) {
            // a frame that is read again gives the same one
            let _ = slot.set(digest);
        }
        Ok(buffer.memory(&opened, entry))
    }

    fn read_frame_once(
        &self,
        number: u32,
        entry: &FrameEntry,
        buffer: &mut ReadBuffer,
    ) -> Result<Opened, ImageError> {
        read(&self.file, Part::Frame(number), buffer.sealed(entry), entry.offset())?;
        buffer.open(number, entry, &self.sealer, &self.header)
    }
}

fn open_once<F: ImageFile>(file: &F, key: &Key) -> Result<(Header, Sealer, Index), ImageError> {
    let length = file.length().map_err(|cause| ImageError::Length { cause })?;
    let least = (HEADER_LENGTH + TAG_LENGTH + TRAILER_LENGTH) as u64;
    if length < least {
        return Err(ImageError::TooShort { length, least });
    }
    let mut bytes = [0; HEADER_LENGTH];
    read(file, Part::Header, &mut bytes, 0)?;
    let header = Header::decode(&bytes)?;
    let sealer = Sealer::new(key, &header)?;

    let end = length - TRAILER_LENGTH as u64;
    let mut bytes = [0; TRAILER_LENGTH];
    read(file, Part::Trailer, &mut bytes, end)?;
    let index_length = trailer::open(&sealer, &mut bytes, end)?;
    let index = read_index(file, &header, &sealer, end, index_length)?;
    Ok((header, sealer, index))
}

/// Reads the index, which takes the `length` bytes before `end`.
fn read_index<F: ImageFile>(
    file: &F,
    header: &Header,
    sealer: &Sealer,
    end: u64,
    length: u64,
) -> Result<Index, ImageError> {
    let room = end.saturating_sub(HEADER_LENGTH as u64).min((INDEX_LIMIT + TAG_LENGTH) as u64);
    let reserved = usize::try_from(length).ok().filter(|_| length <= room);
    let reserved = reserved.ok_or(ImageError::IndexLength { length, room })?;
    let mut sealed = Vec::new();
    sealed.try_reserve_exact(reserved).map_err(|_| ImageError::Memory { length: reserved })?;
    sealed.resize(reserved, 0);
    let offset = end - length;
    read(file, Part::Index, &mut sealed, offset)?;
    let index = Index::decode(sealer.open(Kind::Index, &mut sealed, offset)?, header)?;
    match index.frames_end() {
        frames_end if frames_end == offset => Ok(index),
        frames_end => Err(ImageError::FramesEnd { end: frames_end, index: offset }),
    }
}

fn read<F: ImageFile>(file: &F, part: Part, bytes: &mut [u8], offset: u64) -> Result<(), ImageError> {
    let length = bytes.len();
    let filled = file.read_exact_at(bytes, offset);
    filled.map_err(|cause| ImageError::Read { part, offset, length, cause })
}
