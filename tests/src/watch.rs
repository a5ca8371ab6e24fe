//! Watching the system calls of a daemon's workers, to kill or to hold one exactly before the call one wants.
//!
//! The test traces the worker, which itself traces its target; the worker is the production binary.

use crate::sys::entered_call;
use crate::{procfs, wait};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::time::Instant;

/// A launcher whose next worker dies before one of its calls that concern the target, or is held before one. All
/// of it must be used by one thread, as ptrace wants it.
pub struct Watch {
    launcher: Pid,
    worker: Option<Pid>,
    /// Workers that came after it, which are let alone.
    others: Vec<Pid>,
    plan: Plan,
    is_in_call: bool,
    was_poke: bool,
    /// The call at which it died, as number and first two arguments.
    pub died_at: Option<[u64; 3]>,
}

/// What is to become of the worker.
enum Plan {
    /// It dies after so many calls that concern the target.
    DieAfter(u64),
    /// It is held before the first call for which this holds.
    Hold(Box<dyn FnMut([u64; 3]) -> bool>),
    /// It is held.
    Held,
    /// Nothing any more.
    Spared,
}

impl Watch {
    /// Watches the launcher; its next worker dies before its call number `at`, counted from 0.
    pub fn start(launcher: i32, at: u64) -> Self {
        Self::with_plan(launcher, Plan::DieAfter(at))
    }

    /// Watches the launcher; its next worker is held before the first call, given as number and first two
    /// arguments, for which `is_the_one` holds.
    pub fn hold(launcher: i32, is_the_one: impl FnMut([u64; 3]) -> bool + 'static) -> Self {
        Self::with_plan(launcher, Plan::Hold(Box::new(is_the_one)))
    }

    fn with_plan(launcher: i32, plan: Plan) -> Self {
        let launcher = Pid::from_raw(launcher);
        let options = Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACESYSGOOD;
        ptrace::seize(launcher, options).expect("cannot trace the launcher");
        Self {
            launcher,
            worker: None,
            others: Vec::new(),
            plan,
            is_in_call: false,
            was_poke: false,
            died_at: None,
        }
    }

    /// Watches until `condition` holds.
    ///
    /// # Panics
    /// When it doesn't within [`wait::BOUND`].
    pub fn until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        loop {
            // stops follow each other at once; the condition costs more than a look
            for _ in 0..50 {
                self.look();
                std::thread::yield_now();
            }
            if condition() {
                return;
            }
            assert!(start.elapsed() < wait::BOUND, "watched in vain until {what}");
        }
    }

    /// Watches until the worker is held.
    ///
    /// # Panics
    /// When it isn't within [`wait::BOUND`].
    pub fn until_held(&mut self) {
        let start = Instant::now();
        while !matches!(self.plan, Plan::Held) {
            self.look();
            std::thread::yield_now();
            assert!(start.elapsed() < wait::BOUND, "watched in vain until the worker is held");
        }
    }

    /// Lets a worker that is held go on.
    pub fn go_on(&mut self) {
        assert!(matches!(self.plan, Plan::Held), "no worker is held");
        self.plan = Plan::Spared;
        let worker = self.worker.expect("one is held");
        ptrace::syscall(worker, None).expect("it is stopped");
    }

    fn look(&mut self) {
        while let Some(status) = next(self.launcher) {
            if matches!(status, WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_FORK)) {
                let child = ptrace::getevent(self.launcher).expect("a fork has a child");
                let child = Pid::from_raw(i32::try_from(child).expect("a pid"));
                match self.worker {
                    None => self.worker = Some(child),
                    Some(_) => self.others.push(child),
                }
            }
            go_on(self.launcher, status);
        }
        self.others.retain(|&other| next(other).is_none_or(|_| ptrace::detach(other, None).is_err()));
        while let Some(status) = self.worker.and_then(next) {
            self.worker_stopped(status);
        }
    }

    fn worker_stopped(&mut self, status: WaitStatus) {
        let Some(worker) = self.worker else { return };
        match status {
            WaitStatus::PtraceSyscall(_) => {
                self.is_in_call = !self.is_in_call;
                if self.is_in_call && self.is_the_one(worker) {
                    if self.died_at.is_some() {
                        kill(worker, Signal::SIGKILL).expect("cannot kill a worker");
                    }
                    return;
                }
                // it may have been killed meanwhile
                let _ = ptrace::syscall(worker, None);
            }
            WaitStatus::Stopped(_, signal) => {
                let _ = ptrace::syscall(worker, signal);
            }
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {}
            _ => {
                let _ = ptrace::syscall(worker, None);
            }
        }
    }

    /// Whether the worker dies or is held before the call that it is about to make.
    fn is_the_one(&mut self, worker: Pid) -> bool {
        let Some(call) = entered_call(worker) else { return false };
        let counts = self.concerns_target(call);
        match &mut self.plan {
            Plan::DieAfter(0) if counts => self.died_at = Some(call),
            Plan::DieAfter(left) => {
                *left = left.saturating_sub(u64::from(counts));
                return false;
            }
            Plan::Hold(is_the_one) => {
                if !is_the_one(call) {
                    return false;
                }
                self.plan = Plan::Held;
            }
            Plan::Held | Plan::Spared => return false,
        }
        true
    }

    fn concerns_target(&mut self, [number, first, _]: [u64; 3]) -> bool {
        let is = |wanted: libc::c_long| number == wanted as u64;
        let all = [
            libc::SYS_ptrace,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_ioctl,
            libc::SYS_openat2,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_sendmsg,
        ];
        // words that are written one after the other count once
        let is_poke = is(libc::SYS_ptrace) && first == u64::from(libc::PTRACE_POKEDATA);
        let counts = all.into_iter().any(is) && !(is_poke && self.was_poke);
        self.was_poke = is_poke;
        counts
    }

    /// Lets all go on unwatched.
    pub fn end(mut self) {
        if matches!(self.plan, Plan::Held) {
            self.go_on();
        }
        let all: Vec<Pid> = [Some(self.launcher), self.worker].into_iter().flatten().collect();
        for pid in all {
            if ptrace::interrupt(pid).is_err() {
                continue;
            }
            wait::until("a traced process stops", || match next(pid) {
                // a stop on the way into or out of a call may come first
                Some(_) => ptrace::detach(pid, None).is_ok() || !procfs::is_alive(pid.as_raw()),
                None => !procfs::is_alive(pid.as_raw()),
            });
        }
        self.worker = None;
        wait::until("no successor is traced", || {
            self.others.retain(|&other| next(other).is_none_or(|_| ptrace::detach(other, None).is_err()));
            self.others.iter().all(|other| procfs::tracer(other.as_raw()).is_none())
        });
    }
}

/// The next thing that has happened to a traced process.
fn next(pid: Pid) -> Option<WaitStatus> {
    match waitpid(pid, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) | Err(_) => None,
        Ok(status) => Some(status),
    }
}

fn go_on(pid: Pid, status: WaitStatus) {
    let signal = match status {
        WaitStatus::Stopped(_, signal) => Some(signal),
        _ => None,
    };
    // it may have ended meanwhile
    let _ = ptrace::cont(pid, signal);
}
