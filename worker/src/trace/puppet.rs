//! One thread of the target that calls the kernel for us, without a changed byte of its program
//! (kernel facts 19 and 20).

use crate::arch::{self, Departure, Registers, VectorState};
use crate::error::{Error, Result};
use crate::sys::error_of;
use crate::sys::ptrace::{self, Stop};
use crate::trace::place::Place;
use crate::trace::tracees::Tracees;
use crate::trace::way_home::{Site, WayHome};
use crate::trace::{STEP_SECONDS, blob};
use libc::c_long;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// A system call that a thread has made by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// Which one.
    pub(crate) number: c_long,
    /// Its first argument, where that is a descriptor.
    pub(crate) argument: RawFd,
    /// Negative for an error number.
    pub(crate) result: i64,
}

impl Call {
    /// Why it failed, if it did.
    pub(crate) fn error(&self) -> Option<Errno> {
        (self.result < 0).then(|| error_of(self.result))
    }

    /// Whether it is the last one of a parasite (see [`memcr_protocol::parasite`]).
    pub(crate) fn is_farewell(&self) -> bool {
        self.number == libc::SYS_close && self.argument == -1
    }
}

/// A borrowed thread; [`Puppet::release`] gives it back.
///
/// It goes on unharmed whenever this process dies: as itself while it doesn't work for us, by its
/// [`WayHome`] while it makes a call. For that its signal mask is changed after its registers on the way
/// into a call, and put back before them on the way out: the way home sets both.
pub(crate) struct Puppet {
    tid: Pid,
    home: Registers,
    vector_state: VectorState,
    signal_mask: u64,
    /// Where calls are made.
    instruction: u64,
    /// By what it finds its way home from calls.
    departure: Option<Departure>,
    stop_signal: i32,
    /// Whether it runs under a seccomp filter of its own.
    is_filtered: bool,
    /// Whether it runs the parasite.
    is_parasite: bool,
    /// Whether it has stepped aside.
    is_aside: bool,
    /// Time for one step; none once it must be waited for, however long it takes.
    patience: Option<Duration>,
}

impl Puppet {
    /// Borrows a thread: remembers how it was. The way home must have been laid for this thread.
    pub(crate) fn borrow(
        tracees: &Tracees,
        tid: Pid,
        site: &Site,
        way_home: Option<&WayHome>,
    ) -> Result<Self> {
        let thread = tracees.thread(tid).ok_or_else(|| tracees.lost())?;
        let signal_mask =
            ptrace::signal_mask(tid).map_err(Error::system("reading the signal mask of thread", tid))?;
        Ok(Self {
            tid,
            home: thread.registers,
            vector_state: tracees.vector_state(tid)?,
            signal_mask,
            instruction: site.gadgets.call,
            departure: way_home.map(|way| way.departure),
            stop_signal: 0,
            is_filtered: false,
            is_parasite: false,
            is_aside: false,
            patience: Some(Duration::from_secs(STEP_SECONDS)),
        })
    }

    /// Its thread has a seccomp filter of its own, which may answer a call of ours with SIGSYS. The program never gets
    /// that, nor loses its handler by it, which a blocked one would cost: so it isn't blocked in single calls.
    pub(crate) fn expect_traps(&mut self) {
        self.is_filtered = true;
    }

    /// Whether its filter has answered the call behind which it is stopped with a trap.
    fn is_trapped(&self) -> Result<bool> {
        Ok(self.is_filtered
            && ptrace::has_queued_trap(self.tid)
                .map_err(Error::system("reading the queued signals of thread", self.tid))?)
    }

    /// Takes the trap away with which its filter answered a single call, if it did; whether it did. The thread runs
    /// none of its program: the signal comes first.
    fn take_trap(&self, tracees: &mut Tracees) -> Result<bool> {
        if !self.is_trapped()? {
            return Ok(false);
        }
        ptrace::resume(self.tid, 0).map_err(|_| tracees.lost())?;
        match tracees.wait_for(self.tid, self.deadline())? {
            Stop::Signal(libc::SIGSYS) => Ok(true),
            _ => Err(tracees.lost()),
        }
    }

    /// Has the parasite take the call that its filter trapped for one that the kernel doesn't know: what it finds as the result
    /// is the number of the call, which it would take for a descriptor.
    fn deny_trapped_call(&self, tracees: &Tracees) -> Result<()> {
        let mut registers = self.registers(tracees)?;
        registers.set_result(-i64::from(libc::ENOSYS));
        self.set_registers(&registers)
    }

    /// From now on every step is waited for: memory is being freed, and nothing can be given back before
    /// that has ended.
    pub(crate) fn wait_without_limit(&mut self) {
        self.patience = None;
    }

