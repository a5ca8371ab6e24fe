//! Registers where the kernel goes back to the system call instruction before a tracer sees the thread whose call is to
//! begin anew (arch/{arm,arm64,riscv}/kernel/signal.c).
//!
//! Such a thread looks like one that is about to make its call; only the code at its instruction pointer tells. Whether
//! the call will go on through the restart block isn't to be seen at all before it is entered again.

use super::here::{General, TIMED_CALLS, system_call_at};
use super::{CallInstruction, Departure};
use libc::c_long;

/// Kernel-internal return values that mean "restart me" (include/linux/errno.h), which older kernels of riscv show.
const RESTARTS: [i64; 4] = [-512, -513, -514, -516];

/// Calls that never wait, and after which it would not be the same thread: nobody is in them who is at their instruction.
const NOT_ENTERED: [c_long; 5] =
    [libc::SYS_exit, libc::SYS_exit_group, libc::SYS_execve, libc::SYS_execveat, libc::SYS_rt_sigreturn];

/// More than any number of a system call.
const NO_NUMBER: c_long = 1024;

/// Where a thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// Nobody has looked, or anywhere else.
    Unknown,
    /// The next instruction is a system call.
    AtCall,
    /// The last one was.
    BehindCall,
}

/// The general registers of an architecture.
pub(super) trait Set: Copy {
    /// All zero.
    const ZERO: Self;
    /// Number of the system call.
    fn number(&self) -> c_long;
    fn set_number(&mut self, number: c_long);
    /// Result of a system call, which takes the place of its first argument; negative for an error number.
    fn result(&self) -> i64;
    fn set_result(&mut self, result: i64);
    fn first_argument(&self) -> u64;
    fn set_arguments(&mut self, arguments: [u64; 6]);
    /// The first argument as it was, where a register keeps that.
    fn argument_before(&self) -> Option<u64>;
    /// Address of the next instruction.
    fn instruction_pointer(&self) -> u64;
    /// Goes to an address that also says how the code is to be read, if there is more than one way.
    fn go_to(&mut self, address: u64);
    /// Forward or back, by bytes.
    fn move_by(&mut self, bytes: i64);
    fn stack_pointer(&self) -> u64;
    fn set_stack_pointer(&mut self, address: u64);
    fn set_return_address(&mut self, address: u64);
    /// How code is to be read at the moment, as in [`CallInstruction`].
    fn mode(&self) -> u64;
    /// Forgets what code of the program was in the middle of.
    fn clear_state(&mut self);
    /// Whether a call that goes on through the restart block has to be entered by a tracer with that number.
    const RESTARTS_BY_ENTRY: bool;
}

/// Registers of a stopped thread.
#[derive(Clone, Copy)]
pub(crate) struct Registers {
    /// As the kernel has them.
    pub(crate) general: General,
    position: Position,
    /// Number that its call had before it was found to go on through the restart block.
    began_as: Option<c_long>,
}

impl Registers {
    /// Registers to be overwritten by a read.
    pub(crate) fn zeroed() -> Self {
        Self { general: General::ZERO, position: Position::Unknown, began_as: None }
    }

    /// Whether code around the instruction pointer tells more of them.
    pub(crate) fn are_told_by_code(&self) -> bool {
        (0..NO_NUMBER).contains(&self.general.number())
    }

    /// Takes notice of the code from 4 bytes before the instruction pointer on.
    pub(crate) fn take_notice_of(&mut self, code: &[u8; 8]) {
        let [a, b, c, d, e, f, g, h] = *code;
        let is_call = |code: &[u8], length: usize| {
            let wanted = CallInstruction { length, mode: self.general.mode() };
            system_call_at(code) == Some(wanted)
        };
        let ahead = [e, f, g, h];
        self.position = if is_call(&ahead, 4) || is_call(&ahead, 2) {
            Position::AtCall
        } else if is_call(&[a, b, c, d], 4) || is_call(&[c, d], 2) {
            Position::BehindCall
        } else {
            Position::Unknown
        };
    }

    /// Whether the thread may be waiting in a call that goes on through the kernel's restart block, which it shows only
    /// when it enters the call again.
    pub(crate) fn may_need_restart_block(&self) -> bool {
        self.position == Position::AtCall && TIMED_CALLS.contains(&self.general.number())
    }

    /// Notes that it does; it was like that `before`.
    pub(crate) fn note_restart(&mut self, before: &Self) {
        self.began_as = Some(before.began_as.unwrap_or_else(|| before.general.number()));
    }

    /// Whether that has to be seen to when it goes on.
    pub(crate) fn restart_by_entry(&self) -> bool {
        General::RESTARTS_BY_ENTRY && self.began_as.is_some()
    }

