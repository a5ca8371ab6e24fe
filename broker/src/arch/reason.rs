//! What entries say that each architecture has under another name.

use memcr_filter::Condition::{self, Has, Lacks, Within};
use memcr_filter::bits;

/// Memory that is of nobody else and of no file, read and written, never executed: arguments of mmap(2).
pub(super) const PRIVATE_MEMORY: &[Condition] = &[
    Within(2, bits(libc::PROT_READ | libc::PROT_WRITE)),
    Has(3, bits(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)),
    Lacks(3, bits(libc::MAP_SHARED)),
];
pub(super) const MEMORY: &str = "memory, never of a file, never executable";
pub(super) const WAIT: &str = "the event loop waits";
pub(super) const LOOK: &str = "whether the process behind a pidfd lives, and standard error is read";
pub(super) const NAME: &str = "whether the name of our socket is still ours, before it is removed";
