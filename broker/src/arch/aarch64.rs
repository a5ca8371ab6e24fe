//! 64-bit ARM.

use super::reason::{LOOK, MEMORY, NAME, PRIVATE_MEMORY, WAIT};
use memcr_filter::{Entry, allow, allow_if, call};

/// System calls that are allowed besides the common ones: here the C library has newer ones only.
pub(crate) const SYSTEM_CALLS: &[Entry] = &[
    allow_if(call!(SYS_mmap), "", PRIVATE_MEMORY, MEMORY),
    allow(call!(SYS_epoll_pwait), WAIT),
    allow(call!(SYS_ppoll), LOOK),
    allow(call!(SYS_newfstatat), NAME),
];
/// The same where the audit log can be opened anew.
pub(crate) const REOPEN_CALLS: &[Entry] = &[];

/// All calls are shown to filters.
#[cfg(test)]
pub(crate) const NEVER_SHOWN: &[i64] = &[];
