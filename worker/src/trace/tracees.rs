//! All threads of the target, stopped.

mod calls;
mod home;

use crate::arch::{self, Registers, VectorState};
use crate::error::{Error, Result};
use crate::sys::poll::{remaining, wait};
use crate::sys::ptrace::{self, Stop};
use crate::target::proc_directory::ProcDirectory;
use crate::target::status::Status;
use crate::trace::STEP_SECONDS;
use calls::Entered;
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

/// How often a thread is looked at that is to be seen waiting.
const LOOKS: u32 = 8;

/// One thread of the target.
#[derive(Clone, Copy)]
pub(crate) struct Thread {
    /// Its registers.
    pub(crate) registers: Registers,
    /// Whether they were changed so that it begins something anew.
    anew: Anew,
    /// Behind a call that was interrupted, if it is to begin that anew.
    found: Option<Registers>,
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
    /// Seen to wait in the kernel once seized, with no signal since then that runs a handler; the signals that do.
    waiting: BTreeMap<Pid, u64>,
    /// The signals that it has handlers for.
    handlers: u64,
    signals: SignalFd,
    memory: Memory,
    /// Whether job control has stopped it, by the last that was heard.
    is_stopped: bool,
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
        let (threads, running, waiting) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let signals = child_signals()?;
        let (handlers, is_stopped) = (u64::MAX, false);
        let mut tracees = Self { pid, threads, running, waiting, handlers, signals, memory, is_stopped };
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
        let mut statuses =
            self.tids().into_iter().filter_map(|tid| Status::read(&directory.thread(tid).ok()?).ok());
        if let Some(status) = statuses.find(|status| status.has_memory) {
            self.handlers = status.caught_signals;
        }
        self.note_interrupted_calls(directory)
    }

    /// Whether the thread is seized now; `false` if it has exited.
    ///
    /// The number may be another's by now, and ptrace knows numbers only. Seizing stops nobody: whoever it was is looked
    /// at before it is stopped, by the directory of the target, which no other process has. A stranger is let go by the end of
    /// this process, and notices nothing.
    fn seize_thread(&mut self, tid: Pid, directory: &ProcDirectory) -> Result<bool> {
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
        // from now on it can't enter a handler without telling us
        if !arch::TELLS_ENDED_CALL && seized.is_ok() {
            self.waiting.extend(handlers_of_waiting(tid, directory).map(|handlers| (tid, handlers)));
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
                Some((tid, Stop::Signal(signal))) => {
                    self.waiting
                        .retain(|of, handlers| *of != tid || *handlers & ptrace::signal_bit(signal) == 0);
                    go_on_and_stop(tid, signal)?;
                }
                Some((tid, Stop::SystemCall)) => go_on_and_stop(tid, 0)?,
                Some((_, Stop::Exited)) => {}
                None if self.wait_for_child(Some(deadline))? => {}
                None => break,
            }
        }
        Ok(())
    }

    fn note_thread(&mut self, tid: Pid) -> Result<()> {
        let registers = ptrace::registers(tid).map_err(Error::system("reading registers of thread", tid))?;
        let Some(registers) = registers else {
            // it is stopped all the same, and has to be let go
            let _ = ptrace::detach(tid, 0);
            return Err(self.refused("it is a program of another word size than memcr's"));
        };
        self.threads.insert(tid, Thread { registers, anew: Anew::Nothing, found: None });
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
        self.threads.insert(tid, Thread { registers, anew: Anew::Sequence, found: None });
        Ok(())
    }

    /// Floating-point and vector state of a thread.
    pub(crate) fn vector_state(&self, tid: Pid) -> Result<VectorState> {
        ptrace::vector_state(tid).map_err(|cause| match cause {
            Errno::E2BIG => {
                self.refused(format!("the vectors of its thread {tid} are longer than memcr can keep"))
            }
            cause => Error::system("reading the vector state of thread", tid)(cause),
        })
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
    /// process: to be detached at the entry would interrupt them once more. That is just right where job control has stopped the
    /// process: they stop again while they wait, as the kernel does it, which knows of these calls then.
    pub(crate) fn release(mut self) {
        let threads = std::mem::take(&mut self.threads);
        let mut entered = Vec::new();
        let mut others = Vec::new();
        for (tid, thread) in threads {
            let is_to_enter = thread.anew == Anew::Call;
            match is_to_enter.then(|| self.enter_call(tid, &thread)) {
                Some(Ok(Entered::Call)) if self.is_stopped => others.push(tid),
                Some(Ok(Entered::Call)) => entered.push(tid),
                // not kept until others have done that: it would be lost with this process
                Some(Ok(Entered::Not(signal))) if signal != 0 => drop(ptrace::detach(tid, signal)),
                // one that can't begin its call is let go before it
                Some(Ok(Entered::Not(_)) | Err(_)) | None => others.push(tid),
            }
        }
        // only a thread that was killed meanwhile can fail. Nobody waits for stops any more: a signal that has stopped one
        // is delivered when this process ends
        for tid in others {
            let _ = ptrace::detach(tid, 0);
        }
        for tid in entered {
            let _ = ptrace::resume(tid, 0);
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
                // of one that didn't stop in time
                Some((other, Stop::Signal(signal))) => resume(ptrace::resume(other, signal), other)?,
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

/// Which signals a thread has handlers for, if it is seen to wait in a system call that a signal would end. One that has just been
/// woken, and will soon wait again, is looked at more than once.
fn handlers_of_waiting(tid: Pid, directory: &ProcDirectory) -> Option<u64> {
    let thread = directory.thread(tid).ok()?;
    let mut looks =
        (0..LOOKS).map_while(|_| Status::read(&thread).ok()).take_while(|status| status.caught_signals != 0);
    looks.find(|status| status.state == 'S').map(|status| status.caught_signals)
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
