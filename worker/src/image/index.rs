//! The index: which memory the image holds, and where.
//!
//! An [`Index`] exists only if every rule of doc/image-format.md holds for it, whether it was read
//! from a file or is about to be written: both come through [`Parts::check`].

use super::checksum::{Digest, checksum};
use super::header::{HEADER_LENGTH, Header};
use super::{FRAME_LIMIT, ImageError, TAG_LENGTH};
use memcr_protocol::image::{Checksum, Compression};
use memcr_protocol::parasite::Range;

/// What an image holds, in full. Sizes are bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Frames.
    pub(crate) frames: u64,
    /// Pages, those of zeros included.
    pub(crate) pages: u64,
    /// Pages of zeros, which take no bytes in the file.
    pub(crate) zero_pages: u64,
    /// Memory in frames, before compression.
    pub(crate) plain: u64,
    /// Frames as they stand in the file.
    pub(crate) sealed: u64,
}

/// What a range of memory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Zeros.
    Zero,
    /// Part of a frame.
    Frame {
        /// Number of the frame.
        number: u32,
        /// Where in the frame's memory it begins, in bytes.
        position: u32,
    },
}

/// A range of memory, of whole pages and inside one guarded mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// First byte.
    pub(crate) address: u64,
    /// Length in bytes.
    pub(crate) length: u64,
    /// What it holds.
    pub(crate) content: Content,
}

/// Where a frame stands in the file. Lengths and offsets are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameEntry {
    offset: u64,
    sealed_length: u32,
    plain_length: u32,
    digest: Option<Digest>,
    /// Number of its extents and of those of all frames before it.
    extents_end: usize,
}

impl FrameEntry {
    /// An entry before it is checked and has its place.
    pub(super) fn new(sealed_length: u32, plain_length: u32, digest: Option<Digest>) -> Self {
        Self { offset: 0, sealed_length, plain_length, digest, extents_end: 0 }
    }

    /// Where it begins in the file.
    #[must_use]
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes it takes in the file.
    #[must_use]
    pub(crate) fn sealed_length(&self) -> u32 {
        self.sealed_length
    }

    /// Bytes of memory in it.
    #[must_use]
    pub(crate) fn plain_length(&self) -> u32 {
        self.plain_length
    }

    /// MD5 of the memory in it, in an image with checksums.
    #[must_use]
    pub(super) fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Whether it is not compressed.
    #[must_use]
    pub(crate) fn is_stored(&self) -> bool {
        u64::from(self.sealed_length) == u64::from(self.plain_length) + TAG_LENGTH as u64
    }
}

/// The index of an image. All of its rules are known to hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Index {
    page_size: u32,
    has_checksums: bool,
    totals: Totals,
    mappings: Vec<Range>,
    frames: Vec<FrameEntry>,
    extents: Vec<Extent>,
    /// Positions in `extents`, frame by frame, ascending within each.
    by_frame: Vec<u32>,
}

impl Index {
    /// What the image holds, in full.
    #[must_use]
    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// The mappings to be guarded, ascending and apart.
    #[must_use]
    pub(crate) fn mappings(&self) -> &[Range] {
        &self.mappings
    }

    /// The frames by their numbers.
    #[must_use]
    pub(crate) fn frames(&self) -> &[FrameEntry] {
        &self.frames
    }

    /// All memory in the image, ascending and apart.
    #[must_use]
    pub(crate) fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// The checksum of the memory in frames, in an image with checksums.
    #[must_use]
    pub(crate) fn checksum(&self) -> Option<Checksum> {
        let digests = self.frames.iter().filter_map(FrameEntry::digest);
        self.has_checksums.then(|| checksum(digests))
    }

