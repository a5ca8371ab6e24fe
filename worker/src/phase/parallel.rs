//! Work on all cores, while the tracing thread listens to the broker.

use crate::channel::{Broker, Order};
use crate::error::{Error, Result};
use crate::sys::poll;
use memcr_protocol::report::State;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags};
use nix::unistd::{pipe2, read, write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Threads at most; more cores than these bring nothing, since the disk is slower.
const THREADS: usize = 8;
/// Bytes below which a further thread costs more than it saves.
const BYTES_PER_THREAD: u64 = 4 * 1024 * 1024;
/// Time between two progress events.
const INTERVAL: Duration = Duration::from_millis(100);

/// How far the work is, and whether it goes on.
#[derive(Default)]
pub(super) struct Progress {
    done: AtomicU64,
    stopped: AtomicBool,
}

impl Progress {
    /// Notes that more bytes are done.
    pub(super) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether the work was called off.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Runs `work` on as many threads as are worth it, until all return or one fails. Tells the broker how
/// far it is, and hands its orders to `listen`, which may call the work off by returning `true`. Stops at the
/// deadline, too.
pub(super) fn run<W>(
    broker: &Broker,
    cores: usize,
    state: State,
    total: u64,
    deadline: Option<Instant>,
    work: W,
    mut listen: impl FnMut(Order) -> bool,
) -> Result<()>
where
    W: Fn(&Progress) -> Result<()> + Sync,
{
    let progress = Progress::default();
    let (finished, finish) =
        pipe2(OFlag::O_CLOEXEC).map_err(Error::system("making", "a pipe between threads"))?;
    let work = |finish: OwnedFd| {
        // a fault of one thread stops the others, and is told as what it is
        let result = catch_unwind(AssertUnwindSafe(|| work(&progress)))
            .unwrap_or(Err(Error::Fault("a thread of the worker")));
        if result.is_err() {
            progress.stopped.store(true, Ordering::Relaxed);
        }
        // wakes the tracing thread; it is there, since it waits for this thread
        let _ = write(&finish, &[0]);
        result
    };
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for _ in 0..thread_count(total, cores) {
            let Ok(finish) = finish.try_clone() else { break };
            let spawned = thread::Builder::new().spawn_scoped(scope, || work(finish));
            threads.extend(spawned);
        }
        drop(finish);
        if threads.is_empty() {
            return Err(Error::Unsupported("no thread can be started".into()));
        }
        while threads.iter().any(|thread| !thread.is_finished()) {
            let mut polled = [
                PollFd::new(finished.as_fd(), PollFlags::POLLIN),
                PollFd::new(broker.descriptor(), PollFlags::POLLIN),
            ];
            let time = deadline.map_or(INTERVAL, |deadline| INTERVAL.min(poll::remaining(deadline)));
            poll::wait(&mut polled, Some(time))
                .map_err(Error::system("waiting for", "threads of our own"))?;
            if polled.first().and_then(PollFd::any) == Some(true) {
                // one has finished: the others are still heard over; the byte is taken so that the next is noticed
                let _ = read(&finished, &mut [0]);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                progress.stopped.store(true, Ordering::Relaxed);
                break;
            }
            broker.tell_progress(state, progress.done.load(Ordering::Relaxed), total);
            // an order that makes no sense changes nothing, as in sleep
            if let Some(order) = broker.order().unwrap_or(None) {
                if listen(order) {
                    progress.stopped.store(true, Ordering::Relaxed);
                }
            }
        }
        let mut result = Ok(());
        for thread in threads {
            let one = thread.join().unwrap_or(Err(Error::Fault("a thread of the worker")));
            if result.is_ok() {
                result = one;
            }
        }
        result
    })
}

fn thread_count(total: u64, cores: usize) -> usize {
    let worth = usize::try_from(total / BYTES_PER_THREAD).unwrap_or(THREADS).max(1);
    cores.min(worth).min(THREADS)
}
