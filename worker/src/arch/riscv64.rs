//! 64-bit RISC-V (kernel: arch/riscv/include/uapi/asm/{ptrace,sigcontext,ucontext}.h).

mod signal_frame;

pub(crate) use super::rewinding::Registers;
pub(crate) use signal_frame::home_frame;

use super::reason::{MEMORY_REASON, PRIVATE_MEMORY, READ_AGAIN_REASON, STATUS_REASON};
use super::rewinding::Set;
use super::{CallInstruction, WayOut};
use crate::sys::ptrace::PTRACE_GET_SYSCALL_INFO;
use libc::c_long;
use memcr_filter::Condition::{Is, Tracee, Whole};
use memcr_filter::{Entry, allow, allow_if, bits, call};
use nix::errno::Errno;
use nix::unistd::Pid;

/// `struct user_regs_struct`, the set NT_PRSTATUS: pc in the place of x0, then x1 to x31.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct General([u64; 32]);

const PC: usize = 0;
const RA: usize = 1;
const SP: usize = 2;
const TP: usize = 4;
const A0: usize = 10;
const A7: usize = 17;

impl Set for General {
    const ZERO: Self = Self([0; 32]);
    const RESTARTS_BY_ENTRY: bool = false;

    fn number(&self) -> c_long {
        self.0[A7] as i64
    }

    fn set_number(&mut self, number: c_long) {
        self.0[A7] = number as u64;
    }

    fn result(&self) -> i64 {
        self.0[A0] as i64
    }

    fn set_result(&mut self, result: i64) {
        self.0[A0] = result as u64;
    }

    fn first_argument(&self) -> u64 {
        self.0[A0]
    }

    fn set_arguments(&mut self, arguments: [u64; 6]) {
        self.0[A0..].iter_mut().zip(arguments).for_each(|(register, argument)| *register = argument);
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
        self.0[RA] = address;
    }

    fn mode(&self) -> u64 {
        0
    }

    fn clear_state(&mut self) {}
}

/// Calls that may go on through the restart block.
pub(super) const TIMED_CALLS: &[c_long] =
    &[libc::SYS_nanosleep, libc::SYS_clock_nanosleep, libc::SYS_futex, libc::SYS_restart_syscall];

/// Calls that do nothing but wait, besides those that are everywhere.
pub(super) const WAITS: &[c_long] = &[];

/// Instructions begin on such boundaries, in bytes.
pub(crate) const CODE_ALIGNMENT: usize = 2;

/// `ecall`, if code begins with it.
pub(crate) fn system_call_at(code: &[u8]) -> Option<CallInstruction> {
    code.starts_with(&[0x73, 0, 0, 0]).then_some(CallInstruction { length: 4, mode: 0 })
}

/// How the code behind it returns: at once, by ra.
pub(crate) fn way_out(code: &[u8], _mode: u64) -> Option<WayOut> {
    let returns = code.starts_with(&[0x82, 0x80]) || code.starts_with(&[0x67, 0x80, 0, 0]);
    returns.then_some(WayOut { taken: 0, address_at: None })
}

/// `li a7, 139; ecall`: rt_sigreturn, as the vDSO has it.
pub(crate) const SIGNAL_RETURNS: &[&[u8]] = &[&[0x93, 0x08, 0xb0, 0x08, 0x73, 0, 0, 0]];

/// NT_PRFPREG, and NT_RISCV_VECTOR of threads that use vectors (include/uapi/linux/elf.h).
pub(crate) const VECTOR_STATES: &[&[usize]] = &[&[FLOATING_POINT], &[VECTORS]];
const FLOATING_POINT: usize = 2;
const VECTORS: usize = 0x901;
/// Longest such set, in bytes: vectors of 512 bytes each.
pub(crate) const VECTOR_LIMIT: usize = 20 * 1024;

/// Where NT_RISCV_VECTOR has `vtype`, whose highest bit says that there is nothing in the vectors: behind a system call.
const VTYPE: usize = 16;

/// Where it has the length of a vector in bytes, and where the vectors are.
const VECTOR_LENGTH: usize = 32;
const VECTORS_AT: usize = 40;

/// How many of the bytes that were read are such a set, if it is there to be kept. Until 2025 the kernel gave room for the longest vectors
/// that there might ever be.
pub(crate) fn vector_state_length(kind: usize, bytes: &[u8]) -> Option<usize> {
    if kind != VECTORS {
        return Some(bytes.len());
    }
    let word =
        |at| bytes.get(at..at + 8).and_then(|word| word.first_chunk()).copied().map(i64::from_le_bytes);
    word(VTYPE).filter(|vtype| *vtype >= 0)?;
    let length = usize::try_from(word(VECTOR_LENGTH)?).ok()?;
    length.checked_mul(32)?.checked_add(VECTORS_AT)
}

/// The calling convention leaves nothing below the stack pointer.
pub(crate) const RED_ZONE: u64 = 0;
/// Boundary of stack pointers, in bytes.
pub(crate) const FRAME_ALIGNMENT: u64 = 16;

/// Whether registers show the arguments of a call to who stops a thread at its entry.
pub(crate) const SHOWS_ENTERED_CALL: bool = false;

/// Whether registers tell a thread on its way out of a system call from one that rt_sigreturn has put there.
pub(crate) const TELLS_ENDED_CALL: bool = false;

/// What the thread pointer of a stopped thread points to: the C library's own data of it.
#[allow(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
pub(crate) fn thread_pointer(_tid: Pid, registers: &Registers) -> Option<u64> {
    Some(registers.general.0[TP])
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
    allow_if(
        call!(SYS_ptrace),
        "PTRACE_GET_SYSCALL_INFO",
        &[Whole(0, PTRACE_GET_SYSCALL_INFO as u64), Tracee(1)],
        "arguments of calls, whether a call goes on through the restart block",
    ),
];
/// The same for the launcher.
pub(crate) const LAUNCHER_CALLS: &[Entry] = &[
    allow(call!(SYS_newfstatat), STATUS_REASON),
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
