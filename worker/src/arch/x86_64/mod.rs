//! x86_64 (kernel: arch/x86/include/uapi/asm/{ptrace,sigcontext,ucontext}.h).

mod gadget;
mod registers;
mod signal_frame;

pub(crate) use gadget::{SIGNAL_RETURNS, SYSTEM_CALL_INSTRUCTION, taken_until_return};
pub(crate) use registers::Registers;
pub(crate) use signal_frame::home_frame;

use seccompiler::TargetArch;

/// What seccomp filters are compiled for.
pub(crate) const SECCOMP_ARCHITECTURE: TargetArch = TargetArch::x86_64;

/// Register set of the floating-point and vector state: NT_X86_XSTATE (include/uapi/linux/elf.h).
pub(crate) const VECTOR_STATE: usize = 0x202;
/// Longest such set, in bytes; AMX tiles make it about 11 KiB.
pub(crate) const VECTOR_LIMIT: usize = 32 * 1024;

/// Bytes below the stack pointer that a function may use (System V ABI, the red zone).
pub(crate) const RED_ZONE: u64 = 128;
/// Boundary on which the kernel wants the vector state in a signal frame, in bytes.
pub(crate) const FRAME_ALIGNMENT: u64 = 64;

/// uretprobe and uprobe: calls of code that the kernel itself has put into a program, which it shows to no filter
/// (kernel/seccomp.c) and refuses to all else.
#[cfg(test)]
pub(crate) const NEVER_SHOWN: &[i64] = &[335, 336];