    /// The memory that is all zeros, ascending.
    pub(crate) fn zeros(&self) -> impl Iterator<Item = Range> + '_ {
        let zeros = self.extents.iter().filter(|extent| extent.content == Content::Zero);
        zeros.map(|extent| Range { address: extent.address, length: extent.length })
    }

    /// The extents of a frame, ascending; none if there is no such frame.
    pub(crate) fn extents_of(&self, frame: u32) -> impl Iterator<Item = &Extent> {
        let frame = frame as usize;
        let end = self.frames.get(frame).map_or(0, |entry| entry.extents_end);
        let start = frame.checked_sub(1).and_then(|before| self.frames.get(before));
        let start = start.map_or(0, |entry| entry.extents_end);
        let positions = self.by_frame.get(start..end).unwrap_or_default();
        positions.iter().filter_map(|position| self.extents.get(*position as usize))
    }

    /// The pieces of a frame's memory (as `Image::read_frame` gives it) and the addresses where
    /// they belong.
    pub(crate) fn pieces<'a>(
        &'a self,
        frame: u32,
        memory: &'a [u8],
    ) -> impl Iterator<Item = (u64, &'a [u8])> {
        let mut rest = memory;
        self.extents_of(frame).map_while(move |extent| {
            let (piece, after) = rest.split_at_checked(usize::try_from(extent.length).ok()?)?;
            rest = after;
            Some((extent.address, piece))
        })
    }

    /// Size of the pages in bytes.
    #[must_use]
    pub(crate) fn page_size(&self) -> u32 {
        self.page_size
    }

    /// Where the last frame ends in the file.
    #[must_use]
    pub(crate) fn frames_end(&self) -> u64 {
        HEADER_LENGTH as u64 + self.totals.sealed
    }
}

/// An index of which nothing is known yet.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) mappings: Vec<Range>,
    /// By number.
    pub(super) frames: Vec<FrameEntry>,
    /// Ascending; positions in frames are still to be found.
    pub(super) extents: Vec<Extent>,
}

impl Parts {
    /// Checks every rule and finds the places of frames in the file and of extents in frames.
    pub(super) fn check(mut self, header: &Header) -> Result<Index, ImageError> {
        let page = u64::from(header.page_size());
        check_mappings(&self.mappings, page)?;
        let sealed = place_frames(&mut self.frames, header)?;
        let filled = self.place_extents(page)?;
        for ((number, entry), placed) in (0..).zip(&self.frames).zip(filled) {
            let plain = entry.plain_length;
            if placed != u64::from(plain) {
                return Err(ImageError::FrameContent { frame: number, placed, plain });
            }
        }
        let by_frame = self.order_by_frame()?;
        let Self { mappings, frames, extents } = self;
        let totals = totals(&extents, frames.len(), sealed, page);
        let (page_size, has_checksums) = (header.page_size(), header.has_checksums());
        Ok(Index { page_size, has_checksums, totals, mappings, frames, extents, by_frame })
    }

    /// Checks the extents and gives each its position in its frame: memory fills a frame in
    /// ascending order without gaps. Returns how far each frame is filled.
    fn place_extents(&mut self, page: u64) -> Result<Vec<u64>, ImageError> {
        let mut filled = vec![0_u64; self.frames.len()];
        let mut mappings = self.mappings.iter();
        let mut mapping = mappings.next();
        let mut before = 0;
        for extent in &mut self.extents {
            let Extent { address, length, .. } = *extent;
            let end = check_range(address, length, page)?;
            if address < before {
                return Err(ImageError::Overlap { what: "memory", address });
            }
            before = end;
            while mapping.is_some_and(|range| range.address + range.length <= address) {
                mapping = mappings.next();
            }
            if mapping.is_none_or(|range| address < range.address || range.address + range.length < end) {
                return Err(ImageError::OutsideMapping { address, length });
            }
            let Content::Frame { number, position } = &mut extent.content else { continue };
            let frames = filled.len();
            let place = filled.get_mut(*number as usize);
            let place = place.ok_or(ImageError::NoSuchFrame { frame: *number, frames })?;
            *position = u32::try_from(*place).unwrap_or(u32::MAX);
            *place = place.saturating_add(length);
        }
        Ok(filled)
    }

