//! Code of the target's own that calls of ours go through, so that not a byte of it is changed
//! (kernel fact 20).

use crate::arch::{CODE_ALIGNMENT, SIGNAL_RETURNS, WayOut, system_call_at, way_out};
use crate::error::{Error, Result};
use crate::sys::memory::read_remote;
use crate::target::mappings::Mapping;
use nix::errno::Errno;
use nix::unistd::Pid;

/// Executable memory that is searched, in bytes.
const SEARCH_LIMIT: u64 = 32 * 1024 * 1024;
/// Memory read at once, in bytes.
const CHUNK: u64 = 256 * 1024;
/// Bytes of a chunk that the next one repeats, longer than anything that is looked for.
const OVERLAP: u64 = 128;

/// A system call instruction of the target, and what a thread comes to behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gadgets {
    /// The system call instruction.
    pub(crate) call: u64,
    /// How a thread leaves it by itself, if there is such code.
    pub(crate) exit: Option<Exit>,
}

/// How a thread goes on that nobody stops behind the system call instruction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exit {
    /// Where it finds the address that it returns to.
    pub(crate) way_out: WayOut,
    /// Code that it can return to and that calls rt_sigreturn.
    pub(crate) signal_return: u64,
}

/// What is being looked for.
#[derive(Default)]
struct Search {
    call: Option<u64>,
    returning_call: Option<(u64, WayOut)>,
    signal_return: Option<u64>,
}

impl Gadgets {
    /// Looks for them: in the vDSO, then in the C library, then in any code of the target.
    pub(crate) fn find(pid: Pid, tid: Pid, mappings: &[Mapping]) -> Result<Self> {
        let mut code: Vec<&Mapping> = mappings.iter().filter(|mapping| mapping.is_executable()).collect();
        code.sort_by_key(|mapping| (!mapping.is_vdso(), !mapping.is_c_library(), mapping.length()));
        let mut search = Search::default();
        let mut left = SEARCH_LIMIT;
        for mapping in code {
            let end = mapping.end.min(mapping.start.saturating_add(left));
            left -= end - mapping.start;
            let mut address = mapping.start;
            while address < end && !search.is_complete() {
                let length = (end - address).min(CHUNK);
                search.chunk(tid, address, length).map_err(|cause| Error::Refused {
                    pid: pid.as_raw(),
                    reason: format!(
                        "its code at {address:#x} can't be read: whoever keeps that page back (a file system, a \
                         userfaultfd) does not answer: {}",
                        cause.desc()
                    ),
                })?;
                address += if length == CHUNK { CHUNK - OVERLAP } else { length };
            }
        }
        search.found().ok_or_else(|| Error::Refused {
            pid: pid.as_raw(),
            reason: "no system call instruction was found in its code".into(),
        })
    }
}

impl Search {
    fn is_complete(&self) -> bool {
        self.returning_call.is_some() && self.signal_return.is_some()
    }

    fn chunk(&mut self, tid: Pid, address: u64, length: u64) -> std::result::Result<(), Errno> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = match read_remote(tid, address, &mut bytes) {
            Err(Errno::ETIMEDOUT) => return Err(Errno::ETIMEDOUT),
            // what can't be read (a mapping without the right to read) is passed over
            read => read.unwrap_or(0),
        };
        bytes.truncate(read);
        for offset in (0..bytes.len()).step_by(CODE_ALIGNMENT) {
            let rest = bytes.get(offset..).unwrap_or_default();
            let Some(instruction) = system_call_at(rest) else { continue };
            let behind = offset + instruction.length;
            let at = |offset: usize| address + offset as u64 + instruction.mode;
            self.call.get_or_insert(at(offset));
            if self.returning_call.is_none() {
                let way_out = bytes.get(behind..).and_then(|code| way_out(code, instruction.mode));
                self.returning_call = way_out.map(|way_out| (at(offset), way_out));
            }
            if self.signal_return.is_none() {
                let before = bytes.get(..behind).unwrap_or_default();
                let ending = SIGNAL_RETURNS.iter().find(|code| before.ends_with(code));
                self.signal_return = ending.map(|code| at(behind - code.len()));
            }
            if self.is_complete() {
                break;
            }
        }
        Ok(())
    }

    fn found(&self) -> Option<Gadgets> {
        match (self.returning_call, self.signal_return) {
            (Some((call, way_out)), Some(signal_return)) => {
                Some(Gadgets { call, exit: Some(Exit { way_out, signal_return }) })
            }
            _ => self.call.map(|call| Gadgets { call, exit: None }),
        }
    }
}
