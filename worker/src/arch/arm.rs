//! 32-bit ARM (kernel: arch/arm/include/uapi/asm/{ptrace,sigcontext}.h, arch/arm/include/asm/ucontext.h).

mod gadget;
mod system_calls;

pub(crate) use super::rewinding::Registers;
pub(crate) use gadget::{CODE_ALIGNMENT, SIGNAL_RETURNS, system_call_at, way_out};
#[cfg(test)]
pub(crate) use system_calls::NEVER_SHOWN;
pub(crate) use system_calls::{LAUNCHER_CALLS, MMAP, SYSTEM_CALLS};
pub(super) use system_calls::{TIMED_CALLS, WAITS};

use super::VectorState;
use super::rewinding::Set;
use libc::c_long;
use nix::errno::Errno;
use nix::unistd::Pid;

/// `struct user_regs`, the set NT_PRSTATUS: r0 to r15, cpsr, and r0 as it was before the call.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct General([u32; 18]);

const R7: usize = 7;
const SP: usize = 13;
const LR: usize = 14;
const PC: usize = 15;
const CPSR: usize = 16;
const R0_BEFORE: usize = 17;

/// Results from here on are error numbers.
const FIRST_ERROR: u32 = 0xffff_f001;

/// Bits of cpsr: Thumb code; what must be clear for code of ours: the rest of an IT block, Jazelle, big-endian data.
const THUMB: u32 = 0x20;
const UNWANTED_STATE: u32 = 0x0600_fc00 | 0x0100_0000 | 0x200;

#[allow(clippy::cast_possible_truncation, reason = "registers have 32 bits")]
fn register(value: u64) -> u32 {
    value as u32
}

impl Set for General {
    const ZERO: Self = Self([0; 18]);
    const RESTARTS_BY_ENTRY: bool = true;

    fn number(&self) -> c_long {
        self.0[R7] as c_long
    }

    fn set_number(&mut self, number: c_long) {
        self.0[R7] = number as u32;
    }

    fn result(&self) -> i64 {
        let result = self.0[0];
        if result >= FIRST_ERROR { i64::from(result as i32) } else { i64::from(result) }
    }

    fn set_result(&mut self, result: i64) {
        self.0[0] = register(result as u64);
    }

    fn first_argument(&self) -> u64 {
        self.0[0].into()
    }

    fn set_arguments(&mut self, arguments: [u64; 6]) {
        self.0.iter_mut().zip(arguments).for_each(|(to, argument)| *to = register(argument));
        self.0[R0_BEFORE] = self.0[0];
    }

    fn argument_before(&self) -> Option<u64> {
        Some(self.0[R0_BEFORE].into())
    }

    fn instruction_pointer(&self) -> u64 {
        self.0[PC].into()
    }

    fn go_to(&mut self, address: u64) {
        self.0[PC] = register(address & !1);
        self.0[CPSR] = if address & 1 == 1 { self.0[CPSR] | THUMB } else { self.0[CPSR] & !THUMB };
    }

    fn move_by(&mut self, bytes: i64) {
        self.0[PC] = register(u64::from(self.0[PC]).wrapping_add_signed(bytes));
    }

    fn stack_pointer(&self) -> u64 {
        self.0[SP].into()
    }

    fn set_stack_pointer(&mut self, address: u64) {
        self.0[SP] = register(address);
    }

    fn set_return_address(&mut self, address: u64) {
        self.0[LR] = register(address);
    }

    fn mode(&self) -> u64 {
        u64::from(self.0[CPSR] & THUMB != 0)
    }

    fn clear_state(&mut self) {
        self.0[CPSR] &= !UNWANTED_STATE;
    }
}

/// NT_ARM_VFP (include/uapi/linux/elf.h).
pub(crate) const VECTOR_STATES: &[&[usize]] = &[&[VFP]];
const VFP: usize = 0x400;
/// Longest such set, in bytes.
pub(crate) const VECTOR_LIMIT: usize = 1024;

/// How many of the bytes that were read are such a set: all.
pub(crate) fn vector_state_length(_kind: usize, bytes: &[u8]) -> Option<usize> {
    Some(bytes.len())
}

/// The calling convention leaves nothing below the stack pointer.
pub(crate) const RED_ZONE: u64 = 0;
/// Boundary on which rt_sigreturn wants the stack pointer, in bytes.
pub(crate) const FRAME_ALIGNMENT: u64 = 8;

/// Bytes of `siginfo`; where in `struct ucontext` the registers are, the mask, and the records behind them.
const INFORMATION: usize = 128;
const REGISTERS: usize = 20 + 12;
const MASK: usize = 104;
const RECORDS: usize = 232;
/// Bytes of the records, and of what follows them.
const RECORDS_LENGTH: usize = 512 + 16;

/// `struct vfp_sigframe`: its mark and length; and the bit by which the unit is enabled.
const VFP_MAGIC: u32 = 0x5646_5001;
const VFP_LENGTH: u32 = 288;
const VFP_ENABLED: u32 = 0x4000_0000;

/// A signal frame from which rt_sigreturn(2) loads these registers, vector state and signal mask, called with the stack
/// pointer at `address`, where it begins (arch/arm/kernel/signal.c).
pub(crate) fn home_frame(registers: &Registers, vector: &VectorState, mask: u64, _address: u64) -> Vec<u8> {
    let General(words) = registers.resolved();
    let mut frame = vec![0; INFORMATION + REGISTERS];
    frame.extend(words.iter().take(CPSR + 1).flat_map(|word| word.to_le_bytes()));
    frame.resize(INFORMATION + MASK, 0);
    frame.extend(mask.to_le_bytes());
    frame.resize(INFORMATION + RECORDS, 0);
    let end = frame.len() + RECORDS_LENGTH;
    frame.extend(VFP_MAGIC.to_le_bytes());
    frame.extend(VFP_LENGTH.to_le_bytes());
    // 32 registers of 8 bytes, then fpscr in a word of 8
    let state = frame.len() + 264;
    frame.extend(vector.set(VFP).unwrap_or_default().iter().take(260));
    frame.resize(state, 0);
    frame.extend(VFP_ENABLED.to_le_bytes());
    frame.resize(end, 0);
    frame
}

/// Whether registers show the arguments of a call to who stops a thread at its entry.
pub(crate) const SHOWS_ENTERED_CALL: bool = true;

/// Whether registers tell a thread on its way out of a system call from one that rt_sigreturn has put there.
pub(crate) const TELLS_ENDED_CALL: bool = false;

/// What the thread pointer of a stopped thread points to: the C library's own data of it.
pub(crate) fn thread_pointer(tid: Pid, _registers: &Registers) -> Option<u64> {
    crate::sys::ptrace::word(tid, system_calls::PTRACE_GET_THREAD_AREA).ok().map(u64::from)
}

/// Has the kernel take a stopped thread for one that enters this call (PTRACE_SET_SYSCALL): nothing else looks at that.
pub(crate) fn set_call(tid: Pid, number: Option<c_long>) -> Result<(), Errno> {
    match number {
        Some(number) => crate::sys::ptrace::set_entered_call(tid, system_calls::PTRACE_SET_SYSCALL, number),
        None => Ok(()),
    }
}
