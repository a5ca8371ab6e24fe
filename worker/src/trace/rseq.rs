//! Restartable sequences (kernel fact 18; include/uapi/linux/rseq.h).
//!
//! The kernel writes to a thread's rseq area whenever the thread returns to user mode. The thread
//! that works for us needs that area resident, and must not be resumed inside a sequence that the
//! kernel has forgotten.

use crate::arch::Registers;
use crate::sys::memory::read_remote;
use crate::sys::ptrace;
use nix::errno::Errno;
use nix::unistd::Pid;
use std::ops::Range;

/// Least length of an area.
const LENGTH: u64 = 32;
/// Offset of the pointer to the sequence under way.
const SEQUENCE: u64 = 8;

/// The area of a stopped thread.
pub(crate) fn area(tid: Pid) -> Result<Option<Range<u64>>, Errno> {
    match ptrace::rseq_configuration(tid) {
        Ok(configuration) if configuration.address != 0 => {
            let length = u64::from(configuration.length).max(LENGTH);
            Ok(Some(configuration.address..configuration.address + length))
        }
        // before Linux 5.13 the kernel doesn't tell
        Ok(_) | Err(Errno::EIO) => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// Where a thread must go on that was stopped inside a sequence.
pub(crate) fn abort_address(tid: Pid, area: &Range<u64>, registers: &Registers) -> Option<u64> {
    let sequence = read_words::<1>(tid, area.start + SEQUENCE)?;
    let [address] = sequence;
    if address == 0 {
        return None;
    }
    // struct rseq_cs: version and flags, start, length, address to go to when interrupted
    let [_, start, length, abort] = read_words::<4>(tid, address)?;
    let inside = registers.instruction_pointer().wrapping_sub(start) < length;
    inside.then_some(abort)
}

fn read_words<const N: usize>(tid: Pid, address: u64) -> Option<[u64; N]> {
    let mut bytes = vec![0; N * 8];
    let read = read_remote(tid, address, &mut bytes).ok()?;
    let words: Vec<u64> = bytes
        .get(..read)?
        .chunks_exact(8)
        .filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?)))
        .collect();
    words.try_into().ok()
}
