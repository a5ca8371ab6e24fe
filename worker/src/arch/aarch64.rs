//! 64-bit ARM (kernel: arch/arm64/include/uapi/asm/{ptrace,sigcontext,ucontext}.h).

mod signal_frame;

pub(crate) use super::rewinding::Registers;
pub(crate) use signal_frame::{home_frame, vector_state_length};

use super::reason::{MEMORY_REASON, PRIVATE_MEMORY, READ_AGAIN_REASON, RESTART_REASON, STATUS_REASON};
use super::rewinding::Set;
use super::{CallInstruction, WayOut};
use crate::sys::ptrace::{PTRACE_GET_SYSCALL_INFO, register_set, set_register_set};
use libc::c_long;
use memcr_filter::Condition::{Is, Tracee, Whole};
use memcr_filter::{Entry, allow, allow_if, bits, call};
use nix::errno::Errno;
use nix::unistd::Pid;

/// `struct user_pt_regs`, the set NT_PRSTATUS: x0 to x30, sp, pc, pstate.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct General([u64; 34]);

/// Where in it the number of a call is, the return address, and the last three.
const X8: usize = 8;
const X30: usize = 30;
const SP: usize = 31;
const PC: usize = 32;
const PSTATE: usize = 33;

/// What must be clear for code of ours: the kind of the last branch (BTYPE), single-stepping.
const UNWANTED_STATE: u64 = 0xc00 | 1 << 21;

impl Set for General {
    const ZERO: Self = Self([0; 34]);
    const RESTARTS_BY_ENTRY: bool = false;

    fn number(&self) -> c_long {
        self.0[X8] as i64
    }

    fn set_number(&mut self, number: c_long) {
        self.0[X8] = number as u64;
    }

    fn result(&self) -> i64 {
        self.0[0] as i64
    }

    fn set_result(&mut self, result: i64) {
        self.0[0] = result as u64;
    }

    fn first_argument(&self) -> u64 {
        self.0[0]
    }

    fn set_arguments(&mut self, arguments: [u64; 6]) {
        self.0.iter_mut().zip(arguments).for_each(|(register, argument)| *register = argument);
    }

    fn argument_before(&self) -> Option<u64> {
        None
    }

    fn instruction_pointer(&self) -> u64 {
        self.0[PC]
    }

    fn go_to(&mut self, address: u64) {
        self.0[PC] = address;
    }

    fn move_by(&mut self, bytes: i64) {
        self.0[PC] = self.0[PC].wrapping_add_signed(bytes);
    }

    fn stack_pointer(&self) -> u64 {
        self.0[SP]
    }

    fn set_stack_pointer(&mut self, address: u64) {
        self.0[SP] = address;
    }

    fn set_return_address(&mut self, address: u64) {
        self.0[X30] = address;
    }

    fn mode(&self) -> u64 {
        0
    }

    fn clear_state(&mut self) {
        self.0[PSTATE] &= !UNWANTED_STATE;
    }
}

/// Calls that may go on through the restart block.
pub(super) const TIMED_CALLS: &[c_long] =
    &[libc::SYS_nanosleep, libc::SYS_clock_nanosleep, libc::SYS_futex, libc::SYS_restart_syscall];

/// Calls that do nothing but wait, besides those that are everywhere.
pub(super) const WAITS: &[c_long] = &[];

/// Instructions begin on such boundaries, in bytes.
pub(crate) const CODE_ALIGNMENT: usize = 4;

/// `svc #0`, if code begins with it.
pub(crate) fn system_call_at(code: &[u8]) -> Option<CallInstruction> {
    code.starts_with(&[0x01, 0x00, 0x00, 0xd4]).then_some(CallInstruction { length: 4, mode: 0 })
}

/// How the code behind it returns: at once, by x30.
pub(crate) fn way_out(code: &[u8], _mode: u64) -> Option<WayOut> {
    code.starts_with(&[0xc0, 0x03, 0x5f, 0xd6]).then_some(WayOut { taken: 0, address_at: None })
}

