//! Where the parasite goes: an address chosen by us, so that it is known to the launcher before
//! anything is there.

use crate::sys::memory::read_remote;
use crate::target::mappings::Mapping;
use crate::trace::blob::BLOB;
use memcr_protocol::parasite::BUFFER_LENGTH;
use nix::unistd::Pid;

/// Bytes of the parasite's stack.
const STACK_LENGTH: u64 = 16 * 1024;
/// Room for the signal frame that leads home: the vector state and some more.
const FRAME_LENGTH: u64 = crate::arch::VECTOR_LIMIT as u64 + 4096;

/// Bytes that a gap must have to spare whose neighbours may grow into it.
const FAR: u64 = 64 << 20;

/// The parasite's memory: code, then what it reads and writes. All in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// First byte.
    pub(crate) address: u64,
    /// Length of the code, in whole pages.
    pub(crate) code_length: u64,
    /// Length of all, in whole pages.
    pub(crate) length: u64,
    page_size: u64,
}

impl Place {
    /// A free place between the target's mappings; `None` if there is none.
    pub(crate) fn find(mappings: &[Mapping], page_size: u64) -> Option<Self> {
        let code_length = (BLOB.len() as u64).next_multiple_of(page_size);
        let mut place = Self { address: 0, code_length, length: 0, page_size };
        place.length = (place.stack_end_offset() + code_length).next_multiple_of(page_size);
        // a page is left free on both sides, so that the kernel joins it with no neighbour
        let needed = place.length + 2 * page_size;
        let gap = |pair: &[Mapping]| match pair {
            [below, above] if above.leaves_room_before_kernel() => {
                let length = above.start.checked_sub(below.end).filter(|gap| *gap >= needed)?;
                Some((above.start, length, below.leaves_room_above() && above.leaves_room_below()))
            }
            _ => None,
        };
        let quiet = mappings.windows(2).rev().filter_map(gap).find(|&(_, _, is_quiet)| is_quiet);
        let end = match quiet {
            Some((end, _, _)) => end - page_size,
            // between a heap and a stack that may grow, halfway in the widest gap: neither comes as far in the moment
            // that a dead worker's successor needs
            None => {
                let (end, length, _) =
                    mappings.windows(2).filter_map(gap).max_by_key(|&(_, length, _)| length)?;
                let spare = length.checked_sub(place.length).filter(|spare| *spare >= FAR)?;
                end - (spare / 2).next_multiple_of(page_size)
            }
        };
        place.address = end - place.length;
        Some(place)
    }

    /// Where the start block is, on a page boundary.
    pub(crate) fn memory(&self) -> u64 {
        self.address + self.code_length
    }

    /// Where the packet buffer is.
    pub(crate) fn buffer(&self) -> u64 {
        self.memory() + self.page_size
    }

    /// Where the signal frame is that leads home.
    pub(crate) fn frame(&self) -> u64 {
        self.memory() + self.frame_offset()
    }

    /// The end of all, where its stack begins.
    pub(crate) fn end(&self) -> u64 {
        self.address + self.length
    }

    fn frame_offset(&self) -> u64 {
        (self.page_size + BUFFER_LENGTH as u64).next_multiple_of(self.page_size)
    }

    fn stack_end_offset(&self) -> u64 {
        (self.frame_offset() + FRAME_LENGTH).next_multiple_of(self.page_size) + STACK_LENGTH
    }

    /// What a successor would have to remove.
    pub(crate) fn debris(&self) -> (u64, u64) {
        (self.address, self.length)
    }
}

/// Whether the memory that a dead worker left there is still there, and ours: the code, as far as it was
/// written, in a mapping that begins where it was put.
pub(crate) fn is_ours(tid: Pid, (address, length): (u64, u64), mappings: &[Mapping]) -> bool {
    let found = mappings.iter().find(|mapping| mapping.start == address);
    let Some(mapping) = found.filter(|mapping| mapping.is_anonymous_code() && mapping.length() <= length)
    else {
        return false;
    };
    let mut bytes = vec![0; BLOB.len().min(usize::try_from(mapping.length()).unwrap_or(0))];
    let read = read_remote(tid, address, &mut bytes).unwrap_or(0);
    read == bytes.len() && bytes.iter().zip(BLOB).all(|(&there, &ours)| there == ours || there == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::memory::page_size;
    use crate::target::mappings::parse;

    fn find(text: &str) -> Option<u64> {
        Place::find(&parse(text), page_size()).map(|place| place.address)
    }

    #[test]
    fn a_gap_is_taken_into_which_nothing_grows() {
        let place = find(
            "1000-2000 r-xp 0 00:00 0 \n100000-200000 r--p 0 00:00 0 \n200000-300000 rw-p 0 00:00 0 [heap]\n\
             7f0000000000-7f0000001000 rw-p 0 00:00 0 \n",
        );
        assert!(place.is_some_and(|address| (0x3000..0xff000).contains(&address)), "{place:x?}");
    }

    #[test]
    fn between_what_may_grow_it_keeps_far_from_both() {
        let place = find(
            "400000-500000 r-xp 0 00:00 0 \n500000-600000 rw-p 0 00:00 0 [heap]\n\
             7ffffffde000-7ffffffff000 rw-p 0 00:00 0 [stack]\n\
             ffffffffff600000-ffffffffff601000 --xp 0 00:00 0 [vsyscall]\n",
        );
        let address = place.unwrap();
        assert!(address > 0x60_0000 + FAR / 2 && address < 0x7fff_fffd_e000 - FAR / 2, "{address:x}");
        assert_eq!(address % page_size(), 0);
    }

    #[test]
    fn without_room_there_is_none() {
        let text = "400000-500000 rw-p 0 00:00 0 [heap]\n1000000-1001000 rw-p 0 00:00 0 [stack]\n";
        assert_eq!(find(text), None);
        assert_eq!(find("400000-500000 r-xp 0 00:00 0 \n501000-502000 r--p 0 00:00 0 \n"), None);
    }
}
