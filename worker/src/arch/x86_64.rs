//! x86_64 (kernel: arch/x86/include/uapi/asm/{ptrace,sigcontext,ucontext}.h).

use seccompiler::TargetArch;

/// What seccomp filters are compiled for.
pub(crate) const SECCOMP_ARCHITECTURE: TargetArch = TargetArch::x86_64;

/// The instruction that enters the kernel: `syscall`.
pub(crate) const SYSTEM_CALL_INSTRUCTION: &[u8] = &[0x0f, 0x05];

/// Register set of the floating-point and vector state: NT_X86_XSTATE (include/uapi/linux/elf.h).
pub(crate) const VECTOR_STATE: usize = 0x202;
/// Longest such set, in bytes; AMX tiles make it about 11 KiB.
pub(crate) const VECTOR_LIMIT: usize = 32 * 1024;

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

    /// The same thread about to run one system call at `instruction`, with nothing to restart.
    pub(crate) fn for_call(&self, instruction: u64, number: i64, arguments: [u64; 6]) -> Self {
        let mut call = self.without_restart();
        call.rip = instruction;
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

    /// Result of the system call that the thread has just left.
    pub(crate) fn result(&self) -> i64 {
        self.0.rax as i64
    }

    /// Where the thread goes on.
    pub(crate) fn instruction_pointer(&self) -> u64 {
        self.0.rip
    }

    /// Makes the thread go on elsewhere.
    pub(crate) fn set_instruction_pointer(&mut self, address: u64) {
        self.0.rip = address;
    }

    /// Whether the thread was stopped on its way out of a system call.
    pub(crate) fn is_in_system_call(&self) -> bool {
        (self.0.orig_rax as i64) >= 0
    }

    /// Whether that call goes on through the kernel's restart block, which rt_sigreturn would forget.
    pub(crate) fn needs_restart_block(&self) -> bool {
        self.is_in_system_call() && self.result() == ERESTART_RESTARTBLOCK
    }

    /// Whether that call is about to fail with EINTR.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.is_in_system_call() && self.result() == -i64::from(libc::EINTR)
    }

    /// Goes back to the system call instruction with the original number (kernel fact 34).
    pub(crate) fn repeat_system_call(&mut self) {
        self.0.rax = self.0.orig_rax;
        self.0.rip = self.0.rip.wrapping_sub(2);
        self.0.orig_rax = u64::MAX;
    }

    /// The registers as rt_sigreturn should load them: what the kernel does on the way out of an
    /// interrupted system call is done here, since it won't be done then.
    fn resolved(&self) -> libc::user_regs_struct {
        let mut registers = *self;
        if self.is_in_system_call() {
            match self.result() {
                ERESTARTSYS | ERESTARTNOINTR | ERESTARTNOHAND => registers.repeat_system_call(),
                ERESTART_RESTARTBLOCK => registers.0.rax = (-i64::from(libc::EINTR)) as u64,
                _ => {}
            }
        }
        registers.0
    }
}

/// Bytes before and behind the vector state in the frame (arch/x86/include/asm/sigframe.h).
const FRAME_LENGTH: usize = 8 + 304 + 128;
/// `uc_flags`: the vector state is extended, ss is valid and to be restored.
const UC_FLAGS: u64 = 1 | 2 | 4;
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
/// Offset of `struct _fpx_sw_bytes` in the vector state, and of the feature mask that ptrace puts there.
const SOFTWARE_BYTES: usize = 464;

/// A signal frame for `address` from which rt_sigreturn loads these registers, vector state (the set
/// NT_X86_XSTATE) and signal mask.
pub(crate) fn home_frame(registers: &Registers, vector: &[u8], mask: u64, address: u64) -> Vec<u8> {
    let registers = registers.resolved();
    let vector_address = (address + FRAME_LENGTH as u64).next_multiple_of(64);
    let selectors = registers.cs & 0xffff | (registers.ss & 0xffff) << 48;
    let context = [
        UC_FLAGS,
        0, // uc_link
        0, // uc_stack: left as it is, since this flag word below says "disabled" only if it was
        0,
        0,
        registers.r8,
        registers.r9,
        registers.r10,
        registers.r11,
        registers.r12,
        registers.r13,
        registers.r14,
        registers.r15,
        registers.rdi,
        registers.rsi,
        registers.rbp,
        registers.rbx,
        registers.rdx,
        registers.rax,
        registers.rcx,
        registers.rsp,
        registers.rip,
        registers.eflags,
        selectors,
        0, // err
        0, // trapno
        0, // oldmask
        0, // cr2
        vector_address,
    ];
    let mut frame = vec![0; 8]; // return address, skipped by rt_sigreturn
    frame.extend(context.iter().flat_map(|word| word.to_le_bytes()));
    frame.resize(8 + 296, 0); // reserved words of the context
    frame.extend(mask.to_le_bytes());
    let vector_offset = usize::try_from(vector_address - address).unwrap_or(FRAME_LENGTH);
    frame.resize(vector_offset, 0);
    frame.extend(signal_vector_state(vector));
    frame
}

/// The vector state with the marks that rt_sigreturn looks for.
fn signal_vector_state(vector: &[u8]) -> Vec<u8> {
    let mut state = vector.to_vec();
    let length = u32::try_from(state.len()).unwrap_or(0);
    let features = state.get(SOFTWARE_BYTES..SOFTWARE_BYTES + 8).map(<[u8]>::to_vec).unwrap_or_default();
    let software: Vec<u8> = [FP_XSTATE_MAGIC1.to_le_bytes(), (length + 4).to_le_bytes()]
        .concat()
        .into_iter()
        .chain(features)
        .chain(length.to_le_bytes())
        .collect();
    if let Some(place) = state.get_mut(SOFTWARE_BYTES..SOFTWARE_BYTES + software.len()) {
        place.copy_from_slice(&software);
    }
    state.extend(FP_XSTATE_MAGIC2.to_le_bytes());
    state
}
