//! All threads of the target, stopped.

use crate::arch::{self, Registers};
use crate::error::{Error, Result};
use crate::sys::memory::read_remote;
use crate::sys::pidfd;
use crate::sys::poll::{remaining, wait};
use crate::sys::ptrace::{self, Stop};
use crate::target::proc_directory::{NotTold, ProcDirectory};
use crate::target::status::Status;
use crate::trace::{STEP_SECONDS, blob};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

/// Time between two looks whether an orphaned parasite has gone home.
const LOOK: Duration = Duration::from_millis(1);

/// One thread of the target.
#[derive(Clone, Copy)]
pub(crate) struct Thread {
    /// Its registers.
    pub(crate) registers: Registers,
    /// Whether they were changed so that it begins something anew.
    anew: Anew,
}

/// What a thread begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Anew {
    Nothing,
    /// A system call, of which the kernel knows nothing any more.
    Call,
    /// A restartable sequence.
    Sequence,
}

/// The seized threads. Dropped without [`Tracees::release`], the kernel lets them go on when this
/// process ends.
pub(crate) struct Tracees {
    pid: Pid,
    threads: BTreeMap<Pid, Thread>,
    /// Seized, but not stopped yet.
    running: BTreeSet<Pid>,
    signals: SignalFd,
    memory: Memory,
    /// Whether job control has stopped it, by the last that was heard.
    is_stopped: bool,
}

/// Where a thread is stopped that was to enter its call.
enum Entered {
    /// At the entry.
    Call,
    /// Elsewhere, and is to be let go with this signal.
    Not(i32),
}

/// Whether all memory of a target is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    There,
    /// What is missing, somebody waits for.
    MayBeMissing,
}

impl Tracees {
    /// Seizes and stops every thread, until a look at the list finds no new one: then none is left
    /// that could make another. A few seconds are given for that, and none beyond `limit`.
    pub(crate) fn seize(pid: Pid, directory: &ProcDirectory, limit: Option<Instant>) -> Result<Self> {
        let (began, deadline) = (Instant::now(), Instant::now() + Duration::from_secs(STEP_SECONDS));
        let deadline = limit.map_or(deadline, |limit| limit.min(deadline));
        let tracees = Self::seize_with(pid, directory, deadline, Memory::There)?;
        let Some(tid) = tracees.running.first() else { return Ok(tracees) };
        let seconds = began.elapsed().as_secs();
        let error = tracees.refused(format!(
            "its thread {tid} did not stop within {seconds} seconds; it is in an uninterruptible wait (a frozen \
             cgroup, vfork, a slow file system), try again later"
        ));
        tracees.release();
        Err(error)
    }

    /// Seizes every thread and waits until the deadline for them to stop. Those that wait in the kernel
    /// for a guarded page can't stop before they get it: [`Tracees::wait_for_rest`] then.
    pub(crate) fn seize_until(pid: Pid, directory: &ProcDirectory, deadline: Instant) -> Result<Self> {
        Self::seize_with(pid, directory, deadline, Memory::MayBeMissing)
    }

    fn seize_with(pid: Pid, directory: &ProcDirectory, deadline: Instant, memory: Memory) -> Result<Self> {
        let (threads, running) = (BTreeMap::new(), BTreeSet::new());
        let mut tracees =
            Self { pid, threads, running, signals: child_signals()?, memory, is_stopped: false };
        match tracees.seize_all(directory, deadline) {
            Ok(()) => Ok(tracees),
            Err(error) => {
                // those that have stopped run on before anybody is told; the rest when this process ends
                tracees.release();
                Err(error)
            }
        }
    }

    fn seize_all(&mut self, directory: &ProcDirectory, deadline: Instant) -> Result<()> {
        let mut gone = BTreeSet::new();
        loop {
            let listed = directory.numbers("task")?.into_iter().map(Pid::from_raw);
            let is_known = |tid: &Pid| {
                self.threads.contains_key(tid) || self.running.contains(tid) || gone.contains(tid)
            };
            let new: Vec<Pid> = listed.filter(|tid| !is_known(tid)).collect();
            if new.is_empty() {
                break;
            }
            for tid in new {
                if self.seize_thread(tid, directory)? {
                    self.running.insert(tid);
                } else {
                    gone.insert(tid);
                }
            }
            self.wait_until_stopped(deadline)?;
            // a thread that vanishes in another's execve tells nobody
            let listed = directory.numbers("task")?;
            self.running.retain(|tid| listed.contains(&tid.as_raw()));
        }
        if self.threads.is_empty() && self.running.is_empty() {
            return Err(Error::NoSuchProcess { pid: self.pid.as_raw() });
        }
        self.note_interrupted_calls(directory)
    }

