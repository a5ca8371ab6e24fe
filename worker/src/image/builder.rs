//! Putting an index together from what several threads have written.

use super::index::{Content, Extent, FrameEntry, Index, Parts};
use super::{Header, ImageError, WrittenFrame};
use memcr_protocol::parasite::Range;

/// Collects mappings, frames and zeros, in any order.
#[derive(Default)]
pub(crate) struct IndexBuilder {
    mappings: Vec<Range>,
    frames: Vec<WrittenFrame>,
    zeros: Vec<Range>,
}

impl IndexBuilder {
    /// An index of nothing.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A mapping that is registered with the guard. All memory in the image must be inside one.
    pub(crate) fn add_mapping(&mut self, mapping: Range) {
        self.mappings.push(mapping);
    }

    /// A frame that was written.
    pub(crate) fn add_frame(&mut self, frame: WrittenFrame) {
        self.frames.push(frame);
    }

    /// Memory inside one mapping that is all zeros.
    pub(crate) fn add_zero(&mut self, zero: Range) {
        self.zeros.push(zero);
    }

    /// The index, every rule of it checked. Ranges that lie side by side and belong together are
    /// made one.
    pub(super) fn build(mut self, header: &Header) -> Result<Index, ImageError> {
        self.mappings.sort_unstable_by_key(|mapping| mapping.address);
        self.frames.sort_unstable_by_key(|frame| frame.number);
        let mut parts = Parts { mappings: self.mappings, ..Parts::default() };
        for (number, frame) in (0..).zip(&self.frames) {
            if frame.number > number {
                return Err(ImageError::FrameMissing { frame: number });
            }
            if frame.number < number {
                return Err(ImageError::FrameForeign { frame: frame.number });
            }
            parts.frames.push(FrameEntry::new(frame.sealed_length, frame.plain_length, frame.digest));
            let content = Content::Frame { number, position: 0 };
            parts.extents.extend(frame.runs.iter().map(|run| extent(*run, content)));
        }
        parts.extents.extend(self.zeros.iter().map(|zero| extent(*zero, Content::Zero)));
        parts.extents.sort_unstable_by_key(|extent| extent.address);
        merge(&mut parts.extents, &parts.mappings);
        parts.check(header)
    }
}

fn extent(range: Range, content: Content) -> Extent {
    Extent { address: range.address, length: range.length, content }
}

/// Makes one of neighbours that hold zeros, or memory of the same frame (which is side by side in
/// the frame too, as it was gathered in ascending order), unless a mapping begins between them.
fn merge(extents: &mut Vec<Extent>, mappings: &[Range]) {
    extents.dedup_by(|next, last| {
        let joined = last.content == next.content
            && last.address.checked_add(last.length) == Some(next.address)
            && mappings.binary_search_by_key(&next.address, |mapping| mapping.address).is_err();
        if joined {
            last.length = last.length.saturating_add(next.length);
        }
        joined
    });
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn range(page: u64, pages: u64) -> Range {
        Range { address: page * 1024, length: pages * 1024 }
    }

    fn frame(number: u32, runs: &[Range]) -> WrittenFrame {
        let plain_length = runs.iter().map(|run| run.length as u32).sum();
        WrittenFrame { number, sealed_length: 40, plain_length, digest: None, runs: runs.to_vec() }
    }

    fn builder(mappings: &[Range], frames: Vec<WrittenFrame>, zeros: &[Range]) -> IndexBuilder {
        IndexBuilder { mappings: mappings.to_vec(), frames, zeros: zeros.to_vec() }
    }

    fn refusal(mappings: &[Range], frames: Vec<WrittenFrame>, zeros: &[Range]) -> ImageError {
        builder(mappings, frames, zeros).build(&sample::header()).unwrap_err()
    }

    #[test]
    fn what_comes_in_any_order_is_sorted() {
        let frames = vec![frame(1, &[range(40, 1)]), frame(0, &[range(41, 1), range(50, 2)])];
        let builder = builder(&[range(40, 40), range(0, 10)], frames, &[range(45, 1), range(3, 1)]);
        let index = builder.build(&sample::header()).unwrap();
        assert_eq!(index.mappings(), [range(0, 10), range(40, 40)]);
        let addresses: Vec<u64> = index.extents().iter().map(|extent| extent.address / 1024).collect();
        assert_eq!(addresses, [3, 40, 41, 45, 50]);
        let second = index.extents_of(0).last().unwrap();
        assert_eq!(second.content, Content::Frame { number: 0, position: 1024 });
    }

    #[test]
    fn neighbours_are_merged_but_not_across_the_beginning_of_a_mapping() {
        let frames = vec![frame(0, &[range(0, 2), range(2, 2), range(4, 2)])];
        let zeros = [range(6, 1), range(7, 1), range(8, 1), range(9, 1)];
        let index = builder(&[range(0, 4), range(4, 4), range(8, 4)], frames, &zeros);
        let index = index.build(&sample::header()).unwrap();
        let ranges: Vec<_> = index.extents().iter().map(|e| (e.address / 1024, e.length / 1024)).collect();
        assert_eq!(ranges, [(0, 4), (4, 2), (6, 2), (8, 2)]);
    }

    #[test]
    fn frames_that_lack_or_come_twice_are_refused() {
        let all = [range(0, 100)];
        let one = || frame(1, &[range(1, 1)]);
        assert!(matches!(refusal(&all, vec![one()], &[]), ImageError::FrameMissing { frame: 0 }));
        let twice = vec![frame(0, &[range(0, 1)]), one(), one()];
        assert!(matches!(refusal(&all, twice, &[]), ImageError::FrameForeign { frame: 1 }));
    }

    #[test]
    fn ranges_that_break_a_rule_are_refused() {
        let all = [range(0, 100)];
        let odd = Range { address: 1024, length: 1000 };
        let last = Range { address: u64::MAX - 1023, length: 1024 };
        assert!(matches!(refusal(&[odd], vec![], &[]), ImageError::Unaligned { .. }));
        assert!(matches!(refusal(&all, vec![], &[odd]), ImageError::Unaligned { .. }));
        assert!(matches!(refusal(&all, vec![], &[range(5, 0)]), ImageError::Empty { address: 5120 }));
        assert!(matches!(refusal(&[last], vec![], &[]), ImageError::BeyondAddressSpace { .. }));
        let both = refusal(&[range(0, 2), range(1, 2)], vec![], &[]);
        assert!(matches!(both, ImageError::Overlap { what: "the mapping", address: 1024 }));
        let twice = refusal(&all, vec![frame(0, &[range(3, 2)])], &[range(4, 1)]);
        assert!(matches!(twice, ImageError::Overlap { what: "memory", address: 4096 }));
        let outside = refusal(&all, vec![], &[range(100, 1)]);
        assert!(matches!(outside, ImageError::OutsideMapping { .. }));
    }
}
