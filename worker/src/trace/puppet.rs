//! One thread of the target that calls the kernel for us, without a changed byte of its program
//! (kernel facts 19 and 20).

use crate::arch::{Registers, SYSTEM_CALL_INSTRUCTION};
use crate::error::{Error, Result};
use crate::sys::memory::read_remote;
use crate::sys::ptrace::{self, Stop};
use crate::target::mappings::Mapping;
use crate::trace::STEP_SECONDS;
use crate::trace::tracees::Tracees;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// Executable memory that is searched for a system call instruction, in bytes.
const SEARCH_LIMIT: usize = 16 * 1024 * 1024;

/// A borrowed thread. It has its own registers and signal mask whenever it doesn't work for us, so that
/// it goes on unharmed should this process die in between; [`Puppet::release`] gives it back.
pub(crate) struct Puppet {
    tid: Pid,
    home: Registers,
    signal_mask: u64,
    instruction: u64,
    stop_signal: i32,
}

impl Puppet {
    /// Borrows a thread: remembers how it was.
    pub(crate) fn borrow(tracees: &Tracees, tid: Pid, instruction: u64) -> Result<Self> {
        let thread = tracees.thread(tid).ok_or_else(|| tracees.lost())?;
        let signal_mask =
            ptrace::signal_mask(tid).map_err(Error::system("reading the signal mask of thread", tid))?;
        Ok(Self { tid, home: thread.registers, signal_mask, instruction, stop_signal: 0 })
    }

    /// Its thread id.
    pub(crate) fn tid(&self) -> Pid {
        self.tid
    }

    /// Where it was.
    pub(crate) fn home(&self) -> &Registers {
        &self.home
    }

    /// What it blocked.
    pub(crate) fn signal_mask(&self) -> u64 {
        self.signal_mask
    }

    /// Lets the thread make one system call; the result, negative for an error number.
    pub(crate) fn call(&mut self, tracees: &mut Tracees, number: i64, arguments: [u64; 6]) -> Result<i64> {
        self.set_signal_mask(u64::MAX)?;
        self.set_registers(&self.home.for_call(self.instruction, number, arguments))?;
        let result = self.run_call(tracees);
        self.go_home()?;
        result
    }

    fn run_call(&mut self, tracees: &mut Tracees) -> Result<i64> {
        for _ in ["entry", "exit"] {
            self.run_to_system_call(tracees)?;
        }
        let registers =
            ptrace::registers(self.tid).map_err(Error::system("reading registers of thread", self.tid))?;
        registers.map(|registers| registers.result()).ok_or_else(|| tracees.lost())
    }

    /// Makes the stopped thread what it was.
    fn go_home(&self) -> Result<()> {
        self.set_registers(&self.home)?;
        self.set_signal_mask(self.signal_mask)
    }

    /// Like [`Puppet::call`], with an error number as an error.
    pub(crate) fn call_checked(
        &mut self,
        tracees: &mut Tracees,
        operation: &'static str,
        number: i64,
        arguments: [u64; 6],
    ) -> Result<u64> {
        let result = self.call(tracees, number, arguments)?;
        u64::try_from(result).map_err(|_| Error::System {
            operation,
            object: format!("in process {}", tracees.pid()),
            cause: Errno::from_raw(i32::try_from(-result).unwrap_or(0)),
        })
    }

    fn run_to_system_call(&mut self, tracees: &mut Tracees) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(STEP_SECONDS);
        loop {
            ptrace::resume_to_system_call(self.tid, 0).map_err(|_| tracees.lost())?;
            match tracees.wait_for(self.tid, deadline)? {
                Stop::SystemCall => return Ok(()),
                stop => self.note(stop, tracees)?,
            }
        }
    }

    /// Starts a function of one argument on its own stack; the thread runs then.
    pub(crate) fn start(
        &mut self,
        entry: u64,
        argument: u64,
        stack_top: u64,
        tracees: &Tracees,
    ) -> Result<()> {
        self.set_signal_mask(u64::MAX)?;
        self.set_registers(&self.home.for_function(entry, argument, stack_top))?;
        ptrace::resume(self.tid, 0).map_err(|_| tracees.lost())
    }

    /// Stops the running thread wherever it is, and makes it what it was.
    pub(crate) fn stop(&mut self, tracees: &mut Tracees) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(STEP_SECONDS);
        ptrace::interrupt(self.tid).map_err(|_| tracees.lost())?;
        loop {
            match tracees.wait_for(self.tid, deadline)? {
                Stop::Trap => return self.go_home(),
                stop => {
                    self.note(stop, tracees)?;
                    ptrace::resume(self.tid, 0).map_err(|_| tracees.lost())?;
                }
            }
        }
    }

    /// Only what can't be blocked gets here: a stop signal is kept for later; a fault is ours.
    pub(crate) fn note(&mut self, stop: Stop, tracees: &Tracees) -> Result<()> {
        match stop {
            Stop::Signal(signal) if signal == Signal::SIGSTOP as i32 => {
                self.stop_signal = signal;
                Ok(())
            }
            Stop::Signal(signal) => Err(Error::Refused {
                pid: tracees.pid().as_raw(),
                reason: format!("its thread {} got signal {signal} while it worked for memcr", self.tid),
            }),
            Stop::Trap | Stop::SystemCall | Stop::Exited => Ok(()),
        }
    }

    /// Gives the thread back, stopped as it was found.
    ///
    /// It goes through the kernel's way out once more, to a stop at which an interrupted system call is
    /// still to be restarted.
    pub(crate) fn release(mut self, tracees: &mut Tracees) -> Result<()> {
        self.go_home()?;
        ptrace::interrupt(self.tid).map_err(|_| tracees.lost())?;
        ptrace::resume(self.tid, std::mem::take(&mut self.stop_signal)).map_err(|_| tracees.lost())?;
        let deadline = Instant::now() + Duration::from_secs(STEP_SECONDS);
        match tracees.wait_for(self.tid, deadline)? {
            Stop::Trap => Ok(()),
            _ => Err(tracees.lost()),
        }
    }

    fn set_signal_mask(&self, mask: u64) -> Result<()> {
        ptrace::set_signal_mask(self.tid, mask)
            .map_err(Error::system("setting the signal mask of thread", self.tid))
    }

    fn set_registers(&self, registers: &Registers) -> Result<()> {
        ptrace::set_registers(self.tid, registers)
            .map_err(Error::system("setting registers of thread", self.tid))
    }
}

/// Address of a system call instruction in the target: in the vDSO, else in any of its code.
pub(crate) fn find_instruction(pid: Pid, mappings: &[Mapping]) -> Result<u64> {
    let mut code: Vec<&Mapping> = mappings.iter().filter(|mapping| mapping.is_executable()).collect();
    code.sort_by_key(|mapping| !mapping.is_vdso());
    let mut left = SEARCH_LIMIT;
    for mapping in code {
        let length = usize::try_from(mapping.length()).unwrap_or(usize::MAX).min(left);
        let mut bytes = vec![0; length];
        // what can't be read (a mapping without the right to read) is passed over
        let read = read_remote(pid, mapping.start, &mut bytes).unwrap_or(0);
        bytes.truncate(read);
        let wanted = SYSTEM_CALL_INSTRUCTION;
        if let Some(offset) = bytes.windows(wanted.len()).position(|window| window == wanted) {
            return Ok(mapping.start + offset as u64);
        }
        left -= length;
    }
    Err(Error::Refused {
        pid: pid.as_raw(),
        reason: "no system call instruction was found in its code".into(),
    })
}
