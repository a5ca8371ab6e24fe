//! System calls that wait for a time: none of them may fail, end early or notice that the process
//! was asleep.

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A way to wait.
#[derive(Debug, Clone, Copy)]
pub struct Wait {
    /// Name of the system call.
    pub name: &'static str,
    /// Calls it once with this time; -1 and errno, or what it gave.
    call: fn(Duration) -> i64,
    /// What it gives when the time is over.
    over: Over,
}

#[derive(Debug, Clone, Copy)]
enum Over {
    Zero,
    Error(i32),
}

impl Wait {
    /// Waits once; gives how long it took.
    ///
    /// # Errors
    /// A sentence when it didn't end as it does when the time is over, or ended early.
    pub fn wait(&self, time: Duration) -> Result<Duration, String> {
        let start = Instant::now();
        let outcome = (self.call)(time);
        let error = std::io::Error::last_os_error();
        let took = start.elapsed();
        let is_right = match self.over {
            Over::Zero => outcome == 0,
            Over::Error(number) => outcome == -1 && error.raw_os_error() == Some(number),
        };
        match (is_right, took >= time) {
            (false, _) => Err(format!("{} gave {outcome} ({error}) after {took:?}", self.name)),
            (true, false) => Err(format!("{} of {time:?} ended after {took:?}", self.name)),
            (true, true) => Ok(took),
        }
    }
}

/// All the ways.
pub const WAITS: [Wait; 11] = [
    Wait { name: "nanosleep", call: nanosleep, over: Over::Zero },
    Wait { name: "clock_nanosleep", call: clock_nanosleep, over: Over::Zero },
    Wait { name: "poll", call: poll, over: Over::Zero },
    Wait { name: "select", call: select, over: Over::Zero },
    Wait { name: "ppoll", call: ppoll, over: Over::Zero },
    Wait { name: "epoll_wait", call: epoll_wait, over: Over::Zero },
    Wait { name: "futex", call: futex, over: Over::Error(libc::ETIMEDOUT) },
    Wait { name: "sigtimedwait", call: sigtimedwait, over: Over::Error(libc::EAGAIN) },
    Wait { name: "recv", call: recv, over: Over::Error(libc::EAGAIN) },
    Wait { name: "accept", call: accept, over: Over::Error(libc::EAGAIN) },
    Wait { name: "semtimedop", call: semtimedop, over: Over::Error(libc::EAGAIN) },
];

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec { tv_sec: time.as_secs() as libc::time_t, tv_nsec: time.subsec_nanos() as libc::c_long }
}

fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

fn nanosleep(time: Duration) -> i64 {
    let time = timespec(time);
    // SAFETY: reads one timespec.
    unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) }.into()
}

fn clock_nanosleep(time: Duration) -> i64 {
    let time = timespec(time);
    // SAFETY: reads one timespec.
    unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, 0, &raw const time, std::ptr::null_mut()) }.into()
}

fn poll(time: Duration) -> i64 {
    // SAFETY: no descriptors, so nothing is read.
    unsafe { libc::poll(std::ptr::null_mut(), 0, milliseconds(time)) }.into()
}

fn select(time: Duration) -> i64 {
    let mut time = libc::timeval {
        tv_sec: time.as_secs() as libc::time_t,
        tv_usec: time.subsec_micros() as libc::suseconds_t,
    };
    let none = std::ptr::null_mut();
    // SAFETY: no sets; one timeval that it may change.
    unsafe { libc::select(0, none, none, none, &raw mut time) }.into()
}

fn ppoll(time: Duration) -> i64 {
    let time = timespec(time);
    // SAFETY: no descriptors; reads one timespec.
    unsafe { libc::ppoll(std::ptr::null_mut(), 0, &raw const time, std::ptr::null()) }.into()
}

fn epoll_wait(time: Duration) -> i64 {
    // SAFETY: room for one event, which is all that is asked for.
    unsafe {
        let epoll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let outcome = libc::epoll_wait(epoll, &raw mut event, 1, milliseconds(time));
        keeping_errno(|| libc::close(epoll));
        outcome.into()
    }
}

fn futex(time: Duration) -> i64 {
    let word = 0_u32;
    let time = timespec(time);
    // SAFETY: reads the word and the timespec, both of this frame.
    unsafe { libc::syscall(libc::SYS_futex, &raw const word, libc::FUTEX_WAIT, 0, &raw const time) as i64 }
}

fn sigtimedwait(time: Duration) -> i64 {
    let time = timespec(time);
    // SAFETY: a set of ours with one signal that nobody sends, and one timespec, are read.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGRTMAX() - 1);
        libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const time).into()
    }
}

fn recv(time: Duration) -> i64 {
    let (socket, _peer) = UnixStream::pair().expect("socketpair");
    limit(&socket, time);
    let mut byte = 0_u8;
    // SAFETY: room for one byte, which is all that is asked for.
    unsafe { libc::recv(socket.as_raw_fd(), (&raw mut byte).cast(), 1, 0) as i64 }
}

fn accept(time: Duration) -> i64 {
    // a guest may have no loopback
    let any = |_| TcpListener::bind(("0.0.0.0", 0));
    let listener = TcpListener::bind(("127.0.0.1", 0)).or_else(any).expect("a port");
    limit(&listener, time);
    // SAFETY: no address is asked for.
    unsafe { libc::accept(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut()).into() }
}

fn limit(socket: &impl AsFd, time: Duration) {
    let time = TimeVal::new(time.as_secs() as libc::time_t, time.subsec_micros() as libc::suseconds_t);
    setsockopt(socket, sockopt::ReceiveTimeout, &time).expect("SO_RCVTIMEO");
}

fn semtimedop(time: Duration) -> i64 {
    let time = timespec(time);
    // SAFETY: one operation and one timespec are read; the semaphore is ours and removed.
    unsafe {
        let semaphore = libc::semget(libc::IPC_PRIVATE, 1, 0o600);
        let mut take = libc::sembuf { sem_num: 0, sem_op: -1, sem_flg: 0 };
        let outcome = libc::syscall(libc::SYS_semtimedop, semaphore, &raw mut take, 1, &raw const time);
        keeping_errno(|| libc::semctl(semaphore, 0, libc::IPC_RMID));
        outcome as i64
    }
}

/// Does something without losing the error number of the call before.
fn keeping_errno<T>(act: impl FnOnce() -> T) {
    let number = nix::errno::Errno::last_raw();
    act();
    nix::errno::Errno::set_raw(number);
}
