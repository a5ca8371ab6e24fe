//! Restartable sequences (kernel fact 18; include/uapi/linux/rseq.h).
//!
//! The kernel writes to a thread's rseq area whenever the thread returns to user mode. The thread
//! that works for us needs that area resident, and must not be resumed inside a sequence that the
//! kernel has forgotten.

use crate::arch::{self, Registers};
use crate::error::Error;
use crate::sys::memory::read_remote;
use crate::sys::{error_of, ptrace};
use crate::trace::puppet::Puppet;
use crate::trace::tracees::Tracees;
use nix::errno::Errno;
use nix::unistd::Pid;
use std::ops::Range;

/// Least length of an area.
const LENGTH: u64 = 32;
/// Offset of the pointer to the sequence under way.
const SEQUENCE: u64 = 8;

/// How far from what the thread pointer points to an area may be, in bytes.
const NEAR: u64 = 16 * 1024;

/// Where the area of a thread is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Area {
    /// Memory that it is in.
    pub(crate) bytes: Range<u64>,
    /// Whether that is the area itself.
    pub(crate) is_exact: bool,
}

/// The area of a stopped thread.
pub(crate) fn area(tid: Pid, registers: &Registers) -> Result<Option<Area>, Errno> {
    match ptrace::rseq_configuration(tid) {
        Ok(configuration) if configuration.address != 0 => {
            let length = u64::from(configuration.length).max(LENGTH);
            let bytes = configuration.address..configuration.address.saturating_add(length);
            Ok(Some(Area { bytes, is_exact: true }))
        }
        // before Linux 5.13 the kernel doesn't tell: C libraries have it beside what the thread pointer points to
        Err(Errno::EIO) => Ok(arch::thread_pointer(tid, registers).map(|pointer| {
            let near = pointer.saturating_sub(NEAR)..pointer.saturating_add(NEAR);
            Area { bytes: near, is_exact: false }
        })),
        Ok(_) => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// Where a thread must go on that was stopped inside a sequence, as far as the kernel tells where that would be written.
///
/// # Errors
/// ETIMEDOUT when that can't be told, since a page does not come.
pub(crate) fn abort_address(tid: Pid, area: &Area, registers: &Registers) -> Result<Option<u64>, Errno> {
    if !area.is_exact {
        return Ok(None);
    }
    let sequence = read_words(tid, area.bytes.start.wrapping_add(SEQUENCE))?;
    let Some(address) = sequence.map(|[address]| address).filter(|&address| address != 0) else {
        return Ok(None);
    };
    // struct rseq_cs: version and flags, start, length, address to go to when interrupted
    let Some([_, start, length, abort]) = read_words(tid, address)? else { return Ok(None) };
    let inside = registers.instruction_pointer().wrapping_sub(start) < length;
    Ok(inside.then_some(abort))
}

/// Whether the thread that works for us has no area, or has it in this memory: rseq(2) tells what the kernel tells no tracer
/// (kernel/rseq.c). With another address than the registered one it fails, otherwise than when there is none. A seccomp filter of the
/// target's may answer something else, or by a trap: then nobody knows.
pub(crate) fn is_within(
    bytes: &Range<u64>,
    puppet: &mut Puppet,
    tracees: &mut Tracees,
    is_filtered: bool,
) -> Result<bool, Error> {
    /// Aligned, and of no program.
    const NOWHERE: u64 = !(LENGTH - 1);
    let mut ask = |address| {
        let answer = puppet.try_call(tracees, libc::SYS_rseq, [address, LENGTH, 0, 0, 0, 0])?;
        Ok::<_, Error>(answer.map(error_of))
    };
    match ask(NOWHERE)? {
        Some(Errno::EFAULT) => return Ok(true),
        // that may as well be the filter's
        Some(Errno::ENOSYS) => return Ok(!is_filtered),
        Some(Errno::EINVAL) => {}
        _ => return Ok(false),
    }
    // the signature is not the program's: the registered address is told by that
    for address in (bytes.start.next_multiple_of(LENGTH)..bytes.end).step_by(LENGTH as usize) {
        if matches!(ask(address)?, Some(Errno::EPERM | Errno::EBUSY)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Words at an address; `None` if there are none.
fn read_words<const N: usize>(tid: Pid, address: u64) -> Result<Option<[u64; N]>, Errno> {
    let mut bytes = vec![0; N * 8];
    let read = match read_remote(tid, address, &mut bytes) {
        Err(Errno::ETIMEDOUT) => return Err(Errno::ETIMEDOUT),
        read => read.unwrap_or(0),
    };
    let words = bytes.get(..read).unwrap_or_default().chunks_exact(8);
    let words: Vec<u64> = words.filter_map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?))).collect();
    Ok(words.try_into().ok())
}
