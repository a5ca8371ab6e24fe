//! The index as bytes: totals and counts of fixed size, then lists of variable-length numbers.
//!
//! Addresses are distances in pages from the end of the range before, so that most ranges take
//! three or four bytes and none can be out of order.

use super::ImageError;
use super::checksum::Digest;
use super::encoding::{Fields, put_number};
use super::header::Header;
use super::index::{Content, Extent, FrameEntry, Index, Parts, Totals};
use memcr_protocol::parasite::Range;

/// Bytes of an index at most, before it is sealed.
pub(crate) const INDEX_LIMIT: usize = 256 << 20;

impl Index {
    /// The bytes of the index; each index has exactly one encoding.
    ///
    /// # Errors
    /// [`ImageError::IndexTooLong`] beyond [`INDEX_LIMIT`].
    pub(crate) fn encode(&self) -> Result<Vec<u8>, ImageError> {
        let page = u64::from(self.page_size());
        let Totals { frames, pages, zero_pages, plain, sealed } = self.totals();
        let (mappings, extents) = (self.mappings().len() as u64, self.extents().len() as u64);
        let mut bytes = Vec::new();
        for field in [frames, pages, zero_pages, plain, sealed, mappings, extents] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        let mut before = 0;
        for mapping in self.mappings() {
            put_range(&mut bytes, &mut before, mapping.address, mapping.length, page);
        }
        for frame in self.frames() {
            put_number(&mut bytes, u64::from(frame.plain_length()) / page);
            put_number(&mut bytes, frame.sealed_length().into());
            bytes.extend(frame.digest().iter().flatten());
        }
        before = 0;
        for extent in self.extents() {
            put_range(&mut bytes, &mut before, extent.address, extent.length, page);
            put_number(
                &mut bytes,
                match extent.content {
                    Content::Zero => 0,
                    Content::Frame { number, .. } => u64::from(number) + 1,
                },
            );
        }
        match bytes.len() {
            length if length > INDEX_LIMIT => Err(ImageError::IndexTooLong { length, limit: INDEX_LIMIT }),
            _ => Ok(bytes),
        }
    }

    /// The index that these bytes encode, every rule of it checked.
    ///
    /// # Errors
    /// An [`ImageError`] for each way in which they can be wrong.
    pub(crate) fn decode(bytes: &[u8], header: &Header) -> Result<Self, ImageError> {
        let mut decoder = Decoder {
            fields: Fields::new(bytes),
            page: header.page_size().into(),
            has_checksums: header.has_checksums(),
        };
        let said = Totals {
            frames: decoder.fixed()?,
            pages: decoder.fixed()?,
            zero_pages: decoder.fixed()?,
            plain: decoder.fixed()?,
            sealed: decoder.fixed()?,
        };
        let (mappings, extents) = (decoder.fixed()?, decoder.fixed()?);
        let mut before = 0;
        let least = if header.has_checksums() { 2 + size_of::<Digest>() } else { 2 };
        let parts = Parts {
            mappings: decoder.list("mappings", mappings, 2, |decoder| decoder.range(&mut before))?,
            frames: decoder.list("frames", said.frames, least, Decoder::frame)?,
            extents: {
                before = 0;
                decoder.list("extents", extents, 3, |decoder| decoder.extent(&mut before))?
            },
        };
        match decoder.fields.left() {
            0 => {}
            left => return Err(ImageError::IndexLeftOver { left }),
        }
        let index = parts.check(header)?;
        compare(said, index.totals())?;
        Ok(index)
    }
}

fn put_range(bytes: &mut Vec<u8>, before: &mut u64, address: u64, length: u64, page: u64) {
    put_number(bytes, address.saturating_sub(*before) / page);
    put_number(bytes, length / page);
    *before = address.saturating_add(length);
}

fn compare(said: Totals, found: Totals) -> Result<(), ImageError> {
    let pairs = [
        ("pages", said.pages, found.pages),
        ("pages of zeros", said.zero_pages, found.zero_pages),
        ("bytes of memory in frames", said.plain, found.plain),
        ("bytes of frames", said.sealed, found.sealed),
    ];
    match pairs.into_iter().find(|(_, said, found)| said != found) {
        Some((what, said, found)) => Err(ImageError::Totals { what, said, found }),
        None => Ok(()),
    }
}

struct Decoder<'a> {
    fields: Fields<'a>,
    page: u64,
    has_checksums: bool,
}