/// `mov x8, #139; svc #0`: rt_sigreturn, as the vDSO has it.
pub(crate) const SIGNAL_RETURNS: &[&[u8]] = &[&[0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4]];

/// NT_ARM_SSVE, NT_ARM_SVE, NT_PRFPREG; NT_ARM_FPMR (include/uapi/linux/elf.h). The first is in use in the streaming mode (SME), which system
/// calls end; whoever begins or ends it loses the last. What else that extension has (ZA) they leave alone.
pub(crate) const VECTOR_STATES: &[&[usize]] = &[&[STREAMING_SVE, SVE, OLD_STATE], &[FP_MODE]];
const FP_MODE: usize = 0x40e;
const STREAMING_SVE: usize = 0x40b;
const SVE: usize = 0x405;
const OLD_STATE: usize = 2;
/// Longest such set, in bytes: vectors of 256 bytes each.
pub(crate) const VECTOR_LIMIT: usize = 16 * 1024;

/// The calling convention leaves nothing below the stack pointer.
pub(crate) const RED_ZONE: u64 = 0;
/// Boundary on which rt_sigreturn wants the stack pointer, in bytes.
pub(crate) const FRAME_ALIGNMENT: u64 = 16;

/// NT_ARM_SYSTEM_CALL.
const SYSTEM_CALL: usize = 0x404;

/// Whether registers show the arguments of a call to who stops a thread at its entry.
pub(crate) const SHOWS_ENTERED_CALL: bool = true;

/// Whether registers tell a thread on its way out of a system call from one that rt_sigreturn has put there.
pub(crate) const TELLS_ENDED_CALL: bool = false;

/// NT_ARM_TLS.
const THREAD_POINTER: usize = 0x401;

/// What the thread pointer of a stopped thread points to: the C library's own data of it.
pub(crate) fn thread_pointer(tid: Pid, _registers: &Registers) -> Option<u64> {
    let bytes = register_set(tid, THREAD_POINTER, 16).ok()?;
    bytes.first_chunk().map(|word| u64::from_le_bytes(*word))
}

/// Has the kernel take a stopped thread for one that is in this call, or in none.
pub(crate) fn set_call(tid: Pid, number: Option<c_long>) -> Result<(), Errno> {
    let number = number.and_then(|number| i32::try_from(number).ok()).unwrap_or(-1);
    set_register_set(tid, SYSTEM_CALL, &number.to_ne_bytes())
}

/// The number of mmap(2).
pub(crate) const MMAP: c_long = libc::SYS_mmap;

/// System calls that are allowed besides the common ones: here they have these names.
pub(crate) const SYSTEM_CALLS: &[Entry] = &[
    allow_if(call!(SYS_mmap), "", PRIVATE_MEMORY, MEMORY_REASON),
    allow_if(call!(SYS_fadvise64), "", &[Is(3, bits(libc::POSIX_FADV_DONTNEED))], READ_AGAIN_REASON),
];
/// The same for the launcher.
pub(crate) const LAUNCHER_CALLS: &[Entry] = &[
    allow(call!(SYS_newfstatat), STATUS_REASON),
    allow_if(
        call!(SYS_ptrace),
        "PTRACE_GET_SYSCALL_INFO",
        &[Whole(0, PTRACE_GET_SYSCALL_INFO as u64), Tracee(1)],
        RESTART_REASON,
    ),
    allow_if(
        call!(SYS_ptrace),
        "PTRACE_SETSIGINFO",
        &[Whole(0, libc::PTRACE_SETSIGINFO as u64), Tracee(1)],
        "the first argument of a call that is to begin anew",
    ),
];

/// All calls are shown to filters.
#[cfg(test)]
pub(crate) const NEVER_SHOWN: &[i64] = &[];
