//! A thread that closes what clients sent besides pidfds.
//!
//! close(2) may wait for somebody else: for a FUSE file for its server, for a TCP socket with
//! SO_LINGER for its peer, and either may be the client itself. Nobody waits for a stranger, so such
//! descriptors are closed here. Whoever blocks this thread keeps descriptors open, so they are counted:
//! who has too many of them is served no longer.
//!
//! A mutex and a condition need futex(2) only; a channel of the standard library needs sched_yield(2) too,
//! which the filter doesn't allow.

use crate::error::{Attempt, BrokerError};
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Hands descriptors to the thread.
#[derive(Debug)]
pub(crate) struct Closer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    started: bool,
    queue: VecDeque<(u32, OwnedFd)>,
    /// By user who sent them: those in the queue, and the one that is being closed.
    unclosed: BTreeMap<u32, usize>,
}

impl Closer {
    /// Starts the thread; returns when it waits, and makes no system calls that a later filter would
    /// have to allow for starting.
    ///
    /// # Errors
    /// [`BrokerError`] when there can be no thread.
    pub(crate) fn start() -> Result<Self, BrokerError> {
        Self::start_with(close)
    }

    fn start_with(close: impl Fn(OwnedFd) + Send + 'static) -> Result<Self, BrokerError> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("memcr-close".into())
            .spawn(move || theirs.close_for_ever(close))
            .attempt("start", "the closing thread")?;
        let mut state = shared.lock();
        while !state.started {
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        Ok(Self { shared })
    }

    /// Closes `descriptor`, which a client of `uid` sent, some time.
    pub(crate) fn close(&self, uid: u32, descriptor: OwnedFd) {
        let mut state = self.shared.lock();
        state.queue.push_back((uid, descriptor));
        *state.unclosed.entry(uid).or_default() += 1;
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Descriptors from clients of `uid` that are not closed yet.
    pub(crate) fn unclosed_of(&self, uid: u32) -> usize {
        self.shared.lock().unclosed.get(&uid).copied().unwrap_or_default()
    }

    /// Descriptors from clients that are not closed yet.
    pub(crate) fn unclosed(&self) -> usize {
        self.shared.lock().unclosed.values().sum()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // nothing panics while it holds the lock; if it did, the queue would be good all the same
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends with the process, for the filter allows no other end.
    fn close_for_ever(&self, close: impl Fn(OwnedFd)) {
        // so that what the C library makes ready for a thread's memory is there before the filter
        std::hint::black_box(Vec::<u8>::with_capacity(1));
        let mut state = self.lock();
        state.started = true;
        self.changed.notify_all();
        loop {
            let Some((uid, descriptor)) = state.queue.pop_front() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            // a fault, whose message is on standard error by then, must not end this thread, and with it all others
            let _ = catch_unwind(AssertUnwindSafe(|| close(descriptor)));
            state = self.lock();
            state.closed(uid);
        }
    }
}

impl State {
    fn closed(&mut self, uid: u32) {
        if let Some(count) = self.unclosed.get_mut(&uid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.unclosed.remove(&uid);
            }
        }
    }
}

fn close(descriptor: OwnedFd) {
    // fails for everything that is no socket
    let _ = setsockopt(&descriptor, sockopt::Linger, &libc::linger { l_onoff: 0, l_linger: 0 });
    drop(descriptor);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::{Enforcement, Mode, Restricted};
    use std::fs::File;
    use std::time::{Duration, Instant};

    fn descriptor() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn what_can_not_be_closed_yet_is_counted_by_its_user_and_nobody_waits_for_it() {
        let gate = Arc::new(Mutex::new(()));
        let shut = gate.lock().unwrap();
        let theirs = Arc::clone(&gate);
        let closer = Closer::start_with(move |descriptor| {
            drop(theirs.lock().unwrap());
            drop(descriptor);
        })
        .unwrap();
        for uid in [1000, 1000, 2000] {
            closer.close(uid, descriptor());
        }
        assert_eq!((closer.unclosed_of(1000), closer.unclosed_of(2000), closer.unclosed()), (2, 1, 3));
        drop(shut);
        let start = Instant::now();
        while closer.unclosed() > 0 {
            assert!(start.elapsed() < Duration::from_secs(10));
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(closer.unclosed_of(1000), 0);
    }

    /// Set in a process of its own, which the filter may kill.
    const UNDER_FILTER: &str = "MEMCR_TEST_UNDER_FILTER";

    #[test]
    fn handing_over_and_closing_need_nothing_that_the_filter_forbids() {
        if std::env::var_os(UNDER_FILTER).is_some() {
            close_under_filter();
        }
        let name = "serve::closer::tests::handing_over_and_closing_need_nothing_that_the_filter_forbids";
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--exact", name]).env(UNDER_FILTER, "1").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{:?}", output.status);
    }

    fn close_under_filter() -> ! {
        let closer = Closer::start().unwrap();
        Restricted { landlock: Enforcement::None }.seal(Mode::Serve, false, &[]).unwrap();
        let original = descriptor();
        // the two meet in every way that there is
        for round in 0..50_000 {
            closer.close(1000, original.try_clone().unwrap());
            while closer.unclosed() > round % 50 {
                std::hint::spin_loop();
            }
        }
        std::process::exit(0)
    }
}