impl Decoder<'_> {
    fn fixed(&mut self) -> Result<u64, ImageError> {
        self.fields.take().map(u64::from_le_bytes).ok_or_else(|| self.malformed())
    }

    fn number(&mut self) -> Result<u64, ImageError> {
        self.fields.number().ok_or_else(|| self.malformed())
    }

    fn malformed(&self) -> ImageError {
        ImageError::IndexMalformed { position: self.fields.position() }
    }

    /// A list of `count` items of at least `least` bytes each: memory is reserved only for as many
    /// as can be there.
    fn list<T>(
        &mut self,
        what: &'static str,
        count: u64,
        least: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, ImageError>,
    ) -> Result<Vec<T>, ImageError> {
        let left = self.fields.left();
        let fitting = usize::try_from(count).ok().filter(|count| *count <= left / least);
        let fitting = fitting.ok_or(ImageError::IndexCount { what, count, left })?;
        let mut list = Vec::new();
        let length = fitting.saturating_mul(size_of::<T>());
        list.try_reserve_exact(fitting).map_err(|_| ImageError::Memory { length })?;
        for _ in 0..fitting {
            list.push(item(self)?);
        }
        Ok(list)
    }

    /// A range, in pages: how far behind `before` it begins, and its length.
    fn range(&mut self, before: &mut u64) -> Result<Range, ImageError> {
        let gap = self.number()?;
        let pages = self.number()?;
        let distance = gap.checked_mul(self.page);
        let address = distance.and_then(|distance| before.checked_add(distance));
        let length = pages.checked_mul(self.page);
        let end = address.zip(length).and_then(|(address, length)| address.checked_add(length));
        match (address, length, end) {
            (Some(address), Some(length), Some(end)) => {
                *before = end;
                Ok(Range { address, length })
            }
            _ => Err(ImageError::BeyondAddressSpace {
                address: address.unwrap_or(*before),
                length: length.unwrap_or(u64::MAX),
            }),
        }
    }

    fn frame(&mut self) -> Result<FrameEntry, ImageError> {
        let pages = self.number()?;
        let sealed = self.number()?;
        let digest = match self.has_checksums {
            true => Some(self.fields.take().ok_or_else(|| self.malformed())?),
            false => None,
        };
        let plain = pages.checked_mul(self.page).and_then(|plain| u32::try_from(plain).ok());
        match (plain, u32::try_from(sealed)) {
            (Some(plain), Ok(sealed)) => Ok(FrameEntry::new(sealed, plain, digest)),
            _ => Err(self.malformed()),
        }
    }

    fn extent(&mut self, before: &mut u64) -> Result<Extent, ImageError> {
        let Range { address, length } = self.range(before)?;
        let content = match self.number()?.checked_sub(1).map(u32::try_from) {
            None => Content::Zero,
            Some(Ok(number)) => Content::Frame { number, position: 0 },
            Some(Err(_)) => return Err(self.malformed()),
        };
        Ok(Extent { address, length, content })
    }
}

#[cfg(test)]
mod tests {
    use super::super::checksum::checksum;
    use super::super::sample;
    use super::*;
    use memcr_protocol::image::{Cipher, Compression};
    use proptest::prelude::*;

    /// An index of two mappings, two frames and three extents, its numbers in this order: totals
    /// and counts; mappings; frames; extents.
    fn fixed() -> [u64; 7] {
        [2, 8, 3, 5 * 1024, 3 * 1024 + 16 + 100, 2, 3]
    }
    const LISTS: [u64; 17] = [4, 4, 0, 6, 3, 3 * 1024 + 16, 2, 100, 4, 3, 1, 1, 3, 0, 0, 2, 2];

    fn bytes(fixed: &[u64; 7], lists: &[u64]) -> Vec<u8> {
        let mut bytes: Vec<u8> = fixed.iter().flat_map(|field| field.to_le_bytes()).collect();
        for number in lists {
            put_number(&mut bytes, *number);
        }
        bytes
    }

    fn decode(fixed: &[u64; 7], lists: &[u64]) -> Result<Index, ImageError> {
        Index::decode(&bytes(fixed, lists), &sample::header())
    }

