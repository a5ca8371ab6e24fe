//! Targets whose only thread waits in a system call: it is the one that works for memcr, and finds its call as it was.

use crate::content::Sequence;
use crate::daemon::{Daemon, send};
use crate::sys::LONE_WAITS;
use crate::target::{Target, value};
use crate::users::cast;
use crate::{binaries, procfs, wait};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

fn waiter(way: &str, milliseconds: &str) -> Target {
    let target = Target::start(&cast().target, "sample-waiter", &[way, milliseconds]);
    wait_until_it_waits(&target);
    target
}

fn is_stopped(target: &Target) -> bool {
    procfs::Status::of(target.pid()).is_some_and(|status| status.state() == 'T')
        && procfs::tracer(target.pid()).is_none()
}

fn wait_until_it_waits(target: &Target) {
    wait::until("it waits", || procfs::Status::of(target.pid()).is_some_and(|status| status.state() == 'S'));
}

/// Puts it to sleep and wakes it; while it sleeps, `asleep` is done. Asked for by this process: programs take long to start in a guest.
///
/// # Panics
/// When one of them fails.
#[track_caller]
pub fn sleep_once(daemon: &Daemon, target: &Target, asleep: impl FnOnce()) {
    let mut client = memcrclient::Connection::connect(&daemon.socket()).expect("root may connect");
    let pidfd = memcrclient::open_target(target.pid()).expect("it is there");
    client.checkpoint(&pidfd, Default::default(), |_| {}).expect("it sleeps");
    asleep();
    client.restore(&pidfd, |_| {}).expect("it wakes");
}

/// Whether nobody sleeps, and no worker is left.
pub fn is_idle(daemon: &Daemon) -> bool {
    let mut client = memcrclient::Connection::connect(&daemon.socket()).expect("root may connect");
    daemon.workers().is_empty() && client.list().expect("a list").is_empty()
}

/// No wait ends early, fails, or notices anything; and where the kernel keeps the rest of its limit, none begins anew.
///
/// # Panics
/// When one does.
pub fn assert_waits_end_in_time(daemon: &Daemon) {
    const LIMIT: Duration = Duration::from_millis(2500);
    for way in LONE_WAITS.iter().filter(|way| way.has_limit) {
        let target = waiter(way.name, &LIMIT.as_millis().to_string());
        let is_in_time = || {
            wait::let_pass(LIMIT * 2 / 5);
            let mut asleep = Instant::now();
            sleep_once(daemon, &target, || asleep = Instant::now());
            let said = target.line();
            assert!(said.starts_with("over "), "{}: {said}", way.name);
            let took = Duration::from_millis(value(&said, "took").parse().expect("a number"));
            assert!(took >= LIMIT, "{}: {said}", way.name);
            // one that had begun anew would take all of its limit from here on
            !way.keeps_limit || asleep.elapsed() < LIMIT
        };
        for _ in 0..2 {
            // a busy machine is late now and then, a wait that begins anew is always
            assert!((0..5).any(|_| is_in_time()), "{}: begins anew", way.name);
        }
    }
}

/// A signal with a handler that comes while it sleeps ends its wait, once.
///
/// # Panics
/// When it doesn't.
pub fn assert_signals_end_waits(daemon: &Daemon) {
    for way in &LONE_WAITS {
        let target = waiter(way.name, "600000");
        // asleep twice in the same wait, the second time with a signal that has no handler and ends nothing; then with one that has
        for signal in [None, Some(Signal::SIGWINCH)] {
            sleep_once(daemon, &target, || signal.into_iter().for_each(|signal| target.signal(signal)));
            let said = target.line_within(Duration::from_millis(100));
            assert_eq!(said, None, "{}, signal {signal:?}", way.name);
        }
        for _ in 0..2 {
            wait_until_it_waits(&target);
            sleep_once(daemon, &target, || target.signal(Signal::SIGUSR1));
            assert!(target.line().starts_with("interrupted "), "{}", way.name);
        }
        assert_eq!(target.line_within(Duration::from_millis(100)), None, "{}", way.name);
        wait_until_it_waits(&target);
        // one that comes with another by which it is stopped
        sleep_once(daemon, &target, || {
            target.signal(Signal::SIGUSR1);
            target.signal(Signal::SIGSTOP);
        });
        wait::until("it is stopped", || is_stopped(&target));
        target.signal(Signal::SIGCONT);
        if way.only_waits || crate::arch::KEEPS_CALLS {
            assert!(target.line().starts_with("interrupted "), "{}, stopped", way.name);
        }
        wait_until_it_waits(&target);
        // and one that comes when it is awake
        target.signal(Signal::SIGUSR1);
        assert!(target.line().starts_with("interrupted "), "{}", way.name);
    }
}

/// Signals without a handler that come all the time hold nobody up.
///
/// # Panics
/// When they do.
pub fn assert_a_flood_of_signals_holds_nobody_up(daemon: &Daemon) {
    let target = waiter("epoll_wait", "600000");
    let (is_over, process) = (std::sync::atomic::AtomicBool::new(false), target.pid());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                send(process, Signal::SIGWINCH);
            }
        });
        let outcomes = [(); 3].map(|()| {
            (daemon.client().checkpoint(target.pid()).status, daemon.client().restore(target.pid()).status)
        });
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(outcomes, [(0, 0); 3]);
    });
    wait_until_it_waits(&target);
    target.signal(Signal::SIGUSR1);
    assert!(target.line().starts_with("interrupted "));
}

