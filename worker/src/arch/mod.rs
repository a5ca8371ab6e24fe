//! What differs between architectures: registers, system calls, restart state, signal frames.
//!
//! No other module names a register, a system call number that isn't everywhere, or an instruction. Each architecture
//! has a module with the same few things:
//!
//! - `Registers`: what a stopped thread is about to do, and how it is made to do something else;
//! - `system_call_at`, `way_out`, `SIGNAL_RETURNS`: code of the target's own that calls of ours go through;
//! - `home_frame`: the signal frame by which a thread becomes what it was;
//! - `VECTOR_STATES`: the register sets that hold the floating-point and vector state, each with others in whose place it is;
//! - `SYSTEM_CALLS`, `LAUNCHER_CALLS`: what our own processes may call under names that not every architecture has.

mod reason;

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
use x86_64 as here;
#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
use aarch64 as here;
#[cfg(target_arch = "arm")]
mod arm;
#[cfg(target_arch = "arm")]
use arm as here;
#[cfg(target_arch = "riscv64")]
mod riscv64;
#[cfg(target_arch = "riscv64")]
use riscv64 as here;

/// Kernels that go back to the system call instruction before anybody sees the thread.
#[cfg(any(target_arch = "aarch64", target_arch = "arm", target_arch = "riscv64"))]
mod rewinding;

#[cfg(test)]
pub(crate) use here::NEVER_SHOWN;
pub(crate) use here::{
    CODE_ALIGNMENT, FRAME_ALIGNMENT, General, LAUNCHER_CALLS, MMAP, RED_ZONE, Registers, SHOWS_ENTERED_CALL,
    SIGNAL_RETURNS, SYSTEM_CALLS, TELLS_ENDED_CALL, VECTOR_LIMIT, VECTOR_STATES, home_frame, set_call,
    system_call_at, thread_pointer, vector_state_length, way_out,
};

/// Calls that do nothing but wait, everywhere.
const WAITS: [libc::c_long; 8] = [
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_rt_sigsuspend,
    libc::SYS_restart_syscall,
];

/// Whether a call does nothing but wait: it may as well be made while job control has stopped its process.
pub(crate) fn only_waits(call: libc::c_long) -> bool {
    WAITS.contains(&call) || here::WAITS.contains(&call)
}

/// The instruction that enters the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallInstruction {
    /// Its length in bytes.
    pub(crate) length: usize,
    /// What is added to its address, where that also says how the code is to be read.
    pub(crate) mode: u64,
}

/// How the code behind a system call instruction goes on by itself: to an address that it finds on the stack or, if there
/// is none, in the register of return addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WayOut {
    /// Bytes that are off the stack then.
    pub(crate) taken: u64,
    /// Where in these the address is, in bytes.
    pub(crate) address_at: Option<u64>,
}

/// What a thread finds that nobody stops behind a system call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Departure {
    /// Its stack pointer.
    pub(crate) stack: u64,
    /// Code that calls rt_sigreturn.
    pub(crate) signal_return: u64,
}

/// The floating-point and vector state of a thread: register sets (their kinds: include/uapi/linux/elf.h), as the kernel
/// has them.
#[derive(Clone)]
pub(crate) struct VectorState(pub(crate) Vec<(usize, Vec<u8>)>);

impl VectorState {
    /// A set of it, if it is part of it.
    pub(crate) fn set(&self, kind: usize) -> Option<&[u8]> {
        self.0.iter().find(|set| set.0 == kind).map(|set| set.1.as_slice())
    }
}