    /// Whether the thread is seized now; `false` if it has exited.
    ///
    /// The number may be another's by now, and ptrace knows numbers only. Seizing stops nobody: whoever it was is looked
    /// at before it is stopped, by the directory of the target, which no other process has. A stranger is let go by the end of
    /// this process, and notices nothing.
    fn seize_thread(&self, tid: Pid, directory: &ProcDirectory) -> Result<bool> {
        let seized = ptrace::seize(tid, ptrace::TRACE_SYSGOOD);
        if seized.is_ok() && directory.thread(tid).is_err() {
            // unless it is nobody's: another thread has executed a program
            let is_a_strangers = ProcDirectory::open(tid).is_ok();
            return if is_a_strangers {
                Err(Error::NoSuchProcess { pid: self.pid.as_raw() })
            } else {
                Ok(false)
            };
        }
        match seized.and_then(|()| ptrace::interrupt(tid)) {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(cause) => {
                let Ok(status) = directory.thread(tid).and_then(|thread| Status::read(&thread)) else {
                    return Ok(false);
                };
                match status {
                    Status { state: 'Z' | 'X', .. } => Ok(false),
                    Status { tracer, .. } if tracer != 0 => Err(self.refused(format!(
                        "its thread {tid} is being traced by process {tracer}; detach that first"
                    ))),
                    _ => Err(Error::system("seizing thread", tid)(cause)),
                }
            }
        }
    }

    /// Waits for the threads that had not stopped.
    pub(crate) fn wait_for_rest(&mut self) -> Result<()> {
        self.wait_until_stopped(Instant::now() + Duration::from_secs(STEP_SECONDS))?;
        match self.running.first() {
            None => Ok(()),
            Some(tid) => Err(self.refused(format!("its thread {tid} does not stop"))),
        }
    }

    /// Takes what has happened to threads meanwhile.
    pub(crate) fn note_stops(&mut self) -> Result<()> {
        self.wait_until_stopped(Instant::now())?;
        self.drain_signals();
        while self.next_stop()?.is_some() {}
        Ok(())
    }

    fn wait_until_stopped(&mut self, deadline: Instant) -> Result<()> {
        self.wait_while(deadline, |tracees| !tracees.running.is_empty())
    }

    fn wait_while(&mut self, deadline: Instant, some_run: impl Fn(&Self) -> bool) -> Result<()> {
        while some_run(self) {
            match self.next_stop()? {
                Some((tid, Stop::Trap | Stop::JobControl)) => {
                    self.running.remove(&tid);
                    self.note_thread(tid)?;
                }
                // it must have its signal first
                Some((tid, Stop::Signal(signal))) => go_on_and_stop(tid, signal)?,
                Some((tid, Stop::SystemCall)) => go_on_and_stop(tid, 0)?,
                Some((_, Stop::Exited)) => {}
                None if self.wait_for_child(Some(deadline))? => {}
                None => break,
            }
        }
        Ok(())
    }

