//! A target that uses much of what a process can have, and checks all of it: `sample-zoo`.
//!
//! Between commands it does nothing that /proc would show, so that snapshots can be compared.
//! `check` looks at everything; `finish` also takes the queued signals and opens the forbidden
//! memory, and ends.

use memcr_tests::{content, sys};
use nix::fcntl::OFlag;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::fs::File;
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

const REGION: usize = 256 * 1024;
const MANY: usize = 1500;

fn main() {
    let mut zoo = Zoo::new();
    println!(
        "ready pid={} locked={:#x} secret={:#x}",
        std::process::id(),
        zoo.locked.address(),
        zoo.secret.address()
    );
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let is_end = line == "finish";
        let faults = if is_end { [zoo.check(), zoo.finish()].concat() } else { zoo.check() };
        println!(
            "{}",
            if faults.is_empty() { "intact".into() } else { format!("differs: {}", faults.join("; ")) }
        );
        if is_end {
            break;
        }
    }
}

struct Zoo {
    plain: sys::Region,
    locked: sys::Region,
    secret: sys::Region,
    shared: sys::Region,
    forbidden: sys::Region,
    of_file: sys::Region,
    many: Vec<sys::Region>,
    pipe: (OwnedFd, OwnedFd),
    pair: (UnixStream, UnixStream),
    event: EventFd,
    file: File,
    timer: TimerFd,
    epoll: Epoll,
}

impl Zoo {
    fn new() -> Self {
        hold_signals();
        start_threads();
        let mut file = temporary_file();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll");
        let event = EventFd::from_value_and_flags(41, EfdFlags::EFD_NONBLOCK).expect("eventfd");
        let interest = EpollEvent::new(EpollFlags::EPOLLIN, 4711);
        epoll.add(&event, interest).expect("epoll_ctl");
        let pipe = nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).expect("pipe");
        nix::unistd::write(&pipe.1, b"in the pipe").expect("write");
        let mut pair = UnixStream::pair().expect("socketpair");
        pair.0.write_all(b"in the socket").expect("write");
        let mut of_file = sys::Region::of_file(&file, REGION);
        content::fill(&mut of_file.bytes()[REGION / 2..], 6);
        file.seek(SeekFrom::Start(1234)).expect("lseek");
        // a high number, so that the table has holes
        let _high = nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(700)).expect("fcntl");
        let zoo = Self {
            plain: filled(sys::Region::private(4 * REGION), 1),
            locked: filled(sys::Region::private(REGION), 2),
            secret: filled(sys::Region::private(REGION), 3),
            shared: filled(sys::Region::shared(REGION), 4),
            forbidden: filled(sys::Region::private(REGION), 5),
            of_file,
            many: many_mappings(),
            pipe,
            pair,
            event,
            file,
            timer: ticking_timer(),
            epoll,
        };
        zoo.locked.lock();
        zoo.secret.exclude_from_dumps();
        zoo.forbidden.forbid();
        zoo
    }

    fn check(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        let regions = [
            ("plain memory", &mut self.plain, 1),
            ("locked memory", &mut self.locked, 2),
            ("secret memory", &mut self.secret, 3),
            ("shared memory", &mut self.shared, 4),
        ];
        for (name, region, seed) in regions {
            expect(&mut faults, name, content::check(region.bytes(), seed).is_ok());
        }
        let (from_file, written) = self.of_file.bytes().split_at(REGION / 2);
        expect(&mut faults, "mapped file", from_file.iter().all(|byte| *byte == 7));
        expect(&mut faults, "changed part of a mapped file", content::check(written, 6).is_ok());
        let many = self.many.iter_mut().enumerate();
        expect(
            &mut faults,
            "many mappings",
            many.into_iter().all(|(index, region)| holds_number(region, index)),
        );
        expect(&mut faults, "file offset", self.file.stream_position().is_ok_and(|offset| offset == 1234));
        expect(&mut faults, "timer", self.timer_ticks());
        expect(&mut faults, "epoll", self.epoll_reports());
        expect(&mut faults, "interval timer", ticks_again(libc::SIGALRM));
        expect(&mut faults, "blocked signals", pending_signals());
        faults
    }

    /// What can be looked at once only.
    fn finish(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        self.forbidden.allow();
        expect(&mut faults, "forbidden memory", content::check(self.forbidden.bytes(), 5).is_ok());
        let mut buffer = [0; 64];
        let length = nix::unistd::read(&self.pipe.0, &mut buffer).unwrap_or(0);
        expect(&mut faults, "pipe", &buffer[..length] == b"in the pipe");
        let length = self.pair.1.read(&mut buffer).unwrap_or(0);
        expect(&mut faults, "socket", &buffer[..length] == b"in the socket");
        expect(&mut faults, "eventfd", self.event.read().is_ok_and(|value| value == 41));
        let signal = queued_signal();
        let values: Vec<_> = std::iter::from_fn(|| sys::take_queued(signal)).collect();
        expect(&mut faults, "queued signals", values == [11, 22, 33]);
        expect(&mut faults, "blocked signal", sys::take_queued(libc::SIGUSR1).is_some());
        faults
    }

    fn timer_ticks(&self) -> bool {
        // blocks until it has ticked, at once if it did so meanwhile
        self.timer.wait().is_ok()
    }

    fn epoll_reports(&self) -> bool {
        let mut events = [EpollEvent::empty()];
        self.epoll.wait(&mut events, 0_u8) == Ok(1) && events[0].data() == 4711
    }
}

