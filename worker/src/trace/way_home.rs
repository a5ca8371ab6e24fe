//! The way home of a thread that makes a system call for us (kernel facts 19, 20 and 32).
//!
//! Should this process die in the middle of such a call, the thread goes on alone behind the system
//! call instruction. The code there returns, and so finds what is laid here: a signal frame, from which
//! rt_sigreturn makes the thread what it was. It lies where the program has nothing, on its main stack
//! below all that is in use.

use crate::arch::{Departure, FRAME_ALIGNMENT, RED_ZONE, Registers, WayOut, home_frame};
use crate::error::{Error, Result};
use crate::sys::memory::TargetMemory;
use crate::sys::ptrace;
use crate::target::mappings::Mapping;
use crate::trace::gadget::{Exit, Gadgets};
use crate::trace::tracees::Tracees;
use nix::unistd::Pid;
use std::ops::Range;
use zeroize::Zeroizing;

/// Longest code that is followed behind a call, in bytes.
const GADGET_LENGTH: u64 = 64;

/// Where calls in a target can be made.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// Through which code.
    pub(crate) gadgets: Gadgets,
    /// Its main stack, if there is one.
    stack: Option<Range<u64>>,
}

impl Site {
    /// The main stack, as far as it can be used.
    pub(crate) fn stack(&self) -> Option<&Range<u64>> {
        self.stack.as_ref()
    }

    /// Looks for it, by a thread that is there.
    pub(crate) fn find(pid: Pid, tid: Pid, mappings: &[Mapping]) -> Result<Self> {
        let stack = mappings.iter().find(|mapping| mapping.is_main_stack() && mapping.is_writable());
        Ok(Self {
            gadgets: Gadgets::find(pid, tid, mappings)?,
            stack: stack.map(|mapping| mapping.start..mapping.end),
        })
    }
}

impl Site {
    /// Whether a thread with these registers is making a call for a worker that has died, or is on its way
    /// home from it, by the frame that was laid for it.
    pub(crate) fn is_calling(&self, registers: &Registers, (frame, length): (u64, u64)) -> bool {
        let is_in = |value: u64, start: u64, length: u64| value.wrapping_sub(start) < length;
        let place = registers.instruction_pointer();
        // an odd address says how code is to be read
        let in_gadget = |start: u64| is_in(place, start & !1, GADGET_LENGTH + 1);
        let in_code = in_gadget(self.gadgets.call)
            || self.gadgets.exit.is_some_and(|exit| in_gadget(exit.signal_return));
        in_code && is_in(registers.stack_pointer(), frame, length)
    }
}

/// An address as the target has it in memory.
fn word(address: u64) -> Vec<u8> {
    address.to_ne_bytes().into_iter().take(size_of::<usize>()).collect()
}

/// A signal frame in the target that leads one of its threads home.
pub(crate) struct WayHome {
    /// The thread.
    pub(crate) tid: Pid,
    /// What the thread must have behind the system call instruction.
    pub(crate) departure: Departure,
    /// What was there.
    saved: Zeroizing<Vec<u8>>,
}

impl WayHome {
    /// Lays it for the thread as it is now. `None` where the target has no unused stack or no code that
    /// leads to the frame: calls are made without it then.
    pub(crate) fn lay(
        site: &Site,
        tracees: &Tracees,
        tid: Pid,
        memory: &TargetMemory<'_>,
    ) -> Result<Option<Self>> {
        let (Some(stack), Some(exit)) = (&site.stack, site.gadgets.exit) else {
            return Ok(None);
        };
        let thread = tracees.thread(tid).ok_or_else(|| tracees.lost())?;
        let vector = tracees.vector_state(tid)?;
        let mask =
            ptrace::signal_mask(tid).map_err(Error::system("reading the signal mask of thread", tid))?;
        let frame_at = |address| home_frame(&thread.registers, &vector, mask, address);
        // its length does not depend on where it is, on a boundary like this one
        let length = frame_at(FRAME_ALIGNMENT).len() as u64;
        let Exit { way_out: WayOut { taken, address_at }, signal_return } = exit;
        let needed = taken + length + FRAME_ALIGNMENT;
        let lowest = tracees.stack_pointers().filter(|pointer| stack.contains(pointer)).min();
        let end = match lowest {
            Some(pointer) => pointer.saturating_sub(RED_ZONE),
            // whoever uses this stack is elsewhere for the moment: its far end, if nothing was ever there
            None => stack.start + needed,
        };
        let address = end.saturating_sub(length) & !(FRAME_ALIGNMENT - 1);
        let start = address.saturating_sub(taken);
        if start < stack.start {
            return Ok(None);
        }
        let failed = |operation| Error::system(operation, format!("the stack of process {}", tracees.pid()));
        let length = usize::try_from(address + length - start).unwrap_or(0);
        let mut saved = Zeroizing::new(vec![0; length]);
        memory.read(start, &mut saved).map_err(failed("reading"))?;
        if lowest.is_none() && saved.iter().any(|&byte| byte != 0) {
            return Ok(None);
        }
        let departure = Departure { stack: start, signal_return };
        if let Some(offset) = address_at {
            memory.write(start + offset, &word(departure.signal_return)).map_err(failed("writing below"))?;
        }
        memory.write(address, &frame_at(address)).map_err(failed("writing below"))?;
        Ok(Some(Self { tid, departure, saved }))
    }

    /// Where it is, as address and length in bytes.
    pub(crate) fn range(&self) -> (u64, u64) {
        (self.departure.stack, self.saved.len() as u64)
    }

    /// Puts back what was there; no call is made any more.
    pub(crate) fn clear(self, memory: &TargetMemory<'_>, pid: Pid) -> Result<()> {
        memory
            .write(self.departure.stack, &self.saved)
            .map_err(Error::system("writing below", format!("the stack of process {pid}")))
    }
}
