//! `/proc/PID/pagemap`: which pages of a mapping are taken (kernel facts 25, 26 and 30).

use crate::error::{Error, Result};
use crate::sys::pagemap::{Region, scan};
use nix::errno::Errno;
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const FILE_OR_SHARED: u64 = 1 << 61;
const GUARD_REGION: u64 = 1 << 58;
const EXCLUSIVE: u64 = 1 << 56;

/// Bytes of one entry.
const ENTRY: u64 = 8;
/// Entries read at once.
const ENTRIES: usize = 8192;
/// Regions asked for at once.
const REGIONS: usize = 512;

/// Finds the pages to take.
pub(crate) struct PageMap<'a> {
    file: &'a File,
    page_size: u64,
    keep: &'a [Range<u64>],
}

impl<'a> PageMap<'a> {
    /// A page map from which the pages that touch `keep` are left out.
    pub(crate) fn new(file: &'a File, page_size: u64, keep: &'a [Range<u64>]) -> Self {
        Self { file, page_size, keep }
    }

    /// The runs of pages of such a kind in a range of memory, in order, each as long as can be.
    pub(crate) fn runs(&self, range: &Range<u64>, kind: Kind) -> Result<Vec<Range<u64>>> {
        let mut runs = Vec::new();
        let mut regions = vec![Region::default(); REGIONS];
        let mut position = range.start;
        while position < range.end {
            match scan(self.file.as_fd(), position, range.end, &mut regions) {
                Ok((found, next)) => {
                    for region in regions.iter().take(found) {
                        self.filter(region.start..region.end, kind, &mut runs)?;
                    }
                    position = next.max(position + self.page_size);
                }
                // before Linux 6.7: look at every page
                Err(Errno::ENOTTY | Errno::EINVAL) => {
                    self.filter(position..range.end, kind, &mut runs)?;
                    position = range.end;
                }
                Err(cause) => return Err(failed(cause)),
            }
        }
        Ok(runs)
    }

    /// Adds the pages of a range that are of this kind.
    fn filter(&self, range: Range<u64>, kind: Kind, runs: &mut Vec<Range<u64>>) -> Result<()> {
        let mut buffer = vec![0; ENTRIES * 8];
        let mut address = range.start;
        while address < range.end {
            let pages = ((range.end - address) / self.page_size).min(ENTRIES as u64);
            let length = usize::try_from(pages * ENTRY).unwrap_or(0);
            let bytes = buffer.get_mut(..length).unwrap_or_default();
            self.file
                .read_exact_at(bytes, address / self.page_size * ENTRY)
                .map_err(|error| failed(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)))?;
            for entry in bytes.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok()) {
                if kind.holds(u64::from_ne_bytes(entry)) && !self.is_kept(address) {
                    push(runs, address..address + self.page_size);
                }
                address += self.page_size;
            }
        }
        Ok(())
    }

    fn is_kept(&self, address: u64) -> bool {
        self.keep.iter().any(|keep| keep.start < address + self.page_size && address < keep.end)
    }
}

/// Which pages are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Those that are dumped and freed: anonymous ones of the process alone. What is shared copy-on-write
    /// with another process would come back as a private copy and free nothing meanwhile.
    Own,
    /// Those that belong to a file: they come back from there.
    OfFile,
}

impl Kind {
    fn holds(self, entry: u64) -> bool {
        match self {
            Self::Own => {
                let exclusive = entry & PRESENT != 0 && entry & EXCLUSIVE != 0;
                let swapped = entry & SWAPPED != 0 && entry & GUARD_REGION == 0;
                entry & FILE_OR_SHARED == 0 && (exclusive || swapped)
            }
            Self::OfFile => entry & PRESENT != 0 && entry & FILE_OR_SHARED != 0,
        }
    }
}

/// Adds a page, to the last run if it follows it.
fn push(runs: &mut Vec<Range<u64>>, page: Range<u64>) {
    match runs.last_mut() {
        Some(last) if last.end == page.start => last.end = page.end,
        _ => runs.push(page),
    }
}

fn failed(cause: Errno) -> Error {
    Error::System { operation: "reading", object: "the target's page map".into(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_process_alone_are_taken() {
        let is_taken = |entry| Kind::Own.holds(entry);
        assert!(is_taken(PRESENT | EXCLUSIVE));
        assert!(is_taken(SWAPPED));
        assert!(!is_taken(PRESENT));
        assert!(!is_taken(PRESENT | EXCLUSIVE | FILE_OR_SHARED));
        assert!(!is_taken(SWAPPED | GUARD_REGION));
        assert!(!is_taken(0));
    }

    #[test]
    fn a_page_of_a_file_that_the_process_has_changed_is_not_the_files_any_more() {
        assert!(Kind::OfFile.holds(PRESENT | FILE_OR_SHARED));
        assert!(!Kind::OfFile.holds(PRESENT | EXCLUSIVE));
        assert!(!Kind::OfFile.holds(SWAPPED | FILE_OR_SHARED));
    }

    #[test]
    fn pages_that_follow_each_other_make_one_run() {
        let mut runs = Vec::new();
        for page in [1_u64, 2, 4] {
            push(&mut runs, page * 4096..(page + 1) * 4096);
        }
        assert_eq!(runs, [4096..12288, 16384..20480]);
    }
}