    /// From now on steps have their limit again.
    pub(crate) fn wait_with_limit(&mut self) {
        self.patience = Some(Duration::from_secs(STEP_SECONDS));
    }

    /// When a step that begins now has to be done.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.patience.map(|patience| Instant::now() + patience)
    }

    /// Its thread id.
    pub(crate) fn tid(&self) -> Pid {
        self.tid
    }

    /// Where it was.
    pub(crate) fn home(&self) -> &Registers {
        &self.home
    }

    /// Its floating-point and vector state there.
    pub(crate) fn vector_state(&self) -> &VectorState {
        &self.vector_state
    }

    /// What it blocked.
    pub(crate) fn signal_mask(&self) -> u64 {
        self.signal_mask
    }

    /// Lets the thread make one system call; the result, negative for an error number.
    pub(crate) fn call(&mut self, tracees: &mut Tracees, number: c_long, arguments: [u64; 6]) -> Result<i64> {
        let answer = self.try_call(tracees, number, arguments)?;
        answer.ok_or_else(|| Error::Refused {
            pid: tracees.pid().as_raw(),
            reason: "its seccomp filter answers a call that memcr makes in it with a trap".into(),
        })
    }

    /// The same; nothing if its filter answers with a trap.
    pub(crate) fn try_call(
        &mut self,
        tracees: &mut Tracees,
        number: c_long,
        arguments: [u64; 6],
    ) -> Result<Option<i64>> {
        self.step_aside(tracees)?;
        self.set_registers(&self.home.for_call(self.instruction, self.departure, number, arguments))?;
        self.set_signal_mask(if self.is_filtered { !ptrace::signal_bit(libc::SIGSYS) } else { u64::MAX })?;
        let result = self.run_call(tracees);
        let is_trapped = result.is_ok() && self.take_trap(tracees)?;
        self.go_home()?;
        Ok(result.map(Some)?.filter(|_| !is_trapped))
    }

    /// Takes a thread away that waited at the very instruction by which we make calls: the kernel would take the first of
    /// them for that one, and begin it anew.
    fn step_aside(&mut self, tracees: &mut Tracees) -> Result<()> {
        if !self.home.is_at_call()
            || self.is_aside
            || self.home.instruction_pointer() != self.instruction & !1
        {
            return Ok(());
        }
        self.is_aside = true;
        self.set_registers(&self.home.behind_call(self.instruction, self.departure))?;
        self.set_signal_mask(u64::MAX)?;
        self.leave_call(tracees)?;
        self.go_home()
    }

    fn run_call(&mut self, tracees: &mut Tracees) -> Result<i64> {
        for _ in ["entry", "exit"] {
            self.run_to_system_call(tracees)?;
        }
        Ok(self.registers(tracees)?.result())
    }

    /// Makes the stopped thread what it was. Where vectors are longer than the registers of old, each system call forgets them.
    pub(crate) fn go_home(&mut self) -> Result<()> {
        self.is_parasite = false;
        self.set_signal_mask(self.signal_mask)?;
        // before the registers, so that the thread is never itself with a vector state of the parasite's
        ptrace::set_vector_state(self.tid, &self.vector_state)
            .map_err(Error::system("restoring the vector state of thread", self.tid))?;
        self.set_registers(&self.home)
    }

    /// Like [`Puppet::call`], with an error number as an error.
    pub(crate) fn call_checked(
        &mut self,
        tracees: &mut Tracees,
        operation: &'static str,
        number: c_long,
        arguments: [u64; 6],
    ) -> Result<u64> {
        let result = self.call(tracees, number, arguments)?;
        u64::try_from(result).map_err(|_| Error::System {
            operation,
            object: format!("in process {}", tracees.pid()),
            cause: error_of(result),
        })
    }

    /// Lets the thread run to the next entry or exit of a system call.
    pub(crate) fn run_to_system_call(&mut self, tracees: &mut Tracees) -> Result<()> {
        let deadline = self.deadline();
        loop {
            ptrace::resume_to_system_call(self.tid, 0).map_err(|_| tracees.lost())?;
            match tracees.wait_for(self.tid, deadline)? {
                Stop::SystemCall => return Ok(()),
                stop => self.note(stop, tracees)?,
            }
        }
    }

    /// Lets the thread, stopped anywhere but within a system call, make its next one by itself.
    pub(crate) fn next_call(&mut self, tracees: &mut Tracees) -> Result<Call> {
        self.run_to_system_call(tracees)?;
        // while it enters: on the way out an argument may be gone
        let (number, argument) = if arch::SHOWS_ENTERED_CALL {
            self.registers(tracees)?.entered_call()
        } else {
            let entered = ptrace::entered_call(self.tid);
            entered.map_err(Error::system("looking at the call of thread", self.tid))?.unwrap_or((-1, 0))
        };
        self.run_to_system_call(tracees)?;
        if self.is_trapped()? {
            self.deny_trapped_call(tracees)?;
        }
        let result = self.registers(tracees)?.result();
        Ok(Call { number, argument: argument as u32 as RawFd, result })
    }

    fn registers(&self, tracees: &Tracees) -> Result<Registers> {
        let registers =
            ptrace::registers(self.tid).map_err(Error::system("reading registers of thread", self.tid))?;
        registers.ok_or_else(|| tracees.lost())
    }

    /// Prepares the thread for a function of one argument on its own stack, which must find home by itself.
    pub(crate) fn prepare(&mut self, entry: u64, argument: u64, stack_top: u64) -> Result<()> {
        self.set_registers(&self.home.for_function(entry, argument, stack_top))?;
        self.is_parasite = true;
        self.set_signal_mask(u64::MAX)
    }

    /// Stops the running thread wherever it is; [`Puppet::go_home`] must follow.
    pub(crate) fn stop(&mut self, tracees: &mut Tracees) -> Result<()> {
        let deadline = self.deadline();
        ptrace::interrupt(self.tid).map_err(|_| tracees.lost())?;
        loop {
            match tracees.wait_for(self.tid, deadline)? {
                Stop::Trap | Stop::JobControl => return Ok(()),
                stop => {
                    self.note(stop, tracees)?;
                    // this stop has taken the one with it that was asked for
                    ptrace::resume(self.tid, 0)
                        .and_then(|()| ptrace::interrupt(self.tid))
                        .map_err(|_| tracees.lost())?;
                }
            }
        }
    }

    /// Whether the stopped thread was waiting in this system call of the parasite, which is in this place, and will begin
    /// it anew.
    pub(crate) fn is_interrupted_in(&self, call: c_long, place: &Place, tracees: &Tracees) -> Result<bool> {
        let registers = self.registers(tracees)?;
        Ok(registers
            .is_interrupted_in(&[call], blob::code_at(place.address, registers.instruction_pointer())))
    }

    /// Only what can't be blocked, or isn't, gets here: a stop signal is kept for later; a fault is ours.
    pub(crate) fn note(&mut self, stop: Stop, tracees: &Tracees) -> Result<()> {
        match stop {
            Stop::Signal(signal) if signal == Signal::SIGSTOP as i32 => {
                self.stop_signal = signal;
                Ok(())
            }
            // that which is blocked comes only as the answer of its filter
            Stop::Signal(libc::SIGSYS) if self.is_filtered && self.is_parasite => {
                self.deny_trapped_call(tracees)
            }
            // somebody has sent it: it is the program's
            Stop::Signal(libc::SIGSYS) if self.is_filtered => {
                self.stop_signal = libc::SIGSYS;
                Ok(())
            }
            Stop::Signal(signal) => Err(Error::Refused {
                pid: tracees.pid().as_raw(),
                reason: format!("its thread {} got signal {signal} while it worked for memcr", self.tid),
            }),
            Stop::Trap | Stop::JobControl | Stop::SystemCall | Stop::Exited => Ok(()),
        }
    }

    /// Gives the thread back, stopped as it was found. Not to be called after a step of it has failed: then
    /// nobody knows where it is, and it finds home by itself when this process ends.
    ///
    /// It goes through the kernel's way out once more, to a stop at which an interrupted system call is
    /// still to be restarted.
    pub(crate) fn release(mut self, tracees: &mut Tracees) -> Result<()> {
        self.go_home()?;
        ptrace::interrupt(self.tid).map_err(|_| tracees.lost())?;
        ptrace::resume(self.tid, std::mem::take(&mut self.stop_signal)).map_err(|_| tracees.lost())?;
        self.settle(tracees)?;
        // some kernels take no notice of a register that is set behind a system call
        self.set_registers(&self.home)?;
        tracees.note_call_anew(self.tid);
        Ok(())
    }

    /// Waits for the stop that it was asked for.
    fn settle(&self, tracees: &mut Tracees) -> Result<()> {
        match tracees.wait_for(self.tid, self.deadline())? {
            Stop::Trap | Stop::JobControl => Ok(()),
            _ => Err(tracees.lost()),
        }
    }

    /// Has the thread, stopped behind a system call, stop where its registers can all be set.
    pub(crate) fn leave_call(&self, tracees: &mut Tracees) -> Result<()> {
        ptrace::interrupt(self.tid).map_err(|_| tracees.lost())?;
        ptrace::resume(self.tid, 0).map_err(|_| tracees.lost())?;
        self.settle(tracees)
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