fn expect(faults: &mut Vec<String>, what: &str, is_right: bool) {
    if !is_right {
        faults.push(what.to_owned());
    }
}

fn filled(mut region: sys::Region, seed: u64) -> sys::Region {
    content::fill(region.bytes(), seed);
    region
}

/// Many small mappings that the kernel can't merge, each with its number in it.
fn many_mappings() -> Vec<sys::Region> {
    let page = 64 * 1024;
    let mappings = (0..MANY).map(|index| {
        let mut region = sys::Region::private(page);
        region.bytes()[..8].copy_from_slice(&index.to_le_bytes());
        if index % 2 == 0 {
            region.forbid_writing();
        }
        region
    });
    mappings.collect()
}

fn holds_number(region: &mut sys::Region, index: usize) -> bool {
    region.bytes()[..8] == index.to_le_bytes() && region.bytes()[8..].iter().all(|byte| *byte == 0)
}

fn temporary_file() -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(&[7; REGION]).expect("write");
    file
}

fn ticking_timer() -> TimerFd {
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC).expect("timerfd");
    let interval = Expiration::Interval(Duration::from_millis(20).into());
    timer.set(interval, TimerSetTimeFlags::empty()).expect("timerfd_settime");
    timer
}

fn queued_signal() -> i32 {
    libc::SIGRTMIN() + 3
}

/// An interval timer with a handler; one ordinary and three queued signals that wait, blocked.
fn hold_signals() {
    sys::use_alternate_stack();
    sys::count_signal(libc::SIGALRM);
    let mut set: SigSet = [Signal::SIGUSR1, Signal::SIGWINCH].into_iter().collect();
    set.add(Signal::SIGUSR2);
    set.thread_block().expect("pthread_sigmask");
    sys::block_signal(queued_signal());
    for value in [11, 22, 33] {
        sys::queue_to_self(queued_signal(), value);
    }
    nix::sys::signal::raise(Signal::SIGUSR1).expect("raise");
    sys::start_interval_timer(Duration::from_millis(50));
}

fn ticks_again(signal: i32) -> bool {
    let before = sys::counted(signal);
    memcr_tests::wait::until("the interval timer ticks", || sys::counted(signal) > before);
    true
}

fn pending_signals() -> bool {
    sys::is_pending(libc::SIGUSR1) && sys::is_pending(queued_signal()) && !sys::is_pending(libc::SIGUSR2)
}

/// Threads with names and signal masks of their own, all waiting.
fn start_threads() {
    for (index, signal) in
        [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGCHLD].into_iter().enumerate()
    {
        let thread = std::thread::Builder::new().name(format!("zoo-{index}"));
        let (sender, receiver) = std::sync::mpsc::channel();
        let run = move || {
            SigSet::from(signal).thread_block().expect("pthread_sigmask");
            sender.send(()).expect("the main thread waits");
            loop {
                std::thread::park();
            }
        };
        thread.spawn(run).expect("a thread");
        receiver.recv().expect("the thread is ready");
    }
}
