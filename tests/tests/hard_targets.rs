//! Targets that make it hard to stop them, or to run a parasite in them.

use memcr_tests::daemon::Daemon;
use memcr_tests::procfs::{self, Snapshot, Status};
use memcr_tests::target::{Target, value};
use memcr_tests::users::cast;
use memcrclient::{Connection, Progress};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

#[test]
fn a_process_that_may_have_no_memory_that_is_writable_and_executable_sleeps_and_wakes() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-state", &["without-executable-gain", "8"]);
    let before = Snapshot::of(target.pid());
    for _ in 0..3 {
        daemon.put_to_sleep(&target);
        assert!(procfs::rss_anon(target.pid()) < 2 << 20, "its memory is still there");
        daemon.client().restore(target.pid()).expect_status(0);
        target.assert_intact();
    }
    before.assert_same(&Snapshot::of(target.pid()), "after three cycles");
}

#[test]
fn a_process_that_makes_threads_all_the_time_is_stopped_and_woken_as_a_whole() {
    const CYCLES: u32 = 200;
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-births", &["4"]);
    let pid = target.pid();
    let pidfd = pidfd_open(Pid::from_raw(pid).expect("a pid"), PidfdFlags::empty()).expect("a pidfd");
    let mut connection = Connection::connect(&daemon.socket()).expect("root may connect");
    let mut newborn = 0;
    for cycle in 0..CYCLES {
        let ignore = |_: Progress| {};
        connection.checkpoint(&pidfd, Default::default(), ignore).expect("it is put to sleep");
        let worker = procfs::tracer(pid).expect("a sleeper is traced by its worker");
        let asleep = procfs::threads(pid);
        let is_stopped = |tid: &i32| {
            Status::of_thread(pid, *tid).is_some_and(|status| {
                status.state() == 't' && status.number("TracerPid") == u64::try_from(worker).expect("a pid")
            })
        };
        let running: Vec<_> = asleep.iter().filter(|tid| !is_stopped(tid)).collect();
        assert!(running.is_empty(), "in cycle {cycle} threads {running:?} of {asleep:?} weren't stopped");
        // main thread and spawners are always there
        newborn += asleep.len() - 5;
        connection.restore(&pidfd, ignore).expect("it wakes");
        if cycle % 20 == 0 {
            target.assert_intact();
        }
    }
    assert!(newborn > 0, "no sleep came while a thread lived: this shows nothing");
    let births: u64 = value(&target.ask("check"), "births").parse().expect("a number");
    assert!(births > u64::from(CYCLES), "only {births} threads were born");
    // those that were born before the last wake are gone, or run as all others do
    for tid in procfs::threads(pid) {
        let status = Status::of_thread(pid, tid);
        let is_free = status
            .is_none_or(|status| !matches!(status.state(), 't' | 'T') && status.number("TracerPid") == 0);
        assert!(is_free, "thread {tid} was left stopped");
    }
    target.assert_intact();
}
