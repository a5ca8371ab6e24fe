//! x86-64.

use super::reason::{LOOK, MEMORY, NAME, PRIVATE_MEMORY, WAIT};
use memcr_filter::{Entry, allow, allow_if, call};

/// System calls that are allowed besides the common ones, and what for: here the C library uses older
/// calls, or names them otherwise.
pub(crate) const SYSTEM_CALLS: &[Entry] = &[
    allow_if(call!(SYS_mmap), "", PRIVATE_MEMORY, MEMORY),
    allow(call!(SYS_epoll_wait), WAIT),
    allow(call!(SYS_poll), LOOK),
    allow(call!(SYS_newfstatat), NAME),
];
/// The same where the audit log can be opened anew.
pub(crate) const REOPEN_CALLS: &[Entry] = &[];

/// uretprobe and uprobe: calls of code that the kernel itself has put into a program, which it shows to no filter
/// (kernel/seccomp.c) and refuses to all else.
#[cfg(test)]
pub(crate) const NEVER_SHOWN: &[i64] = &[335, 336];
