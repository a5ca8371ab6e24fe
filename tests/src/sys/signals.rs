//! Signals: counting handlers, queued real-time signals with values, an alternate stack.

use std::sync::atomic::{AtomicU64, Ordering};

static COUNTS: [AtomicU64; 65] = [const { AtomicU64::new(0) }; 65];

extern "C" fn count(signal: i32) {
    if let Some(counter) = usize::try_from(signal).ok().and_then(|index| COUNTS.get(index)) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts this signal from now on, on the alternate stack where there is one; calls that it
/// interrupts are restarted.
pub fn count_signal(signal: i32) {
    count_with(signal, libc::SA_RESTART | libc::SA_ONSTACK);
}

/// The same; calls that it interrupts fail with EINTR.
pub fn end_calls_by_signal(signal: i32) {
    count_with(signal, 0);
}

fn count_with(signal: i32, flags: i32) {
    // SAFETY: the action is fully set; its handler only changes an atomic counter.
    let outcome = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count as extern "C" fn(i32) as usize;
        action.sa_flags = flags;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut())
    };
    assert_eq!(outcome, 0, "sigaction");
}

/// How often this signal came.
pub fn counted(signal: i32) -> u64 {
    usize::try_from(signal)
        .ok()
        .and_then(|index| COUNTS.get(index))
        .map_or(0, |count| count.load(Ordering::Relaxed))
}

/// Queues a signal with a value to this process.
pub fn queue_to_self(signal: i32, value: usize) {
    let value = libc::sigval { sival_ptr: value as *mut libc::c_void };
    // SAFETY: the value is never used as a pointer.
    assert_eq!(unsafe { libc::sigqueue(libc::getpid(), signal, value) }, 0, "sigqueue");
}

/// Takes the next queued instance of a blocked signal, with its value.
pub fn take_queued(signal: i32) -> Option<usize> {
    // SAFETY: the set and the information are ours and initialised; the value was put there by
    // queue_to_self.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        let mut information: libc::siginfo_t = std::mem::zeroed();
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let taken = libc::sigtimedwait(&raw const set, &raw mut information, &raw const now);
        (taken == signal).then(|| information.si_value().sival_ptr as usize)
    }
}

/// Gives this thread an alternate signal stack.
pub fn use_alternate_stack() {
    let stack = Box::leak(vec![0_u8; 64 * 1024].into_boxed_slice());
    let description = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: the stack is never freed.
    assert_eq!(unsafe { libc::sigaltstack(&raw const description, std::ptr::null_mut()) }, 0, "sigaltstack");
}

/// Ignores a signal.
pub fn ignore_signal(signal: i32) {
    // SAFETY: no handler of ours is installed.
    assert_ne!(unsafe { libc::signal(signal, libc::SIG_IGN) }, libc::SIG_ERR, "signal");
}

/// Lets a signal come in this thread.
pub fn unblock_signal(signal: i32) {
    change_mask(libc::SIG_UNBLOCK, signal);
}

/// Blocks a signal, which may be a real-time one, in this thread and those that it starts.
pub fn block_signal(signal: i32) {
    change_mask(libc::SIG_BLOCK, signal);
}

fn change_mask(how: i32, signal: i32) {
    // SAFETY: the set is ours and initialised.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        assert_eq!(libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()), 0, "pthread_sigmask");
    }
}

/// Whether a blocked signal waits for this thread or its process.
pub fn is_pending(signal: i32) -> bool {
    // SAFETY: the set is ours and is initialised by the call.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigpending(&raw mut set);
        libc::sigismember(&raw const set, signal) == 1
    }
}

/// Has SIGALRM sent to this process again and again.
pub fn start_interval_timer(interval: std::time::Duration) {
    let interval = libc::timeval {
        tv_sec: interval.as_secs() as libc::time_t,
        tv_usec: interval.subsec_micros() as libc::suseconds_t,
    };
    let timer = libc::itimerval { it_interval: interval, it_value: interval };
    // SAFETY: reads one itimerval.
    let outcome = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(outcome, 0, "setitimer");
}

/// Sends a signal of any number, real-time ones too.
pub fn send_any(pid: i32, signal: i32) {
    // SAFETY: takes numbers only.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "kill {pid} with {signal}");
}

/// Has a command begin with the dispositions of a login: shells have what they start in the background ignore some
/// signals, which is inherited.
pub fn begin_with_default_signals(command: &mut std::process::Command) {
    let reset = || {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2]
        {
            // SAFETY: signal(2) may be called between fork and exec, and no handler is installed.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: it makes system calls only.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, reset) };
}
