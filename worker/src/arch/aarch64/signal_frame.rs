//! The frame from which rt_sigreturn(2) loads a thread (arch/arm64/kernel/signal.c).

use super::{FP_MODE, OLD_STATE, Registers, STREAMING_SVE, SVE};
use crate::arch::VectorState;

/// Bytes of `siginfo` and of `struct ucontext` before the registers, and where in the latter the mask is.
const INFORMATION: usize = 128;
const CONTEXT: usize = 176;
const MASK: usize = 40;
/// Bytes of the registers, and of the records that follow them.
const REGISTERS: usize = 288;
const RECORDS: usize = 4096;
/// Bytes of records besides vectors, and more.
const LEFT: usize = 640;

/// Marks of records.
const FPSIMD_MAGIC: u32 = 0x4650_8001;
const SVE_MAGIC: u32 = 0x5356_4501;
const FP_MODE_MAGIC: u32 = 0x4650_4d52;

/// NT_ARM_SVE: bytes of its header, and where in that the length of all of it, the one of a vector and the flags are.
const SVE_HEADER: usize = 16;
const SVE_SIZE: usize = 0;
const SVE_LENGTH: usize = 8;
const SVE_FLAGS: usize = 12;
/// The flag that the set holds whole vectors, not their first 16 bytes.
const SVE_IN_USE: u16 = 1;

/// The flag of a record of vectors that the thread is in the streaming mode.
const STREAMING: u16 = 1;

/// How many of the bytes that were read are such a set, if it is all of the state: without whole vectors in use, the last one is. Until 2024
/// the kernel gave room for the longest vectors that there might ever be.
pub(crate) fn vector_state_length(kind: usize, bytes: &[u8]) -> Option<usize> {
    if kind == OLD_STATE || kind == FP_MODE {
        return Some(bytes.len());
    }
    let size = part(bytes, SVE_SIZE, 4).first_chunk().copied().map(u32::from_le_bytes)?;
    let length = (half(bytes, SVE_FLAGS) & SVE_IN_USE != 0).then_some(size as usize)?;
    // nobody could go home with them, and without them the mode would be another
    let is_too_long = kind == STREAMING_SVE && length > RECORDS - LEFT;
    Some(if is_too_long { usize::MAX } else { length })
}

/// A signal frame from which rt_sigreturn loads these registers, vector state and signal mask, called with the stack
/// pointer at `address`, where it begins.
pub(crate) fn home_frame(registers: &Registers, vector: &VectorState, mask: u64, _address: u64) -> Vec<u8> {
    let mut frame = vec![0; INFORMATION + MASK];
    frame.extend(mask.to_le_bytes());
    // the word before the registers is a fault's address
    frame.resize(INFORMATION + CONTEXT + 8, 0);
    frame.extend(registers.resolved().0.iter().flat_map(|register| register.to_le_bytes()));
    frame.resize(INFORMATION + CONTEXT + REGISTERS, 0);
    frame.extend(records(vector));
    if let Some(mode) = vector.set(FP_MODE) {
        frame.extend([&FP_MODE_MAGIC.to_le_bytes(), &16_u32.to_le_bytes(), mode].concat());
    }
    // a record of zeros ends them
    frame.resize(INFORMATION + CONTEXT + REGISTERS + RECORDS, 0);
    frame
}

fn records(vector: &VectorState) -> Vec<u8> {
    let whole = |kind, flags: u16| vector.set(kind).map(|bytes| (bytes, flags));
    let Some((bytes, flags)) = whole(STREAMING_SVE, STREAMING).or_else(|| whole(SVE, 0)) else {
        let bytes = vector.set(OLD_STATE).unwrap_or_default();
        let (vectors, status) = (part(bytes, 0, 512), part(bytes, 512, 8));
        return fpsimd(status, vectors);
    };
    // the first 16 bytes of each vector are the old registers
    let length = usize::from(half(bytes, SVE_LENGTH));
    let vectors: Vec<u8> =
        (0..32).flat_map(|number| part(bytes, SVE_HEADER + number * length, 16)).copied().collect();
    // vectors, predicates, the first-fault register
    let whole = 32 * length + 17 * (length / 8);
    let status = part(bytes, (SVE_HEADER + whole).next_multiple_of(16), 8);
    let mut records = fpsimd(status, &vectors);
    let size = (16 + whole).next_multiple_of(16);
    // longer vectors have no room there: a thread that was in the middle of using them, whose worker dies in that moment,
    // keeps their first 16 bytes only
    if records.len() + size + 16 <= RECORDS {
        records.extend(SVE_MAGIC.to_le_bytes());
        records.extend(u32::try_from(size).unwrap_or(0).to_le_bytes());
        records.extend(half(bytes, SVE_LENGTH).to_le_bytes());
        records.extend(flags.to_le_bytes());
        records.resize(records.len() + 4, 0);
        records.extend(part(bytes, SVE_HEADER, whole));
        records.resize(fpsimd(status, &vectors).len() + size, 0);
    }
    records
}

fn fpsimd(status: &[u8], vectors: &[u8]) -> Vec<u8> {
    [&FPSIMD_MAGIC.to_le_bytes(), &528_u32.to_le_bytes(), status, vectors].concat()
}

fn part(bytes: &[u8], start: usize, length: usize) -> &[u8] {
    bytes.get(start..start + length).unwrap_or_default()
}

fn half(bytes: &[u8], at: usize) -> u16 {
    part(bytes, at, 2).try_into().map_or(0, u16::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_vectors_are_a_record_of_their_own() {
        let length = 32_usize;
        let mut bytes = vec![0; SVE_HEADER + 32 * length + 17 * length / 8];
        bytes[SVE_LENGTH] = 32;
        bytes[SVE_FLAGS] = 1;
        bytes[SVE_HEADER + length + 15] = 7;
        bytes.resize(bytes.len().next_multiple_of(16) + 8, 9);
        let size = u32::try_from(bytes.len()).unwrap();
        bytes[SVE_SIZE..SVE_SIZE + 4].copy_from_slice(&size.to_le_bytes());
        // with room behind it, as older kernels have it
        assert_eq!(vector_state_length(SVE, &[&bytes[..], &[0; 999]].concat()), Some(bytes.len()));
        bytes[SVE_FLAGS] = 0;
        assert_eq!(vector_state_length(SVE, &bytes), None);
        for (kind, flags) in [(SVE, 0), (STREAMING_SVE, STREAMING)] {
            let records = records(&VectorState(vec![(kind, bytes.clone())]));
            assert_eq!(records.len() % 16, 0);
            assert_eq!((records[8], records[16 + 16 + 15]), (9, 7));
            assert_eq!(records[528..532], SVE_MAGIC.to_le_bytes());
            assert_eq!(half(&records, 528 + 10), flags);
            assert_eq!(records[528 + 16 + length + 15], 7);
        }
    }
}
