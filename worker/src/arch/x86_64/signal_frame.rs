//! The frame from which rt_sigreturn(2) loads a thread (arch/x86/include/asm/sigframe.h).

use super::{FRAME_ALIGNMENT, Registers};

/// Bytes before and behind the vector state in the frame (arch/x86/include/asm/sigframe.h).
const FRAME_LENGTH: usize = 8 + 304 + 128;
/// `uc_flags`: the vector state is extended, ss is valid and to be restored.
const UC_FLAGS: u64 = 1 | 2 | 4;
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
/// Offset of `struct _fpx_sw_bytes` in the vector state, and of the feature mask that ptrace puts there.
const SOFTWARE_BYTES: usize = 464;

/// A signal frame for `address` from which rt_sigreturn loads these registers, vector state (the set
/// NT_X86_XSTATE) and signal mask. Its first word is an address to return to, of code that calls
/// rt_sigreturn: for a thread that isn't in such code when it gets to the frame.
pub(crate) fn home_frame(
    registers: &Registers,
    vector: &[u8],
    mask: u64,
    address: u64,
    signal_return: u64,
) -> Vec<u8> {
    let registers = registers.resolved();
    let vector_address = (address + FRAME_LENGTH as u64).next_multiple_of(FRAME_ALIGNMENT);
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
    let mut frame = signal_return.to_le_bytes().to_vec(); // skipped by rt_sigreturn itself
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
