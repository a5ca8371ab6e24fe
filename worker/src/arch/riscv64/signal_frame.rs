//! The frame from which rt_sigreturn(2) loads a thread (arch/riscv/kernel/signal.c).

use super::{FLOATING_POINT, Registers, VECTORS};
use crate::arch::VectorState;

/// Bytes of `siginfo` and of `struct ucontext` before the registers, and where in the latter the mask is.
const INFORMATION: usize = 128;
const CONTEXT: usize = 176;
const MASK: usize = 40;
/// Bytes of the floating-point state, and of what follows it until the first record.
const FLOATING_POINT_LENGTH: usize = 264;
const UNTIL_RECORDS: usize = 520;

/// The record of vectors: its mark, and bytes of its two heads.
const MAGIC: u32 = 0x5346_5457;
const RECORD_HEAD: usize = 8;
const STATE_HEAD: usize = 48;
/// NT_RISCV_VECTOR: bytes of its head, which begins the record's, too.
const SET_HEAD: usize = 40;

/// A signal frame from which rt_sigreturn loads these registers, floating-point and vector state and signal mask, called
/// with the stack pointer at `address`, where it begins.
pub(crate) fn home_frame(registers: &Registers, vector: &VectorState, mask: u64, address: u64) -> Vec<u8> {
    let mut frame = vec![0; INFORMATION + MASK];
    frame.extend(mask.to_le_bytes());
    frame.resize(INFORMATION + CONTEXT, 0);
    frame.extend(registers.resolved().0.iter().flat_map(|register| register.to_le_bytes()));
    let records = frame.len() + UNTIL_RECORDS;
    frame.extend(vector.set(FLOATING_POINT).unwrap_or_default().iter().take(FLOATING_POINT_LENGTH));
    frame.resize(records, 0);
    if let Some((head, vectors)) = vector.set(VECTORS).and_then(|set| set.split_at_checked(SET_HEAD)) {
        let length = RECORD_HEAD + STATE_HEAD + vectors.len();
        frame.extend(MAGIC.to_le_bytes());
        frame.extend(u32::try_from(length).unwrap_or(0).to_le_bytes());
        frame.extend(head);
        // where the vectors are
        let place = address + (records + RECORD_HEAD + STATE_HEAD) as u64;
        frame.extend(place.to_le_bytes());
        frame.extend(vectors);
    }
    // a record of zeros ends them
    frame.extend([0; RECORD_HEAD]);
    frame.resize(frame.len().next_multiple_of(16), 0);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_a_record_that_says_where_they_are() {
        let address = 0x4000;
        let set = [vec![1; SET_HEAD], vec![7; 512]].concat();
        let with = VectorState(vec![(FLOATING_POINT, vec![3; 264]), (VECTORS, set)]);
        let frame = home_frame(&Registers::zeroed(), &with, 0, address);
        let record = INFORMATION + CONTEXT + 256 + UNTIL_RECORDS;
        assert_eq!(frame[record..record + 4], MAGIC.to_le_bytes());
        assert_eq!(frame[record + 4..record + 8], 568_u32.to_le_bytes());
        let pointer = frame[record + 48..record + 56].first_chunk().map(|word| u64::from_le_bytes(*word));
        let place = usize::try_from(pointer.unwrap() - address).unwrap();
        assert_eq!(frame[place..place + 512], [7; 512]);
        assert_eq!(frame[place + 512..place + 520], [0; 8]);
    }
}
