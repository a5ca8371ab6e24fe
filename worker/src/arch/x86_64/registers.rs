//! General registers of a stopped thread.

use crate::arch::Departure;
use libc::c_long;

/// EFLAGS bits that must be clear for code of ours: trap, direction, resume, alignment check.
const UNWANTED_FLAGS: u64 = 0x100 | 0x400 | 0x1_0000 | 0x4_0000;

/// Kernel-internal return values that mean "restart me" (include/linux/errno.h).
const ERESTARTSYS: i64 = -512;
const ERESTARTNOINTR: i64 = -513;
const ERESTARTNOHAND: i64 = -514;
const ERESTART_RESTARTBLOCK: i64 = -516;

/// The set NT_PRSTATUS.
pub(crate) type General = libc::user_regs_struct;

/// Registers of a stopped thread.
#[derive(Clone, Copy)]
pub(crate) struct Registers {
    /// As the kernel has them.
    pub(crate) general: General,
}

impl Registers {
    /// Registers to be overwritten by a read.
    pub(crate) fn zeroed() -> Self {
        let general = General {
            r15: 0,
            r14: 0,
            r13: 0,
            r12: 0,
            rbp: 0,
            rbx: 0,
            r11: 0,
            r10: 0,
            r9: 0,
            r8: 0,
            rax: 0,
            rcx: 0,
            rdx: 0,
            rsi: 0,
            rdi: 0,
            orig_rax: 0,
            rip: 0,
            cs: 0,
            eflags: 0,
            rsp: 0,
            ss: 0,
            fs_base: 0,
            gs_base: 0,
            ds: 0,
            es: 0,
            fs: 0,
            gs: 0,
        };
        Self { general }
    }

    /// Whether code around the instruction pointer tells more of them: not here.
    pub(crate) fn are_told_by_code(&self) -> bool {
        false
    }

    /// Takes notice of the code from 4 bytes before the instruction pointer on.
    pub(crate) fn take_notice_of(&mut self, _code: &[u8; 8]) {}

    /// Whether the thread may be waiting in a call that goes on through the kernel's restart block, which it shows only
    /// when it enters the call again.
    pub(crate) fn may_need_restart_block(&self) -> bool {
        false
    }

    /// Whether that has to be seen to when it goes on.
    pub(crate) fn restart_by_entry(&self) -> bool {
        false
    }

    /// Whether its call has to be entered again, since nothing in the kernel knows of it any more: the registers do.
    pub(crate) fn is_at_call(&self) -> bool {
        false
    }

    /// The same thread behind a call at `instruction`: nothing needs that.
    pub(crate) fn behind_call(&self, instruction: u64, way: Option<Departure>) -> Self {
        self.for_call(instruction, way, 0, [0; 6])
    }

    /// Notes that it does: the kernel shows it by the registers themselves.
    pub(crate) fn note_restart(&mut self, _before: &Self) {}

    /// The same thread about to run one system call at `instruction`, with nothing to restart; with another
    /// stack, if the code behind the instruction is to go home by what is there.
    pub(crate) fn for_call(
        &self,
        instruction: u64,
        way: Option<Departure>,
        number: c_long,
        arguments: [u64; 6],
    ) -> Self {
        let mut call = self.without_restart();
        call.rip = instruction;
        call.rsp = way.map_or(call.rsp, |way| way.stack);
        call.rax = number as u64;
        [call.rdi, call.rsi, call.rdx, call.r10, call.r8, call.r9] = arguments;
        Self { general: call }
    }

    /// The same thread about to run a function of one argument on another stack.
    pub(crate) fn for_function(&self, entry: u64, argument: u64, stack_top: u64) -> Self {
        let mut call = self.without_restart();
        call.rip = entry;
        call.rdi = argument;
        call.rsp = stack_top & !15;
        Self { general: call }
    }

    fn without_restart(&self) -> General {
        let mut registers = self.general;
        registers.orig_rax = u64::MAX;
        registers.eflags &= !UNWANTED_FLAGS;
        registers
    }

    /// The system call that the thread is about to make or is making: its number and first argument.
    pub(crate) fn entered_call(&self) -> (c_long, u64) {
        (self.general.orig_rax as c_long, self.general.rdi)
    }

    /// Result of the system call that the thread has just left.
    pub(crate) fn result(&self) -> i64 {
        self.general.rax as i64
    }

    /// Where the thread goes on.
    pub(crate) fn instruction_pointer(&self) -> u64 {
        self.general.rip
    }

    /// Where its stack ends.
    pub(crate) fn stack_pointer(&self) -> u64 {
        self.general.rsp
    }

    /// Makes the thread go on elsewhere.
    pub(crate) fn set_instruction_pointer(&mut self, address: u64) {
        self.general.rip = address;
    }

    /// Whether the thread was stopped on its way out of a system call.
    pub(crate) fn is_in_system_call(&self) -> bool {
        (self.general.orig_rax as i64) >= 0
    }

    /// Whether that call goes on through the kernel's restart block, which rt_sigreturn forgets.
    pub(crate) fn needs_restart_block(&self) -> bool {
        self.is_in_system_call() && self.result() == ERESTART_RESTARTBLOCK
    }

    /// Whether that call is about to fail with EINTR.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.is_in_system_call() && self.result() == -i64::from(libc::EINTR)
    }

    /// Whether the thread was waiting in one of these calls, and is to begin it anew. `code` is what it comes to.
    pub(crate) fn is_interrupted_in(&self, calls: &[c_long], _code: &[u8]) -> bool {
        let (call, _) = self.entered_call();
        self.is_in_system_call() && self.result() < 0 && calls.contains(&call)
    }

    /// Makes the call that it has just left return this.
    pub(crate) fn set_result(&mut self, result: i64) {
        self.end_system_call(result);
    }

    /// Makes the interrupted call return this, and not begin anew.
    pub(crate) fn end_system_call(&mut self, result: i64) {
        self.general.rax = result as u64;
        self.general.orig_rax = u64::MAX;
    }

    /// The first argument of the call that it has just left, if the registers tell.
    pub(crate) fn argument_before(&self) -> Option<u64> {
        Some(self.general.rdi)
    }

    /// Goes back to the system call instruction with the original number (kernel fact 34).
    pub(crate) fn repeat_system_call(&mut self, _first_argument: u64) {
        self.general.rax = self.general.orig_rax;
        self.general.rip = self.general.rip.wrapping_sub(2);
        self.general.orig_rax = u64::MAX;
    }

    /// The registers as rt_sigreturn should load them: what the kernel does on the way out of an
    /// interrupted system call is done here, since it won't be done then. A call with a restart block
    /// begins anew: a wait may get longer, but doesn't fail with an EINTR that no program expects.
    pub(super) fn resolved(&self) -> General {
        let mut registers = *self;
        if self.is_in_system_call() {
            match self.result() {
                ERESTARTSYS | ERESTARTNOINTR | ERESTARTNOHAND | ERESTART_RESTARTBLOCK => {
                    registers.repeat_system_call(self.general.rdi);
                }
                _ => {}
            }
        }
        registers.general
    }
}