    /// Positions of the extents frame by frame, by counting.
    fn order_by_frame(&mut self) -> Result<Vec<u32>, ImageError> {
        let placed = |extent: &Extent| match extent.content {
            Content::Frame { number, .. } => Some(number as usize),
            Content::Zero => None,
        };
        for number in self.extents.iter().filter_map(placed) {
            if let Some(entry) = self.frames.get_mut(number) {
                entry.extents_end += 1;
            }
        }
        let mut sum = 0;
        for entry in &mut self.frames {
            let count = entry.extents_end;
            // where its first extent goes: moved on below to where its last one ends
            entry.extents_end = sum;
            sum += count;
        }
        let mut order = Vec::new();
        let length = sum.saturating_mul(size_of::<u32>());
        order.try_reserve_exact(sum).map_err(|_| ImageError::Memory { length })?;
        order.resize(sum, 0);
        for (position, extent) in (0..).zip(&self.extents) {
            let entry = placed(extent).and_then(|number| self.frames.get_mut(number));
            let Some(entry) = entry else { continue };
            if let Some(slot) = order.get_mut(entry.extents_end) {
                *slot = position;
            }
            entry.extents_end += 1;
        }
        Ok(order)
    }
}

fn check_mappings(mappings: &[Range], page: u64) -> Result<(), ImageError> {
    let mut before = 0;
    for mapping in mappings {
        let end = check_range(mapping.address, mapping.length, page)?;
        if mapping.address < before {
            return Err(ImageError::Overlap { what: "the mapping", address: mapping.address });
        }
        before = end;
    }
    Ok(())
}

/// Checks a range of memory by itself; returns its end.
fn check_range(address: u64, length: u64, page: u64) -> Result<u64, ImageError> {
    if length == 0 {
        return Err(ImageError::Empty { address });
    }
    if address % page != 0 || length % page != 0 {
        return Err(ImageError::Unaligned { address, length });
    }
    address.checked_add(length).ok_or(ImageError::BeyondAddressSpace { address, length })
}

/// Checks the lengths of frames and gives them their offsets: one after the other behind the
/// header. Returns the bytes they take together.
fn place_frames(frames: &mut [FrameEntry], header: &Header) -> Result<u64, ImageError> {
    let mut offset = HEADER_LENGTH as u64;
    for (number, entry) in (0..).zip(frames) {
        let plain = entry.plain_length;
        if plain == 0 || plain as usize > FRAME_LIMIT || plain % header.page_size() != 0 {
            return Err(ImageError::FramePlainLength { frame: number, length: plain.into() });
        }
        let sealed = u64::from(entry.sealed_length);
        let compressed = sealed > TAG_LENGTH as u64
            && sealed < u64::from(plain) + TAG_LENGTH as u64
            && header.compression() != Compression::None;
        if !compressed && !entry.is_stored() {
            return Err(ImageError::FrameSealedLength { frame: number, sealed, plain });
        }
        if entry.digest.is_some() != header.has_checksums() {
            return Err(ImageError::FrameForeign { frame: number });
        }
        entry.offset = offset;
        // can't overflow: 2^32 frames of at most 2^20 + 16 bytes
        offset += sealed;
    }
    Ok(offset - HEADER_LENGTH as u64)
}

fn totals(extents: &[Extent], frames: usize, sealed: u64, page: u64) -> Totals {
    let sum = |zero: bool| -> u64 {
        let chosen = extents.iter().filter(|extent| (extent.content == Content::Zero) == zero);
        chosen.map(|extent| extent.length).sum()
    };
    let (zero, plain) = (sum(true), sum(false));
    Totals { frames: frames as u64, pages: (zero + plain) / page, zero_pages: zero / page, plain, sealed }
}
