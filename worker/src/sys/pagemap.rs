//! The PAGEMAP_SCAN request on /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst; Linux 6.7).

use nix::errno::Errno;
use std::os::fd::{AsRawFd as _, BorrowedFd};

const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
/// The request number, also for the seccomp filter.
pub(crate) const PAGEMAP_SCAN: libc::Ioctl =
    nix::request_code_readwrite!(b'f', 16, size_of::<Arguments>()) as libc::Ioctl;

/// `struct pm_scan_arg`.
#[repr(C)]
struct Arguments {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    regions: u64,
    region_count: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_any_of: u64,
    return_mask: u64,
}

/// `struct page_region`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Region {
    /// First byte.
    pub(crate) start: u64,
    /// First byte behind it.
    pub(crate) end: u64,
    categories: u64,
}

/// Fills `regions` with ranges of pages that are in memory or swapped out; how many, and where to go
/// on (`end` when all is scanned).
pub(crate) fn scan(
    pagemap: BorrowedFd<'_>,
    start: u64,
    end: u64,
    regions: &mut [Region],
) -> Result<(usize, u64), Errno> {
    let mut arguments = Arguments {
        size: size_of::<Arguments>() as u64,
        flags: 0,
        start,
        end,
        walk_end: 0,
        regions: regions.as_mut_ptr() as u64,
        region_count: regions.len() as u64,
        max_pages: 0,
        category_inverted: 0,
        category_mask: 0,
        category_any_of: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        return_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
    };
    // SAFETY: the kernel writes the arguments and at most `region_count` regions
    let found = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut arguments) };
    let found = usize::try_from(Errno::result(found)?).unwrap_or(0);
    Ok((found, arguments.walk_end))
}
