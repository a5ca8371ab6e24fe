//! System calls that threads waited in when they were stopped: what the kernel tells of them, and how they begin anew.

use super::{Anew, Memory, Thread, Tracees, resume, set_registers, stop_when_it_goes_on};
use crate::arch::{self, Registers};
use crate::error::{Error, Result};
use crate::sys::memory::read_remote;
use crate::sys::ptrace::{self, Stop};
use crate::target::proc_directory::ProcDirectory;
use crate::target::status::Status;
use crate::trace::STEP_SECONDS;
use nix::errno::Errno;
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// How often a thread is let go that is to enter its call.
const ATTEMPTS: u32 = 4;

/// Where a thread is stopped that was to enter its call.
pub(super) enum Entered {
    /// At the entry.
    Call,
    /// Elsewhere, and is to be let go with this signal.
    Not(i32),
}

impl Tracees {
    /// Calls that return EINTR though no signal came were interrupted by us: they are repeated
    /// (kernel fact 34).
    ///
    /// Where registers don't tell, such a thread may as well have come out of a signal handler just now, to the end of a call that the
    /// signal did interrupt; what its call would be repeated with is anything then. So that is done only for one that was seen to
    /// wait, or that has no handlers. Results that only the kernel itself sees leave no doubt.
    pub(crate) fn note_interrupted_calls(&mut self, directory: &ProcDirectory) -> Result<()> {
        let (waiting, is_alone) = (&self.waiting, self.threads.len() + self.running.len() == 1);
        for (&tid, thread) in &mut self.threads {
            match look_at_code(tid, &mut thread.registers) {
                // its code is in the image
                Err(Errno::ETIMEDOUT) if self.memory == Memory::MayBeMissing => continue,
                looked => looked.map_err(Error::system("reading what comes next in thread", tid))?,
            }
            // not close(2), which has closed its descriptor all the same
            if thread.registers.was_interrupted() && thread.registers.entered_call().0 != libc::SYS_close {
                let is_certain = thread.registers.result() != -i64::from(libc::EINTR);
                let status = Status::read(&directory.thread(tid)?)?;
                let waited =
                    arch::TELLS_ENDED_CALL || waiting.contains_key(&tid) || status.caught_signals == 0;
                // whatever runs no handler ends no call; one for the process ends the call of one thread, and who that is shows when
                // they go on
                let others = if is_alone { 0 } else { status.shared_signals };
                let is_ended = status.deliverable_signals & status.caught_signals & !others != 0;
                if !is_certain && (is_ended || !waited) {
                    continue;
                }
                let argument = match thread.registers.argument_before() {
                    Some(argument) => argument,
                    None => ptrace::first_argument(tid)
                        .map_err(Error::system("looking at the call of thread", tid))?,
                };
                thread.found = Some(thread.registers);
                thread.registers.repeat_system_call(argument);
                thread.anew = Anew::Call;
                set_registers(tid, &thread.registers)?;
            }
        }
        Ok(())
    }

    /// Finds out whether a stopped thread goes on through the kernel's restart block, where that shows only when it enters
    /// its call again: it does so, and is stopped in it again.
    pub(crate) fn find_restart(&mut self, tid: Pid) -> Result<()> {
        let Some(before) = self.threads.get(&tid).map(|thread| thread.registers) else { return Ok(()) };
        if !before.may_need_restart_block() {
            return Ok(());
        }
        self.threads.remove(&tid);
        self.running.insert(tid);
        let deadline = in_a_while();
        let is_restart = match self.run_to_call(tid, deadline)? {
            Stop::SystemCall => {
                let call =
                    ptrace::entered_call(tid).map_err(Error::system("looking at the call of thread", tid))?;
                stop_when_it_goes_on(tid, 0)?;
                call.is_some_and(|(number, _)| number == libc::SYS_restart_syscall)
            }
            Stop::Signal(signal) => {
                stop_when_it_goes_on(tid, signal)?;
                false
            }
            Stop::Trap | Stop::JobControl | Stop::Exited => {
                return Err(self.refused(format!("its thread {tid} does not enter its system call")));
            }
        };
        self.wait_while(deadline, |tracees| tracees.running.contains(&tid))?;
        let thread = self
            .threads
            .get_mut(&tid)
            .ok_or(Error::Lost { pid: self.pid.as_raw(), when: "during the operation" })?;
        look_at_code(tid, &mut thread.registers)
            .map_err(Error::system("reading what comes next in thread", tid))?;
        if is_restart {
            thread.registers.note_restart(&before);
        }
        Ok(())
    }