/// Of several threads that wait, a signal to the process ends the wait of one.
///
/// # Panics
/// When it doesn't.
pub fn assert_one_signal_ends_one_wait(daemon: &Daemon) {
    for way in ["epoll_wait", "read"] {
        let target = Target::start(&cast().target, "sample-waiter", &[way, "600000", "4"]);
        wait::until("all of them wait", || procfs::all_wait(target.pid(), 4));
        sleep_once(daemon, &target, || target.signal(Signal::SIGUSR1));
        assert!(target.line().starts_with("interrupted "), "{way}");
        assert_eq!(target.line_within(Duration::from_millis(200)), None, "{way}: more than one");
    }
}

/// One that job control has stopped stays so, and goes on in its wait when it is continued; a signal with a handler ends that,
/// whether it came before or comes after.
///
/// # Panics
/// When it doesn't.
pub fn assert_stopped_stays_stopped(daemon: &Daemon) {
    // where registers don't keep it, a call that does more than wait has not begun for those who come while it is stopped
    let of_read = ("read", crate::arch::KEEPS_CALLS);
    for (way, signal_is_first) in [("read", false), ("poll", true), ("epoll_wait", false), of_read] {
        let target = waiter(way, "600000");
        let is_stopped = || is_stopped(&target);
        target.signal(Signal::SIGSTOP);
        wait::until("it is stopped", is_stopped);
        sleep_once(daemon, &target, || {});
        wait::until("it is stopped again", is_stopped);
        wait::holds_for("it stays stopped", Duration::from_millis(200), is_stopped);
        if signal_is_first {
            target.signal(Signal::SIGUSR1);
        }
        target.signal(Signal::SIGCONT);
        wait::until("it goes on", || !is_stopped());
        if !signal_is_first {
            // some calls never survive a stop; either way a signal ends the next
            let _ = target.line_within(Duration::from_millis(200));
            wait_until_it_waits(&target);
            target.signal(Signal::SIGUSR1);
        }
        assert!(target.line().starts_with("interrupted "), "{way}, signal first: {signal_is_first}");
    }
}

/// One that job control has stopped doesn't do the call that it was in before it is continued, though it could.
///
/// # Panics
/// When it does.
pub fn assert_stopped_does_nothing(daemon: &Daemon) {
    let mut target = Target::start(&cast().target, "sample-memory", &["2", "5", "0"]);
    wait_until_it_waits(&target);
    target.signal(Signal::SIGSTOP);
    wait::until("it is stopped", || {
        procfs::Status::of(target.pid()).is_some_and(|status| status.state() == 'T')
    });
    daemon.put_to_sleep(&target);
    target.say("check");
    daemon.client().restore(target.pid()).expect_status(0);
    target.wait_until_awake();
    wait::holds_for("it reads nothing", Duration::from_millis(200), || target.unread() == 6);
    target.signal(Signal::SIGCONT);
    assert!(target.line().starts_with("intact"), "it reads");
}

/// A process whose thread has its area of restartable sequences far from where C libraries have it, and memory of this many MiB.
pub fn with_sequences(mib: &str) -> Target {
    let mut command = cast().target.command(binaries::path("sample-memory"));
    command.args([mib, "7", "0", "rseq"]).env("GLIBC_TUNABLES", "glibc.pthread.rseq=0");
    Target::start_command(command)
}

/// Kills the worker at random moments of a checkpoint that takes about `milliseconds`; the target runs on each time.
///
/// # Panics
/// When it doesn't, or is not what it was.
pub fn assert_survives_workers(
    daemon: &Daemon,
    target: &mut Target,
    rounds: u32,
    milliseconds: u64,
    seed: u64,
) {
    println!("seed {seed}");
    let mut numbers = Sequence::new(seed);
    for round in 0..rounds {
        let running = daemon.client().start_checkpoint(target.pid());
        let worker = wait::until_some("there is a worker", wait::BOUND, || daemon.workers().first().copied());
        let moment = Duration::from_micros(numbers.below(milliseconds * 1000));
        wait::let_pass(moment);
        send(worker, Signal::SIGKILL);
        let outcome = running.finish();
        let what = format!("round {round} of seed {seed}, killed after {moment:?}");
        assert!(matches!(outcome.status, 0 | 4), "{what}: {}", outcome.errors);
        target.wait_until_awake();
        wait::until("no worker is left", || is_idle(daemon));
        let said = target.line_within(Duration::from_millis(20));
        assert_eq!(said, None, "{what}, and the client was told: {}", outcome.output);
    }
}

/// The same of one with a single thread: in its program, and in a call.
///
/// # Panics
/// When something is not what it was.
pub fn assert_lone_threads_survive_workers(daemon: &Daemon, rounds: u32, milliseconds: u64, seed: u64) {
    let mut target = Target::start(&cast().target, "sample-lone", &["4"]);
    assert_survives_workers(daemon, &mut target, rounds, milliseconds, seed);
    target.assert_intact();
    for way in ["poll", "nanosleep", "read", "epoll_wait"] {
        for round in 0..rounds.div_ceil(4) {
            // another one each time: a call that goes on through the restart block for the second time can't be begun anew
            let mut target = waiter(way, "600000");
            assert_survives_workers(daemon, &mut target, 1, milliseconds, seed + u64::from(round));
            target.signal(Signal::SIGUSR1);
            let said = target.line();
            assert!(said.starts_with("interrupted "), "{way}: {said}");
        }
    }
}
