//! x86_64 (kernel: arch/x86/include/uapi/asm/{ptrace,sigcontext,ucontext}.h).

mod gadget;
mod registers;
mod signal_frame;

use super::reason::{MEMORY_REASON, PRIVATE_MEMORY, READ_AGAIN_REASON, STATUS_REASON};
use libc::c_long;
use memcr_filter::Condition::Is;
use memcr_filter::{Entry, allow, allow_if, bits, call};
use nix::errno::Errno;
use nix::unistd::Pid;

pub(crate) use gadget::{CODE_ALIGNMENT, SIGNAL_RETURNS, system_call_at, way_out};
pub(crate) use registers::{General, Registers};
pub(crate) use signal_frame::home_frame;

/// Register sets of the floating-point and vector state: NT_X86_XSTATE, and NT_PRFPREG for processors without extended
/// states (include/uapi/linux/elf.h).
pub(crate) const VECTOR_STATES: &[&[usize]] = &[&[EXTENDED_STATE, OLD_STATE]];
const OLD_STATE: usize = 2;
const EXTENDED_STATE: usize = 0x202;
/// Longest such set, in bytes; AMX tiles make it about 11 KiB.
pub(crate) const VECTOR_LIMIT: usize = 32 * 1024;

/// Bytes below the stack pointer that a function may use (System V ABI, the red zone).
pub(crate) const RED_ZONE: u64 = 128;
/// Boundary on which the kernel wants the vector state in a signal frame, in bytes.
pub(crate) const FRAME_ALIGNMENT: u64 = 64;

/// Calls that do nothing but wait, besides those that are everywhere.
pub(super) const WAITS: &[c_long] =
    &[libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_wait, libc::SYS_pause];

/// How many of the bytes that were read are such a set: all.
pub(crate) fn vector_state_length(_kind: usize, bytes: &[u8]) -> Option<usize> {
    Some(bytes.len())
}

/// Whether registers show the arguments of a call to who stops a thread at its entry.
pub(crate) const SHOWS_ENTERED_CALL: bool = true;

/// Whether registers tell a thread on its way out of a system call from one that rt_sigreturn has put there.
pub(crate) const TELLS_ENDED_CALL: bool = true;

/// What the thread pointer of a stopped thread points to: the C library's own data of it.
#[allow(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
pub(crate) fn thread_pointer(_tid: Pid, registers: &Registers) -> Option<u64> {
    Some(registers.general.fs_base)
}

/// Has the kernel take a stopped thread for one that is in this call, or in none: here the registers say that.
#[allow(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
pub(crate) fn set_call(_tid: Pid, _number: Option<c_long>) -> Result<(), Errno> {
    Ok(())
}

/// The number of mmap(2).
pub(crate) const MMAP: c_long = libc::SYS_mmap;

/// System calls that are allowed besides the common ones: here they have these names.
pub(crate) const SYSTEM_CALLS: &[Entry] = &[
    allow_if(call!(SYS_mmap), "", PRIVATE_MEMORY, MEMORY_REASON),
    allow_if(call!(SYS_fadvise64), "", &[Is(3, bits(libc::POSIX_FADV_DONTNEED))], READ_AGAIN_REASON),
];
/// The same for the launcher.
pub(crate) const LAUNCHER_CALLS: &[Entry] = &[allow(call!(SYS_newfstatat), STATUS_REASON)];

/// uretprobe and uprobe: calls of code that the kernel itself has put into a program, which it shows to no filter
/// (kernel/seccomp.c) and refuses to all else.
#[cfg(test)]
pub(crate) const NEVER_SHOWN: &[i64] = &[335, 336];
