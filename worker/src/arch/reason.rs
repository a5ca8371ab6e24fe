//! What entries say that each architecture has under another name.

use memcr_filter::Condition::{self, Has, Lacks, Within};
use memcr_filter::bits;

/// Memory that is of nobody else and of no file, read and written, never executed: arguments of mmap(2).
pub(super) const PRIVATE_MEMORY: &[Condition] = &[
    Within(2, bits(libc::PROT_READ | libc::PROT_WRITE)),
    Has(3, bits(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)),
    Lacks(3, bits(libc::MAP_SHARED)),
];
pub(super) const MEMORY_REASON: &str = "memory of our own, never of a file, never executable";
pub(super) const READ_AGAIN_REASON: &str = "a frame that fails authentication is read again from the disk";
pub(super) const STATUS_REASON: &str = "the image; files and descriptors of processes in /proc";
#[allow(dead_code, reason = "not every architecture needs it")]
pub(super) const RESTART_REASON: &str = "whether a call goes on through the restart block";