    /// Lets a thread go on that is at a call, up to that. Job control may stop it once more before it gets there.
    fn run_to_call(&mut self, tid: Pid, deadline: Instant) -> Result<Stop> {
        let mut stop = Stop::JobControl;
        for _ in 0..ATTEMPTS {
            resume(ptrace::resume_to_system_call(tid, 0), tid)?;
            stop = self.wait_for(tid, Some(deadline))?;
            if !matches!(stop, Stop::Trap | Stop::JobControl) {
                break;
            }
        }
        Ok(stop)
    }

    /// Notes that a thread was moved about, so that the kernel has forgotten the call in which it waited.
    pub(crate) fn note_call_anew(&mut self, tid: Pid) {
        if let Some(thread) = self.threads.get_mut(&tid) {
            if thread.registers.is_at_call() {
                thread.anew = Anew::Call;
            }
        }
    }

    /// Has a thread enter its call, as one that goes on through the restart block if it was that, and stops it at the entry:
    /// a signal with a handler ends it then, as it does when nobody was here. One without a handler does what it does before, and ends
    /// no call.
    ///
    /// Where job control has stopped the process, only a call that does nothing but wait is entered: any other would be done now.
    pub(super) fn enter_call(&mut self, tid: Pid, thread: &Thread) -> Result<Entered> {
        let mut mask = None;
        let entered = self.run_into_call(tid, thread, &mut mask);
        if let Some(mask) = mask {
            if entered.is_err() {
                // nobody knows where it is, and only one that is stopped can have its mask
                let _ = ptrace::interrupt(tid);
                let _ = self.wait_for(tid, Some(in_a_while()));
            }
            ptrace::set_signal_mask(tid, mask)
                .map_err(Error::system("setting the signal mask of thread", tid))?;
        }
        let registers = &thread.registers;
        if matches!(entered, Ok(Entered::Call)) && registers.restart_by_entry() {
            arch::set_call(tid, Some(libc::SYS_restart_syscall))
                .map_err(Error::system("setting the call of thread", tid))?;
        }
        entered
    }

    /// Whoever blocks signals for that leaves the mask that was there in `mask`.
    fn run_into_call(&mut self, tid: Pid, thread: &Thread, mask: &mut Option<u64>) -> Result<Entered> {
        let deadline = in_a_while();
        let (call, _) = thread.found.as_ref().unwrap_or(&thread.registers).entered_call();
        let only_waits = thread.registers.restart_by_entry() || arch::only_waits(call);
        let mut passed_on = 0;
        loop {
            // somebody may send signals all the time
            if (self.is_stopped && !only_waits) || Instant::now() >= deadline {
                return Ok(Entered::Not(passed_on));
            }
            resume(ptrace::resume_to_system_call(tid, passed_on), tid)?;
            passed_on = 0;
            match self.wait_for(tid, Some(deadline))? {
                Stop::SystemCall => return Ok(Entered::Call),
                Stop::Signal(signal) if self.handlers & ptrace::signal_bit(signal) == 0 => passed_on = signal,
                Stop::Signal(signal) => {
                    if let Some(found) = &thread.found {
                        // just what it would have found
                        set_registers(tid, found)?;
                        return Ok(Entered::Not(signal));
                    }
                    // it is to end the call, not to come before it: blocked, the kernel queues it anew
                    if mask.is_none() {
                        let failed = |operation| Error::system(operation, tid);
                        *mask = Some(
                            ptrace::signal_mask(tid).map_err(failed("reading the signal mask of thread"))?,
                        );
                        ptrace::set_signal_mask(tid, u64::MAX)
                            .map_err(failed("setting the signal mask of thread"))?;
                    }
                    passed_on = signal;
                }
                Stop::Trap | Stop::JobControl | Stop::Exited => {}
            }
        }
    }
}

/// By when a step must be done.
fn in_a_while() -> Instant {
    Instant::now() + Duration::from_secs(STEP_SECONDS)
}

/// Where only code tells whether a thread is about to make a call, or has just made one: looks at it.
fn look_at_code(tid: Pid, registers: &mut Registers) -> std::result::Result<(), Errno> {
    let address = registers.instruction_pointer();
    if !registers.are_told_by_code() {
        return Ok(());
    }
    let mut code = [0; 8];
    match read_remote(tid, address.wrapping_sub(4), &mut code) {
        Ok(8) => registers.take_notice_of(&code),
        Err(Errno::ETIMEDOUT) => return Err(Errno::ETIMEDOUT),
        // the end of a mapping
        Ok(_) | Err(_) => {}
    }
    Ok(())
}
