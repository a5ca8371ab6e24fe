//! A sleeper that a pending signal is about to end: it is let go to die, for its memory is of no use to
//! anybody any more.
//!
//! The thread that will take the signal is let go first and alone. It takes it on its way out of the kernel
//! and ends the whole process there, so that no instruction of the program runs without its memory.

use crate::channel::Launcher;
use crate::error::Error;
use crate::phase::asleep::Asleep;
use crate::phase::free::resident;
use crate::sys::poll::{remaining, wait};
use crate::sys::ptrace::{self, signal_bit};
use crate::target::status::Status;
use memcr_protocol::deposit::Deposit;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// Time that it may take to die.
const PATIENCE: Duration = Duration::from_secs(5);

/// Signals that the kernel gives out before all others (kernel/signal.c: synchronous ones).
const FIRST: u64 =
    bits(&[libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGTRAP, libc::SIGFPE, libc::SIGSYS]);
/// By default nothing happens.
const HARMLESS: u64 = bits(&[libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH]);
/// By default they stop the process, or end it with a core dump, which is to be whole.
const NOT_AN_END: u64 = bits(&[
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGQUIT,
    libc::SIGABRT,
    libc::SIGXCPU,
    libc::SIGXFSZ,
]) | FIRST;

const fn bits(signals: &[i32]) -> u64 {
    let mut set = 0;
    let mut index = 0;
    while index < signals.len() {
        set |= 1 << (signals[index] - 1);
        index += 1;
    }
    set
}

/// Which thread takes which signal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Doom {
    tid: Pid,
    signal: i32,
}

/// The signal that ends it as soon as it runs, if there is one.
pub(super) fn find(asleep: &Asleep) -> Option<Doom> {
    let status = asleep.status.as_ref().and_then(resident)?;
    let is_as_we_left_it = asleep.tracees.all_are_stopped() && asleep.left.is_none();
    // the first process of a namespace is not ended by default actions
    if asleep.may_be_stopped || status.is_init || !is_as_we_left_it {
        return None;
    }
    asleep.tracees.tids().into_iter().find_map(|tid| {
        let blocked = ptrace::signal_mask(tid).ok()?;
        let own = ptrace::queued_signals(tid).ok()?;
        let signal = end_by(own & !blocked, status.shared_signals & !blocked, &status)?;
        Some(Doom { tid, signal })
    })
}

/// The signal that ends a thread for which these are pending, before any other runs a handler or stops it.
fn end_by(own: u64, shared: u64, status: &Status) -> Option<i32> {
    for signal in in_order(own).chain(in_order(shared)) {
        let bit = signal_bit(signal);
        if status.caught_signals & bit != 0 {
            return None;
        }
        if status.ignored_signals & bit != 0 || HARMLESS & bit != 0 {
            continue;
        }
        return (NOT_AN_END & bit == 0).then_some(signal);
    }
    None
}

/// The signals of a set in the order in which the kernel gives them out.
fn in_order(set: u64) -> impl Iterator<Item = i32> {
    let of = |set: u64| (1..=64).filter(move |signal| set & signal_bit(*signal) != 0);
    of(set & FIRST).chain(of(set & !FIRST))
}

/// Lets it die; what to say of it.
pub(super) fn let_die(mut asleep: Asleep, doom: &Doom, launcher: &Launcher) -> Error {
    let error = Error::Doomed { pid: asleep.facts.pid, signal: name(doom.signal) };
    asleep.tracees.release_one(doom.tid);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match asleep.reap() {
            Ok(()) if Instant::now() < deadline => {}
            Err(Error::Lost { .. }) => {
                let _ = launcher.leave(&Deposit::Settled, &[]);
                return error;
            }
            // it lives after all: its memory is still guarded, and a successor gives it back
            Ok(()) | Err(_) => return error.unsettled(),
        }
        let mut polled = [
            PollFd::new(asleep.target.as_fd(), PollFlags::POLLIN),
            PollFd::new(asleep.tracees.signals(), PollFlags::POLLIN),
        ];
        // a wait that fails is looked at again until the deadline
        let _ = wait(&mut polled, Some(remaining(deadline)));
    }
}

fn name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(|_| format!("signal {signal}"), |signal| signal.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(caught: &[i32], ignored: &[i32]) -> Status {
        let text = "State:\tt\nTracerPid:\t9\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        let mut status = Status::parse(text).unwrap();
        (status.caught_signals, status.ignored_signals) = (bits(caught), bits(ignored));
        status
    }

    const TERM: u64 = bits(&[libc::SIGTERM]);

    #[test]
    fn a_fatal_signal_ends_it_unless_it_is_caught_or_ignored() {
        assert_eq!(end_by(0, TERM, &status(&[], &[])), Some(libc::SIGTERM));
        assert_eq!(end_by(TERM, 0, &status(&[], &[])), Some(libc::SIGTERM));
        assert_eq!(end_by(0, TERM, &status(&[libc::SIGTERM], &[])), None);
        assert_eq!(end_by(0, TERM, &status(&[], &[libc::SIGTERM])), None);
        assert_eq!(end_by(0, 0, &status(&[], &[])), None);
        // the first real-time signal that programs may use
        assert_eq!(end_by(0, bits(&[34]), &status(&[], &[])), Some(34));
    }

    #[test]
    fn what_comes_first_counts() {
        let with = |signal| TERM | bits(&[signal]);
        // its handler needs memory
        assert_eq!(end_by(0, with(libc::SIGUSR1), &status(&[libc::SIGUSR1], &[])), None);
        // that one would come later
        assert_eq!(end_by(0, with(libc::SIGCHLD), &status(&[libc::SIGCHLD], &[])), Some(libc::SIGTERM));
        // its own come before those of the process
        assert_eq!(end_by(bits(&[34]), TERM, &status(&[34], &[])), None);
        assert_eq!(end_by(0, with(libc::SIGSEGV), &status(&[], &[])), None);
        assert_eq!(end_by(0, with(libc::SIGWINCH), &status(&[], &[])), Some(libc::SIGTERM));
    }

    #[test]
    fn a_stop_and_a_core_dump_are_no_end() {
        for signal in [libc::SIGTSTP, libc::SIGQUIT, libc::SIGABRT, libc::SIGSTOP] {
            assert_eq!(end_by(0, bits(&[signal]), &status(&[], &[])), None, "{signal}");
        }
    }
}