    /// Whether the thread is at a call that it waited in, or is about to make. Nothing in the kernel knows any more that a signal
    /// with a handler would end it; it has to be entered again.
    pub(crate) fn is_at_call(&self) -> bool {
        self.position == Position::AtCall && !NOT_ENTERED.contains(&self.general.number())
    }

    /// The same thread behind a call at `instruction`, as [`Registers::for_call`] leaves it.
    pub(crate) fn behind_call(&self, instruction: u64, way: Option<Departure>) -> Self {
        let mut behind = self.for_call(instruction, way, 0, [0; 6]);
        behind.end_system_call(0);
        behind
    }

    /// The same thread about to run one system call at `instruction`; with another stack and return address, if the code
    /// behind the instruction is to go home.
    pub(crate) fn for_call(
        &self,
        instruction: u64,
        way: Option<Departure>,
        number: c_long,
        arguments: [u64; 6],
    ) -> Self {
        let mut call = self.general;
        call.clear_state();
        call.go_to(instruction);
        if let Some(way) = way {
            call.set_stack_pointer(way.stack);
            call.set_return_address(way.signal_return);
        }
        call.set_number(number);
        call.set_arguments(arguments);
        Self { general: call, ..Self::zeroed() }
    }

    /// The same thread about to run a function of one argument on another stack.
    pub(crate) fn for_function(&self, entry: u64, argument: u64, stack_top: u64) -> Self {
        let mut call = self.general;
        call.clear_state();
        call.go_to(entry);
        call.set_arguments([argument, 0, 0, 0, 0, 0]);
        call.set_stack_pointer(stack_top & !15);
        Self { general: call, ..Self::zeroed() }
    }

    /// The system call that the thread is about to make or is making: its number and first argument.
    pub(crate) fn entered_call(&self) -> (c_long, u64) {
        (self.general.number(), self.general.first_argument())
    }

    /// Result of the system call that the thread has just left.
    pub(crate) fn result(&self) -> i64 {
        self.general.result()
    }

    /// Where the thread goes on.
    pub(crate) fn instruction_pointer(&self) -> u64 {
        self.general.instruction_pointer()
    }

    /// Where its stack ends.
    pub(crate) fn stack_pointer(&self) -> u64 {
        self.general.stack_pointer()
    }

    /// Makes the thread go on elsewhere.
    pub(crate) fn set_instruction_pointer(&mut self, address: u64) {
        self.general.go_to(address | self.general.mode());
        self.position = Position::Unknown;
    }

    /// Whether the thread was stopped on its way out of a system call.
    pub(crate) fn is_in_system_call(&self) -> bool {
        self.position != Position::Unknown
    }

    /// Whether that call goes on through the kernel's restart block, which rt_sigreturn forgets.
    pub(crate) fn needs_restart_block(&self) -> bool {
        self.began_as.is_some() || self.may_need_restart_block()
    }

    /// Whether that call is about to fail with EINTR, or to begin anew.
    pub(crate) fn was_interrupted(&self) -> bool {
        let result = self.result();
        self.position == Position::BehindCall
            && (result == -i64::from(libc::EINTR) || RESTARTS.contains(&result))
    }

    /// Whether the thread was waiting in one of these calls, and is to begin it anew. `code` is what it comes to.
    pub(crate) fn is_interrupted_in(&self, calls: &[c_long], code: &[u8]) -> bool {
        system_call_at(code).is_some() && calls.contains(&self.general.number())
    }

    /// Makes the call that it has just left return this.
    pub(crate) fn set_result(&mut self, result: i64) {
        self.general.set_result(result);
    }

    /// Makes the interrupted call, at which it is, return this, and not begin anew.
    pub(crate) fn end_system_call(&mut self, result: i64) {
        self.general.move_by(self.length_of_call());
        self.general.set_result(result);
    }

    /// The first argument of the call that it has just left, if the registers tell.
    pub(crate) fn argument_before(&self) -> Option<u64> {
        self.general.argument_before()
    }

    /// Goes back to the system call instruction (kernel fact 34).
    pub(crate) fn repeat_system_call(&mut self, first_argument: u64) {
        self.general.move_by(-self.length_of_call());
        self.general.set_result(first_argument as i64);
        self.position = Position::AtCall;
    }

    fn length_of_call(&self) -> i64 {
        if self.general.mode() == 0 { 4 } else { 2 }
    }

    /// The registers as rt_sigreturn should load them. A call with a restart block begins anew: a wait may get longer, but
    /// doesn't fail with an EINTR that no program expects.
    pub(super) fn resolved(&self) -> General {
        let mut registers = self.general;
        if let Some(number) = self.began_as {
            registers.set_number(number);
        }
        registers
    }
}
