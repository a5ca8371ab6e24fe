//! System calls that 32-bit ARM has under other names: where offsets or times have 64 bits, or ids more than 16.

use crate::arch::reason::{MEMORY_REASON, PRIVATE_MEMORY, READ_AGAIN_REASON, RESTART_REASON, STATUS_REASON};
use crate::sys::ptrace::PTRACE_GET_SYSCALL_INFO;
use libc::c_long;
use memcr_filter::Condition::{Is, Tracee, Whole};
use memcr_filter::{Call, Entry, allow, allow_if, bits, call};

/// Calls that the crate `libc` has no constants for (arch/arm/tools/syscall.tbl; arch/arm/include/uapi/asm/unistd.h).
const fn named(constant: &'static str, number: i64) -> Call {
    Call { constant, number }
}
const CLOCK_GETTIME: Call = named("SYS_clock_gettime64", 403);
const CLOCK_NANOSLEEP: c_long = 407;
const PSELECT_NUMBER: c_long = 413;
const PPOLL_NUMBER: c_long = 414;
const PPOLL: Call = named("SYS_ppoll_time64", PPOLL_NUMBER as i64);
const FUTEX_NUMBER: c_long = 422;
const FUTEX: Call = named("SYS_futex_time64", FUTEX_NUMBER as i64);
const SET_TLS: Call = named("SYS_arm_set_tls", 0x000f_0005);

/// A request of ptrace(2) that only this architecture has.
pub(super) const PTRACE_SET_SYSCALL: libc::c_uint = 23;
pub(super) const PTRACE_GET_THREAD_AREA: libc::c_uint = 22;

/// Calls that may go on through the restart block.
pub(in crate::arch) const TIMED_CALLS: &[c_long] = &[
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    CLOCK_NANOSLEEP,
    libc::SYS_futex,
    FUTEX_NUMBER,
    libc::SYS_poll,
    libc::SYS_restart_syscall,
];

/// Calls that do nothing but wait, besides those that are everywhere.
pub(in crate::arch) const WAITS: &[c_long] = &[
    CLOCK_NANOSLEEP,
    PPOLL_NUMBER,
    PSELECT_NUMBER,
    libc::SYS_poll,
    libc::SYS__newselect,
    libc::SYS_epoll_wait,
    libc::SYS_pause,
    libc::SYS_sigsuspend,
];

/// The number of mmap(2), whose last argument counts pages.
pub(crate) const MMAP: c_long = libc::SYS_mmap2;

/// System calls that are allowed besides the common ones.
pub(crate) const SYSTEM_CALLS: &[Entry] = &[
    allow_if(call!(SYS_mmap2), "", PRIVATE_MEMORY, MEMORY_REASON),
    allow_if(call!(SYS_arm_fadvise64_64), "", &[Is(1, bits(libc::POSIX_FADV_DONTNEED))], READ_AGAIN_REASON),
    allow(call!(SYS__llseek), "smaps and status are read again from their start"),
    allow(PPOLL, "waits"),
    allow(FUTEX, "threads of our own"),
    allow(CLOCK_GETTIME, "times, where the vDSO can't tell them"),
    allow(SET_TLS, "threads of our own"),
    allow_if(
        call!(SYS_fcntl64),
        "F_DUPFD_CLOEXEC",
        &[Is(1, bits(libc::F_DUPFD_CLOEXEC))],
        "each thread has its own end of a pipe; a socket is looked at by a copy",
    ),
    #[cfg(debug_assertions)]
    allow_if(
        call!(SYS_fcntl64),
        "F_GETFD",
        &[Is(1, bits(libc::F_GETFD))],
        "debug builds only: the standard library's check before closing",
    ),
    allow_if(
        call!(SYS_ptrace),
        "PTRACE_SET_SYSCALL",
        &[Whole(0, PTRACE_SET_SYSCALL as u64), Tracee(1)],
        "a call that goes on through the restart block",
    ),
];
/// The same for the launcher.
pub(crate) const LAUNCHER_CALLS: &[Entry] = &[
    allow_if(
        call!(SYS_ptrace),
        "PTRACE_GET_THREAD_AREA",
        &[Whole(0, PTRACE_GET_THREAD_AREA as u64), Tracee(1)],
        "where the rseq area may be, on kernels that don't tell",
    ),
    allow(call!(SYS_fstatat64), STATUS_REASON),
    allow(call!(SYS_fstat64), STATUS_REASON),
    allow(call!(SYS_geteuid32), "whether an image is ours"),
    allow_if(
        call!(SYS_ugetrlimit),
        "RLIMIT_FSIZE",
        &[Is(0, libc::RLIMIT_FSIZE)],
        "confining a worker: the limit can only be lowered",
    ),
    allow_if(
        call!(SYS_setrlimit),
        "RLIMIT_FSIZE",
        &[Is(0, libc::RLIMIT_FSIZE)],
        "confining a worker: the limit can only be lowered",
    ),
    allow_if(
        call!(SYS_fcntl64),
        "F_GETFL",
        &[Is(1, bits(libc::F_GETFL))],
        "the C library looks at a descriptor before it lists a directory",
    ),
    allow_if(
        call!(SYS_fcntl64),
        "F_SETFD",
        &[Is(1, bits(libc::F_SETFD)), Is(2, bits(libc::FD_CLOEXEC))],
        "the C library marks it close-on-exec, as it is already",
    ),
    allow_if(
        call!(SYS_ptrace),
        "PTRACE_GET_SYSCALL_INFO",
        &[Whole(0, PTRACE_GET_SYSCALL_INFO as u64), Tracee(1)],
        RESTART_REASON,
    ),
];

/// All calls are shown to filters.
#[cfg(test)]
pub(crate) const NEVER_SHOWN: &[i64] = &[];
