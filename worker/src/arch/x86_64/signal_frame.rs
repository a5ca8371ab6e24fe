//! The frame from which rt_sigreturn(2) loads a thread (arch/x86/include/asm/sigframe.h).

use super::{EXTENDED_STATE, FRAME_ALIGNMENT, OLD_STATE, Registers};
use crate::arch::VectorState;

/// Bytes before and behind the vector state in the frame (arch/x86/include/asm/sigframe.h).
const FRAME_LENGTH: usize = 304 + 128;
/// `uc_flags`: the vector state is extended, ss is valid and to be restored.
const UC_FLAGS: u64 = UC_EXTENDED | 2 | 4;
const UC_EXTENDED: u64 = 1;
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
/// Offset of `struct _fpx_sw_bytes` in the vector state, and of the feature mask that ptrace puts there.
const SOFTWARE_BYTES: usize = 464;
/// Offset and length of the header; its first word says which features are not in their initial state.
const HEADER: usize = 512;
const HEADER_LENGTH: usize = 64;
/// The feature of AMX tiles, which a program must ask for before it uses them.
const TILE_DATA: u64 = 1 << 18;

/// A signal frame from which rt_sigreturn loads these registers, vector state and signal mask, called with the stack
/// pointer at `address`, where it begins.
pub(crate) fn home_frame(registers: &Registers, vector: &VectorState, mask: u64, address: u64) -> Vec<u8> {
    let extended = vector.set(EXTENDED_STATE);
    let is_extended = extended.is_some();
    let vector = extended.or(vector.set(OLD_STATE)).unwrap_or_default();
    let registers = registers.resolved();
    let vector_address = (address + FRAME_LENGTH as u64).next_multiple_of(FRAME_ALIGNMENT);
    let selectors = registers.cs & 0xffff | (registers.ss & 0xffff) << 48;
    let context = [
        if is_extended { UC_FLAGS } else { UC_FLAGS & !UC_EXTENDED },
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
    let mut frame: Vec<u8> = context.iter().flat_map(|word| word.to_le_bytes()).collect();
    frame.resize(296, 0); // reserved words of the context
    frame.extend(mask.to_le_bytes());
    let vector_offset = usize::try_from(vector_address - address).unwrap_or(FRAME_LENGTH);
    frame.resize(vector_offset, 0);
    if is_extended {
        frame.extend(signal_vector_state(vector));
    } else {
        frame.extend(vector);
    }
    frame
}

fn word(state: &[u8], offset: usize) -> u64 {
    let bytes = state.get(offset..offset + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

/// The features that a frame may hold: ptrace gives room to those of the processor, but rt_sigreturn takes
/// no more than the program has asked for. A tile that is in use has been asked for.
fn permitted(features: u64, in_use: u64) -> u64 {
    if in_use & TILE_DATA == 0 { features & !TILE_DATA } else { features }
}

/// Length of a state with these features, in bytes (CPUID leaf 13: offset and size of each).
fn length_of(features: u64) -> usize {
    let end = |feature: u32| {
        // SAFETY: a processor with extended states has this leaf
        #[allow(unused_unsafe, reason = "newer compilers know that it is safe")]
        let leaf = unsafe { core::arch::x86_64::__cpuid_count(13, feature) };
        leaf.ebx as usize + leaf.eax as usize
    };
    let extended = (2..63).filter(|feature| features & 1 << feature != 0).map(end);
    extended.max().unwrap_or(0).max(HEADER + HEADER_LENGTH)
}

/// The vector state with the marks that rt_sigreturn looks for.
fn signal_vector_state(vector: &[u8]) -> Vec<u8> {
    let mut state = vector.to_vec();
    let features = permitted(word(vector, SOFTWARE_BYTES), word(vector, HEADER));
    if features != word(vector, SOFTWARE_BYTES) {
        state.truncate(length_of(features));
    }
    let length = u32::try_from(state.len()).unwrap_or(0);
    let software: Vec<u8> = [FP_XSTATE_MAGIC1.to_le_bytes(), (length + 4).to_le_bytes()]
        .concat()
        .into_iter()
        .chain(features.to_le_bytes())
        .chain(length.to_le_bytes())
        .collect();
    if let Some(place) = state.get_mut(SOFTWARE_BYTES..SOFTWARE_BYTES + software.len()) {
        place.copy_from_slice(&software);
    }
    state.extend(FP_XSTATE_MAGIC2.to_le_bytes());
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_that_nobody_uses_are_left_out_of_the_frame() {
        let avx = 7;
        assert_eq!(permitted(avx | TILE_DATA, avx), avx);
        assert_eq!(permitted(avx | TILE_DATA, avx | TILE_DATA), avx | TILE_DATA);
        assert_eq!(permitted(avx, avx), avx);
    }

    #[test]
    fn the_length_of_a_state_is_what_the_processor_says() {
        assert_eq!(length_of(3), 576);
        if std::arch::is_x86_feature_detected!("avx") {
            assert_eq!(length_of(7), 832);
        }
    }
}