    /// Waits, however long it takes, until an orphaned parasite has closed its socket, given as number and
    /// inode, and no thread that is stopped is in its code.
    ///
    /// The socket tells more than where its thread is: one that waits in the kernel for a guarded page is not
    /// to be told from one that frees memory there.
    pub(crate) fn let_parasite_home(
        &mut self,
        socket: Option<(i32, u64)>,
        place: (u64, u64),
        (directory, target): (&ProcDirectory, BorrowedFd<'_>),
    ) -> Result<()> {
        while !self.tids().is_empty() {
            self.let_home_from(place)?;
            // it is in one of those that have not stopped, or nowhere
            if self.running.is_empty() || !self.has_descriptor(socket, directory, target) {
                break;
            }
            wait(&mut [], Some(LOOK)).map_err(Error::system("waiting for", "the parasite"))?;
            self.wait_until_stopped(Instant::now())?;
        }
        Ok(())
    }

    /// Whether a descriptor of the target, if one is given, is open and of this inode. Any thread that is still
    /// there knows.
    fn has_descriptor(
        &self,
        descriptor: Option<(i32, u64)>,
        directory: &ProcDirectory,
        target: BorrowedFd<'_>,
    ) -> bool {
        let Some((number, inode)) = descriptor else { return false };
        let of_thread = |tid| match directory.thread(tid).ok()?.inode_of_descriptor(number) {
            Ok(inode) => inode,
            // there is one that may be copied, or there would be no socket
            Err(NotTold) => pidfd::inode_of_descriptor(target, number),
        };
        self.tids().into_iter().any(|tid| of_thread(tid) == Some(inode))
    }

    /// Lets threads run that are stopped in the code of an orphaned parasite, until none is. What one of them waits for
    /// at its socket will never come, and it isn't told so if an accomplice holds the other end: the wait ends as if it
    /// were closed.
    pub(crate) fn let_home_from(&mut self, (start, length): (u64, u64)) -> Result<()> {
        let is_inside = |registers: &Registers| registers.instruction_pointer().wrapping_sub(start) < length;
        loop {
            for (&tid, thread) in &mut self.threads {
                let registers = &mut thread.registers;
                let code = blob::code_at(start, registers.instruction_pointer());
                if is_inside(registers)
                    && registers.is_interrupted_in(&[libc::SYS_recvmsg, libc::SYS_sendmsg], code)
                {
                    registers.end_system_call(0);
                    set_registers(tid, registers)?;
                }
            }
            if self.let_home(LOOK, is_inside)? {
                return Ok(());
            }
        }
    }

    /// Lets threads run that work for a worker that has died, until none does or the time is over; whether
    /// none does.
    pub(crate) fn let_home(
        &mut self,
        time: Duration,
        works_for_us: impl Fn(&Registers) -> bool,
    ) -> Result<bool> {
        let deadline = Instant::now() + time;
        loop {
            let inside: Vec<Pid> = self
                .threads
                .iter()
                .filter(|(_, thread)| works_for_us(&thread.registers))
                .map(|(&tid, _)| tid)
                .collect();
            if inside.is_empty() || Instant::now() >= deadline {
                return Ok(inside.is_empty());
            }
            for &tid in &inside {
                self.threads.remove(&tid);
                self.running.insert(tid);
                resume(ptrace::resume(tid, 0), tid)?;
            }
            wait(&mut [], Some(LOOK)).map_err(Error::system("waiting for", "the parasite"))?;
            for &tid in &inside {
                resume(ptrace::interrupt(tid), tid)?;
            }
            // not for others: they may wait for pages that are put back only when all this is done
            let deadline = Instant::now() + LOOK * 100;
            self.wait_while(deadline, |tracees| inside.iter().any(|tid| tracees.running.contains(tid)))?;
        }
    }

    fn note_thread(&mut self, tid: Pid) -> Result<()> {
        let registers = ptrace::registers(tid).map_err(Error::system("reading registers of thread", tid))?;
        let Some(registers) = registers else {
            // it is stopped all the same, and has to be let go
            let _ = ptrace::detach(tid, 0);
            return Err(self.refused("it is a program of another word size than this kernel's"));
        };
        self.threads.insert(tid, Thread { registers, anew: Anew::Nothing });
        Ok(())
    }

    /// Calls that return EINTR though no signal came were interrupted by us: they are repeated
    /// (kernel fact 34).
    pub(crate) fn note_interrupted_calls(&mut self, directory: &ProcDirectory) -> Result<()> {
        for (&tid, thread) in &mut self.threads {
            match look_at_code(tid, &mut thread.registers) {
                // its code is in the image
                Err(Errno::ETIMEDOUT) if self.memory == Memory::MayBeMissing => continue,
                looked => looked.map_err(Error::system("reading what comes next in thread", tid))?,
            }
            // not close(2), which has closed its descriptor all the same
            if thread.registers.was_interrupted()
                && thread.registers.entered_call().0 != libc::SYS_close
                && Status::read(&directory.thread(tid)?)?.deliverable_signals == 0
            {
                let argument = match thread.registers.argument_before() {
                    Some(argument) => argument,
                    None => ptrace::first_argument(tid)
                        .map_err(Error::system("looking at the call of thread", tid))?,
                };
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
        resume(ptrace::resume_to_system_call(tid, 0), tid)?;
        self.threads.remove(&tid);
        self.running.insert(tid);
        let deadline = Instant::now() + Duration::from_secs(STEP_SECONDS);
        let is_restart = match self.wait_for(tid, Some(deadline))? {
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
                self.running.remove(&tid);
                self.note_thread(tid)?;
                return Ok(());
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

    /// Process id of the target.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Ids of its threads, in order.
    pub(crate) fn tids(&self) -> Vec<Pid> {
        self.threads.keys().chain(&self.running).copied().collect()
    }

    /// Whether at least one of its threads is stopped.
    pub(crate) fn has_stopped(&self) -> bool {
        !self.threads.is_empty()
    }

    /// One of its threads.
    pub(crate) fn thread(&self, tid: Pid) -> Option<&Thread> {
        self.threads.get(&tid)
    }

    /// The thread that is best used for calls of ours: in a system call it can't be inside a restartable
    /// sequence, and without a restart block it would not even notice being sent home by a signal frame.
    pub(crate) fn puppet_candidate(&self) -> Option<Pid> {
        let rank = |thread: &Thread| {
            (
                !thread.registers.is_in_system_call() && thread.anew == Anew::Nothing,
                thread.registers.needs_restart_block(),
            )
        };
        self.threads.iter().min_by_key(|(_, thread)| rank(thread)).map(|(&tid, _)| tid)
    }

    /// Makes the thread go on with other registers, at which a sequence begins anew.
    pub(crate) fn change_registers(&mut self, tid: Pid, registers: Registers) -> Result<()> {
        set_registers(tid, &registers)?;
        self.threads.insert(tid, Thread { registers, anew: Anew::Sequence });
        Ok(())
    }

    /// Stack pointers of all threads.
    pub(crate) fn stack_pointers(&self) -> impl Iterator<Item = u64> + '_ {
        self.threads.values().map(|thread| thread.registers.stack_pointer())
    }

    /// Whether all threads die, from now on, when this process ends.
    pub(crate) fn set_exit_kill(&self, dies: bool) -> Result<()> {
        let options = ptrace::TRACE_SYSGOOD | if dies { ptrace::EXIT_KILL } else { 0 };
        for &tid in self.threads.keys() {
            match ptrace::set_options(tid, options) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(cause) => return Err(Error::system("setting options of thread", tid)(cause)),
            }
        }
        Ok(())
    }

    /// Lets all threads go on, with all of their memory. Those that have entered their calls again are let go by the end of this
    /// process: to be detached at the entry would interrupt them once more.
    pub(crate) fn release(mut self) {
        let threads = std::mem::take(&mut self.threads);
        let mut entered = Vec::new();
        let mut others = Vec::new();
        for (tid, thread) in threads {
            let is_to_enter = thread.anew == Anew::Call && !self.is_stopped;
            match is_to_enter.then(|| self.enter_call(tid, &thread.registers)) {
                Some(Ok(Entered::Call)) => entered.push(tid),
                Some(Ok(Entered::Not(signal))) => others.push((tid, signal)),
                // one that can't begin its call is let go before it
                None | Some(Err(_)) => others.push((tid, 0)),
            }
        }
        // only a thread that was killed meanwhile can fail. Nobody waits for stops any more: a signal that has stopped one
        // is delivered when this process ends
        for (tid, signal) in others {
            let _ = ptrace::detach(tid, signal);
        }
        for tid in entered {
            let _ = ptrace::resume(tid, 0);
        }
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
    /// a signal with a handler ends it then, as it does when nobody was here.
    fn enter_call(&mut self, tid: Pid, registers: &Registers) -> Result<Entered> {
        let deadline = Some(Instant::now() + Duration::from_secs(STEP_SECONDS));
        let failed = |operation| Error::system(operation, tid);
        resume(ptrace::resume_to_system_call(tid, 0), tid)?;
        let mut stop = self.wait_for(tid, deadline)?;
        if let Stop::Signal(signal) = stop {
            // it is to end the call, not to come before it: blocked, the kernel queues it anew
            let mask = ptrace::signal_mask(tid).map_err(failed("reading the signal mask of thread"))?;
            ptrace::set_signal_mask(tid, u64::MAX).map_err(failed("setting the signal mask of thread"))?;
            let next = resume(ptrace::resume_to_system_call(tid, signal), tid)
                .and_then(|()| self.wait_for(tid, deadline));
            ptrace::set_signal_mask(tid, mask).map_err(failed("setting the signal mask of thread"))?;
            stop = next?;
        }
        match stop {
            Stop::SystemCall if registers.restart_by_entry() => {
                arch::set_call(tid, Some(libc::SYS_restart_syscall))
                    .map_err(failed("setting the call of thread"))?;
                Ok(Entered::Call)
            }
            Stop::SystemCall => Ok(Entered::Call),
            Stop::Signal(signal) => Ok(Entered::Not(signal)),
            Stop::Trap | Stop::JobControl | Stop::Exited => Ok(Entered::Not(0)),
        }
    }

    /// Lets one thread go on, and no other.
    pub(crate) fn release_one(&mut self, tid: Pid) {
        // fails only if it was killed meanwhile
        let _ = ptrace::detach(tid, 0);
        self.threads.remove(&tid);
    }

    /// Whether every thread is stopped.
    pub(crate) fn all_are_stopped(&self) -> bool {
        self.running.is_empty()
    }

    /// Waits for the thread, the only one that runs.
    pub(crate) fn wait_for(&mut self, tid: Pid, deadline: Option<Instant>) -> Result<Stop> {
        loop {
            match self.next_stop()? {
                Some((stopped, stop)) if stopped == tid && stop != Stop::Exited => return Ok(stop),
                Some((_, Stop::Exited)) => return Err(self.lost()),
                Some(_) => {}
                None if self.wait_for_child(deadline)? => {}
                None => {
                    return Err(Error::Timeout {
                        pid: self.pid.as_raw(),
                        what: "a system call in it",
                        seconds: STEP_SECONDS,
                    });
                }
            }
        }
    }

    /// The next thread that has stopped or exited; exits are noted.
    pub(crate) fn next_stop(&mut self) -> Result<Option<(Pid, Stop)>> {
        let stop = ptrace::next_stop().map_err(Error::system("waiting for threads of process", self.pid))?;
        if let Some((tid, Stop::Exited)) = stop {
            self.threads.remove(&tid);
            self.running.remove(&tid);
        }
        match stop {
            Some((_, Stop::JobControl)) => self.is_stopped = true,
            Some((_, Stop::Trap)) => self.is_stopped = false,
            _ => {}
        }
        Ok(stop)
    }

    /// Whether something happened to a thread before the deadline.
    fn wait_for_child(&self, deadline: Option<Instant>) -> Result<bool> {
        let mut polled = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let ready = wait(&mut polled, deadline.map(remaining));
        let ready = ready.map_err(Error::system("waiting for threads of process", self.pid))?;
        self.drain_signals();
        Ok(ready > 0 || deadline.is_none())
    }

    /// Readable when something happened to a thread; then [`Tracees::drain_signals`] and
    /// [`Tracees::next_stop`] until there is no more.
    pub(crate) fn signals(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    /// Its number, for the list of descriptors that survive.
    pub(crate) fn signals_number(&self) -> RawFd {
        self.signals.as_raw_fd()
    }

    /// Forgets the signals that made [`Tracees::signals`] readable.
    pub(crate) fn drain_signals(&self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
    }

    /// The error for a target that has died.
    pub(crate) fn lost(&self) -> Error {
        Error::Lost { pid: self.pid.as_raw(), when: "during the operation" }
    }

    fn refused(&self, reason: impl Into<String>) -> Error {
        Error::Refused { pid: self.pid.as_raw(), reason: reason.into() }
    }
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

/// A descriptor that tells of SIGCHLD, which the launcher blocked before it forked us.
fn child_signals() -> Result<SignalFd> {
    let mask = SigSet::from_iter([Signal::SIGCHLD]);
    mask.thread_block().map_err(Error::system("blocking", "SIGCHLD"))?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(Error::system("watching", "SIGCHLD"))
}

fn set_registers(tid: Pid, registers: &Registers) -> Result<()> {
    match ptrace::set_registers(tid, registers) {
        // killed meanwhile: its exit is told separately
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(cause) => Err(Error::system("setting registers of thread", tid)(cause)),
    }
}

/// Lets a thread go on from a stop that it was not asked for. In the kernel any stop takes the one with it that
/// is still to come, so it is asked again.
fn go_on_and_stop(tid: Pid, signal: i32) -> Result<()> {
    resume(ptrace::resume(tid, signal), tid)?;
    resume(ptrace::interrupt(tid), tid)
}

/// Lets a thread go on from a stop at a system call or a signal, to be stopped before it runs any of its program.
fn stop_when_it_goes_on(tid: Pid, signal: i32) -> Result<()> {
    resume(ptrace::interrupt(tid), tid)?;
    resume(ptrace::resume(tid, signal), tid)
}

fn resume(result: std::result::Result<(), Errno>, tid: Pid) -> Result<()> {
    match result {
        // killed meanwhile: its exit is told separately
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(cause) => Err(Error::system("resuming thread", tid)(cause)),
    }
}