    /// The error when one number of the lists is replaced.
    fn altered(position: usize, value: u64) -> ImageError {
        let mut lists = LISTS;
        lists[position] = value;
        decode(&fixed(), &lists).unwrap_err()
    }

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        let index = decode(&fixed(), &LISTS).unwrap();
        let range = |page: u64, pages: u64| Range { address: page * 1024, length: pages * 1024 };
        assert_eq!(index.mappings(), [range(4, 4), range(8, 6)]);
        let offsets: Vec<u64> = index.frames().iter().map(FrameEntry::offset).collect();
        assert_eq!(offsets, [80, 80 + 3 * 1024 + 16]);
        assert_eq!(index.frames_end(), 80 + 3 * 1024 + 16 + 100);
        let contents: Vec<_> = index.extents().iter().map(|e| (e.address / 1024, e.content)).collect();
        let frame = |number| Content::Frame { number, position: 0 };
        assert_eq!(contents, [(4, frame(0)), (8, Content::Zero), (11, frame(1))]);
        assert_eq!(index.encode().unwrap(), bytes(&fixed(), &LISTS));
    }

    #[test]
    fn each_broken_rule_has_its_own_error() {
        assert!(matches!(altered(1, 0), ImageError::Empty { address: 4096 }));
        assert!(matches!(altered(0, u64::MAX), ImageError::BeyondAddressSpace { .. }));
        assert!(matches!(altered(1, u64::MAX / 1024), ImageError::BeyondAddressSpace { .. }));
        assert!(matches!(altered(4, 0), ImageError::FramePlainLength { frame: 0, length: 0 }));
        assert!(matches!(altered(4, 1025), ImageError::FramePlainLength { frame: 0, length: 1_049_600 }));
        assert!(matches!(altered(4, u64::MAX), ImageError::IndexMalformed { .. }));
        assert!(matches!(altered(5, 3 * 1024 + 17), ImageError::FrameSealedLength { frame: 0, .. }));
        assert!(matches!(altered(7, 16), ImageError::FrameSealedLength { frame: 1, .. }));
        assert!(matches!(altered(7, 1 << 32), ImageError::IndexMalformed { .. }));
        assert!(matches!(altered(8, 3), ImageError::OutsideMapping { address: 3072, .. }));
        assert!(matches!(altered(9, 5), ImageError::OutsideMapping { address: 4096, length: 5120 }));
        assert!(matches!(altered(11, 9), ImageError::OutsideMapping { .. }));
        assert!(matches!(altered(12, 0), ImageError::Empty { .. }));
        assert!(matches!(altered(10, 3), ImageError::NoSuchFrame { frame: 2, frames: 2 }));
        assert!(matches!(altered(10, u64::MAX), ImageError::IndexMalformed { .. }));
        assert!(matches!(altered(10, 2), ImageError::FrameContent { frame: 0, placed: 0, plain: 3072 }));
        assert!(matches!(altered(15, 1), ImageError::FrameContent { frame: 1, placed: 1024, .. }));
        assert!(matches!(altered(13, 1), ImageError::FrameContent { frame: 0, placed: 6144, .. }));
    }

    #[test]
    fn totals_that_disagree_are_refused() {
        for (field, what) in [(1, "pages"), (2, "pages of zeros"), (3, "memory"), (4, "bytes of frames")] {
            let mut wrong = fixed();
            wrong[field] += 1;
            match decode(&wrong, &LISTS).unwrap_err() {
                ImageError::Totals { what: named, .. } => assert!(named.contains(what), "{named}"),
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn counts_that_cannot_be_true_reserve_nothing() {
        for field in [0, 5, 6] {
            for lie in [1 << 20, 1 << 40, u64::MAX] {
                let mut wrong = fixed();
                wrong[field] = lie;
                let error = decode(&wrong, &LISTS).unwrap_err();
                assert!(matches!(error, ImageError::IndexCount { count, .. } if count == lie), "{error}");
            }
        }
    }

    #[test]
    fn bytes_that_lack_or_are_left_over_are_refused() {
        let whole = bytes(&fixed(), &LISTS);
        for length in 0..whole.len() {
            assert!(Index::decode(&whole[..length], &sample::header()).is_err(), "{length}");
        }
        let longer = [&whole[..], &[0]].concat();
        let error = Index::decode(&longer, &sample::header()).unwrap_err();
        assert!(matches!(error, ImageError::IndexLeftOver { left: 1 }));
    }

    #[test]
    fn a_compressed_frame_has_no_place_in_an_image_without_compression() {
        let error = Index::decode(&bytes(&fixed(), &LISTS), &sample::stored_header()).unwrap_err();
        assert!(matches!(error, ImageError::FrameSealedLength { frame: 1, .. }));
    }

    #[test]
    fn the_checksum_of_a_frame_stands_behind_its_lengths_and_only_if_the_header_says_so() {
        let header = sample::header_of(Cipher::default(), Compression::Lz4, true);
        let fixed_part = bytes(&fixed(), &LISTS[..4]);
        let numbers = |numbers: &[u64]| bytes(&fixed(), numbers)[56..].to_vec();
        let frames = [numbers(&LISTS[4..6]), vec![0x11; 16], numbers(&LISTS[6..8]), vec![0x22; 16]].concat();
        let whole = [fixed_part, frames, numbers(&LISTS[8..])].concat();
        let index = Index::decode(&whole, &header).unwrap();
        let digests: Vec<_> = index.frames().iter().map(FrameEntry::digest).collect();
        assert_eq!(digests, [Some([0x11; 16]), Some([0x22; 16])]);
        assert_eq!(index.checksum(), Some(checksum([[0x11; 16], [0x22; 16]])));
        assert_eq!(index.encode().unwrap(), whole);
        for length in 0..whole.len() {
            assert!(Index::decode(&whole[..length], &header).is_err(), "{length}");
        }
        assert!(Index::decode(&whole, &sample::header()).is_err());
        assert!(Index::decode(&bytes(&fixed(), &LISTS), &header).is_err());
        assert_eq!(decode(&fixed(), &LISTS).unwrap().checksum(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_those_accepted_encode_to_themselves(
            alterations in proptest::collection::vec((0_usize..100, any::<u8>()), 0..4),
            tail in proptest::collection::vec(any::<u8>(), 0..8),
            has_checksums: bool,
        ) {
            let header = sample::header_of(Cipher::default(), Compression::Lz4, has_checksums);
            let mut bytes = bytes(&fixed(), &LISTS);
            for (position, value) in alterations {
                bytes.get_mut(position).into_iter().for_each(|byte| *byte = value);
            }
            bytes.extend(tail);
            if let Ok(index) = Index::decode(&bytes, &header) {
                prop_assert_eq!(index.encode().unwrap(), bytes);
            }
        }
    }
}
