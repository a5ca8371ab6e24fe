//! 32-bit ARM: calls have other names where offsets or times have 64 bits.

use super::reason::{LOOK, MEMORY, NAME, PRIVATE_MEMORY, WAIT};
use memcr_filter::Condition::Is;
use memcr_filter::{Call, Entry, allow, allow_if, bits, call};

/// Calls that the crate `libc` has no constants for (arch/arm/tools/syscall.tbl).
const CLOCK_GETTIME: Call = Call { constant: "SYS_clock_gettime64", number: 403 };
const PPOLL: Call = Call { constant: "SYS_ppoll_time64", number: 414 };
const FUTEX: Call = Call { constant: "SYS_futex_time64", number: 422 };

/// System calls that are allowed besides the common ones.
pub(crate) const SYSTEM_CALLS: &[Entry] = &[
    allow_if(call!(SYS_mmap2), "", PRIVATE_MEMORY, MEMORY),
    allow(call!(SYS_epoll_wait), WAIT),
    allow(call!(SYS_poll), LOOK),
    allow(PPOLL, LOOK),
    allow(call!(SYS_fstatat64), NAME),
    allow(call!(SYS_statx), NAME),
    allow(FUTEX, "wake the thread that closes, and its waiting"),
    allow(CLOCK_GETTIME, "times, where the vDSO can't tell them"),
    allow_if(
        call!(SYS_fcntl64),
        "F_DUPFD_CLOEXEC",
        &[Is(1, bits(libc::F_DUPFD_CLOEXEC))],
        "a client's socket for launcher and worker",
    ),
    #[cfg(debug_assertions)]
    allow_if(
        call!(SYS_fcntl64),
        "F_GETFD",
        &[Is(1, bits(libc::F_GETFD))],
        "debug builds only: the standard library's check before closing",
    ),
];
/// The same where the audit log can be opened anew.
pub(crate) const REOPEN_CALLS: &[Entry] = &[
    allow(call!(SYS_fstat64), "whether what was opened is nobody else's"),
    allow_if(
        call!(SYS_fcntl64),
        "F_OFD_SETLK",
        &[Is(1, bits(libc::F_OFD_SETLK))],
        "that nobody else goes on in the new file: two would make one chain of two",
    ),
];

/// All calls are shown to filters.
#[cfg(test)]
pub(crate) const NEVER_SHOWN: &[i64] = &[];
