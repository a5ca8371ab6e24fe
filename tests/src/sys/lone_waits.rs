//! System calls in which a process with one thread waits, with arguments in its own memory.

use std::time::Duration;

/// A way to wait.
#[derive(Debug, Clone, Copy)]
pub struct LoneWait {
    /// Its name.
    pub name: &'static str,
    /// Waits once, for this time if it has a limit; what the call gave.
    pub call: fn(Duration) -> i64,
    /// Whether it ends by itself.
    pub has_limit: bool,
    /// Whether the kernel keeps what is left of that when the call is interrupted, and goes on with it.
    pub keeps_limit: bool,
    /// Whether the call does nothing but wait.
    pub only_waits: bool,
}

/// All the ways.
pub const LONE_WAITS: [LoneWait; 5] = [
    LoneWait { name: "pause", call: pause, has_limit: false, keeps_limit: false, only_waits: true },
    LoneWait { name: "read", call: read, has_limit: false, keeps_limit: false, only_waits: false },
    LoneWait { name: "poll", call: poll, has_limit: true, keeps_limit: true, only_waits: true },
    LoneWait { name: "nanosleep", call: nanosleep, has_limit: true, keeps_limit: true, only_waits: true },
    LoneWait { name: "epoll_wait", call: epoll_wait, has_limit: true, keeps_limit: false, only_waits: true },
];

fn pause(_time: Duration) -> i64 {
    // SAFETY: takes nothing.
    unsafe { libc::pause() }.into()
}

/// The reading end of a pipe that nobody writes to; the other end stays open.
fn silent_pipe() -> i32 {
    let mut ends = [-1; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0, "pipe2");
    ends[0]
}

fn read(_time: Duration) -> i64 {
    let (pipe, mut byte) = (silent_pipe(), Box::new(0_u8));
    // SAFETY: room for one byte, which is all that is asked for.
    unsafe { libc::read(pipe, (&raw mut *byte).cast(), 1) as i64 }
}

fn poll(time: Duration) -> i64 {
    let mut asked = Box::new(libc::pollfd { fd: silent_pipe(), events: libc::POLLIN, revents: 0 });
    let milliseconds = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one structure, which lives until then.
    unsafe { libc::poll(&raw mut *asked, 1, milliseconds) }.into()
}

fn nanosleep(time: Duration) -> i64 {
    let seconds = time.as_secs() as libc::time_t;
    let time = Box::new(libc::timespec { tv_sec: seconds, tv_nsec: time.subsec_nanos() as libc::c_long });
    let mut rest = time.clone();
    // SAFETY: reads the one, writes the other.
    unsafe { libc::nanosleep(&raw const *time, &raw mut *rest) }.into()
}

fn epoll_wait(time: Duration) -> i64 {
    let mut event = Box::new(libc::epoll_event { events: 0, u64: 0 });
    let milliseconds = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: room for one event, which is all that is asked for.
    unsafe {
        let epoll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        libc::epoll_wait(epoll, &raw mut *event, 1, milliseconds).into()
    }
}
