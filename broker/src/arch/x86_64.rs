//! x86-64.

use memcr_filter::{Entry, allow, call};
use seccompiler::TargetArch;

/// The processor that a filter is for.
pub(crate) const TARGET: TargetArch = TargetArch::x86_64;

/// System calls that are allowed besides the common ones, and what for: here the C library uses older
/// calls, or names them otherwise.
pub(crate) const SYSTEM_CALLS: &[Entry] = &[
    allow(call!(SYS_epoll_wait), "the event loop waits"),
    allow(call!(SYS_poll), "whether the process behind a pidfd lives, and standard error is read"),
    allow(call!(SYS_newfstatat), "whether the name of our socket is still ours, before it is removed"),
];

/// uretprobe and uprobe: calls of code that the kernel itself has put into a program, which it shows to no filter
/// (kernel/seccomp.c) and refuses to all else.
#[cfg(test)]
pub(crate) const NEVER_SHOWN: &[i64] = &[335, 336];
