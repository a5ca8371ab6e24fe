//! What differs between architectures: registers, system calls, restart state, signal frames.
//!
//! No other module names a register, a system call number that isn't everywhere, or an instruction.

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) use x86_64::NEVER_SHOWN;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{
    FRAME_ALIGNMENT, RED_ZONE, Registers, SECCOMP_ARCHITECTURE, SIGNAL_RETURNS, SYSTEM_CALL_INSTRUCTION,
    VECTOR_LIMIT, VECTOR_STATE, home_frame, taken_until_return,
};
