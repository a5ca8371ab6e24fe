//! General registers of a stopped thread.

/// EFLAGS bits that must be clear for code of ours: trap, direction, resume, alignment check.
const UNWANTED_FLAGS: u64 = 0x100 | 0x400 | 0x1_0000 | 0x4_0000;

/// Kernel-internal return values that mean "restart me" (include/linux/errno.h).
const ERESTARTSYS: i64 = -512;
const ERESTARTNOINTR: i64 = -513;
const ERESTARTNOHAND: i64 = -514;
const ERESTART_RESTARTBLOCK: i64 = -516;

/// General registers of a stopped thread: `struct user_regs_struct`, the set NT_PRSTATUS.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Registers(libc::user_regs_struct);

impl Registers {
    /// Registers to be overwritten by a read.
    pub(crate) fn zeroed() -> Self {
        Self(libc::user_regs_struct {
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
        })
    }

    /// The same thread about to run one system call at `instruction`, with nothing to restart; on another
    /// stack, if the code behind the instruction is to return by what is there.
    pub(crate) fn for_call(
        &self,
        instruction: u64,
        stack: Option<u64>,
        number: i64,
        arguments: [u64; 6],
    ) -> Self {
        let mut call = self.without_restart();
        call.rip = instruction;
        call.rsp = stack.unwrap_or(call.rsp);
        call.rax = number as u64;
        [call.rdi, call.rsi, call.rdx, call.r10, call.r8, call.r9] = arguments;
        Self(call)
    }

    /// The same thread about to run a function of one argument on another stack.
    pub(crate) fn for_function(&self, entry: u64, argument: u64, stack_top: u64) -> Self {
        let mut call = self.without_restart();
        call.rip = entry;
        call.rdi = argument;
        call.rsp = stack_top & !15;
        Self(call)
    }

    fn without_restart(&self) -> libc::user_regs_struct {
        let mut registers = self.0;
        registers.orig_rax = u64::MAX;
        registers.eflags &= !UNWANTED_FLAGS;
        registers
    }

    /// The system call that the thread is about to make or is making: its number and first argument.
    pub(crate) fn entered_call(&self) -> (i64, u64) {
        (self.0.orig_rax as i64, self.0.rdi)
    }

    /// Result of the system call that the thread has just left.
    pub(crate) fn result(&self) -> i64 {
        self.0.rax as i64
    }

    /// Where the thread goes on.
    pub(crate) fn instruction_pointer(&self) -> u64 {
        self.0.rip
    }

    /// Where its stack ends.
    pub(crate) fn stack_pointer(&self) -> u64 {
        self.0.rsp
    }

    /// Makes the thread go on elsewhere.
    pub(crate) fn set_instruction_pointer(&mut self, address: u64) {
        self.0.rip = address;
    }

    /// Whether the thread was stopped on its way out of a system call.
    pub(crate) fn is_in_system_call(&self) -> bool {
        (self.0.orig_rax as i64) >= 0
    }

    /// Whether that call goes on through the kernel's restart block, which rt_sigreturn forgets.
    pub(crate) fn needs_restart_block(&self) -> bool {
        self.is_in_system_call() && self.result() == ERESTART_RESTARTBLOCK
    }

    /// Whether that call is about to fail with EINTR.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.is_in_system_call() && self.result() == -i64::from(libc::EINTR)
    }

    /// Whether the thread was waiting in one of these calls, and is to begin it anew.
    pub(crate) fn is_interrupted_in(&self, calls: &[i64]) -> bool {
        let (call, _) = self.entered_call();
        self.is_in_system_call() && self.result() < 0 && calls.contains(&call)
    }

    /// Makes the interrupted call return this, and not begin anew.
    pub(crate) fn end_system_call(&mut self, result: i64) {
        self.0.rax = result as u64;
        self.0.orig_rax = u64::MAX;
    }

    /// Goes back to the system call instruction with the original number (kernel fact 34).
    pub(crate) fn repeat_system_call(&mut self) {
        self.0.rax = self.0.orig_rax;
        self.0.rip = self.0.rip.wrapping_sub(2);
        self.0.orig_rax = u64::MAX;
    }

    /// The registers as rt_sigreturn should load them: what the kernel does on the way out of an
    /// interrupted system call is done here, since it won't be done then. A call with a restart block
    /// begins anew: a wait may get longer, but doesn't fail with an EINTR that no program expects.
    pub(super) fn resolved(&self) -> libc::user_regs_struct {
        let mut registers = *self;
        if self.is_in_system_call() {
            match self.result() {
                ERESTARTSYS | ERESTARTNOINTR | ERESTARTNOHAND | ERESTART_RESTARTBLOCK => {
                    registers.repeat_system_call();
                }
                _ => {}
            }
        }
        registers.0
    }
}
