//! Invariants 1 and 2: whatever of ours dies, no target runs on wrong memory, and none is killed
//! that could be saved.

use memcr_tests::cgroup::MemoryCgroup;
use memcr_tests::content::Sequence;
use memcr_tests::daemon::{Daemon, Setup, Way, send};
use memcr_tests::procfs;
use memcr_tests::sys;
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::wait;
use memcr_tests::wire::{RESTORE, Wire, v1};
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

fn sample(mib: &str) -> Target {
    Target::start(&cast().target, "sample-memory", &[mib, "9", "3"])
}

fn put_all_to_sleep(daemon: &Daemon, targets: &[Target]) {
    for target in targets {
        daemon.put_to_sleep(target);
    }
}

#[test]
fn a_sleeper_whose_worker_is_killed_wakes_with_its_memory() {
    let daemon = Daemon::start();
    let mut target = sample("32");
    let real_time = libc::SIGRTMIN() + 3;
    for signal in [libc::SIGKILL, libc::SIGKILL, libc::SIGILL, real_time, libc::SIGKILL] {
        let worker = daemon.put_to_sleep(&target);
        sys::send_any(worker, signal);
        target.wait_until_awake();
        target.assert_intact();
        wait::until("its entry disappears", || daemon.client().listed().is_empty());
    }
    assert!(daemon.audit_of(target.pid()).iter().any(|record| record["event"] == "worker-replaced"));
    daemon.wait_until_no_image();
}

#[test]
fn a_sleeper_whose_successors_are_killed_wakes_in_the_end() {
    let daemon = Daemon::start();
    let mut target = sample("16");
    let mut killed = vec![daemon.put_to_sleep(&target)];
    // a stranger holds the target, so that no successor can do anything for it
    send(daemon.launcher(), Signal::SIGSTOP);
    send(killed[0], Signal::SIGKILL);
    wait::until("nobody traces the target", || procfs::tracer(target.pid()).is_none());
    let held = nix::unistd::Pid::from_raw(target.pid());
    nix::sys::ptrace::seize(held, nix::sys::ptrace::Options::empty()).expect("root may trace it");
    send(daemon.launcher(), Signal::SIGCONT);
    while killed.len() < 5 {
        let new = wait::until_some("there is a successor", wait::BOUND, || {
            daemon
                .audit()
                .iter()
                .filter_map(|record| record["worker"].as_i64())
                .next_back()
                .filter(|worker| killed.last().is_none_or(|last| i64::from(*last) != *worker))
        });
        killed.push(i32::try_from(new).expect("a pid"));
        send(killed[killed.len() - 1], Signal::SIGKILL);
    }
    assert!(procfs::is_alive(target.pid()));
    nix::sys::ptrace::interrupt(held).expect("it is traced");
    nix::sys::wait::waitpid(held, Some(nix::sys::wait::WaitPidFlag::__WALL)).expect("it stops");
    nix::sys::ptrace::detach(held, None).expect("it is let go");
    wait::until("the last successor is gone", || daemon.workers().is_empty() && target.is_awake());
    target.assert_intact();
}

#[test]
fn without_the_full_guard_a_sleeper_dies_with_its_worker() {
    let daemon = Setup::new().way(Way::Ambient).start();
    let mut target = sample("16");
    let outcome = daemon.client().checkpoint(target.pid()).expect_status(0);
    assert_eq!(outcome.json()["report"]["guard"], "exit-kill");
    send(procfs::tracer(target.pid()).expect("a worker"), Signal::SIGKILL);
    assert_eq!(target.wait_for_end().signal(), Some(libc::SIGKILL));
    assert_eq!(target.line_within(Duration::from_millis(1)), None);
    wait::until("it is on record", || {
        daemon.audit_of(target.pid()).iter().any(|record| record["event"] == "target-lost")
    });
    daemon.wait_until_no_image();
}

#[test]
fn a_worker_killed_at_any_moment_harms_nothing() {
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |time| time.as_nanos() as u64);
    println!("seed {seed}");
    let mut numbers = Sequence::new(seed);
    let daemon = Daemon::start();
    let mut target = sample("128");
    let descriptors = procfs::descriptors(target.pid());
    for round in 0..40 {
        let running = daemon.client().start_checkpoint(target.pid());
        let worker = wait::until_some("there is a worker", wait::BOUND, || daemon.workers().first().copied());
        wait::let_pass(Duration::from_micros(numbers.below(25_000)));
        send(worker, Signal::SIGKILL);
        let outcome = running.finish();
        assert!(matches!(outcome.status, 0 | 4), "round {round} of seed {seed}: {}", outcome.errors);
        target.wait_until_awake();
        wait::until("no worker is left", || daemon.workers().is_empty());
        target.assert_intact();
    }
    assert_eq!(procfs::descriptors(target.pid()), descriptors, "something of ours is left in the target");
    daemon.wait_until_no_image();
    // and it still can be put to sleep
    daemon.put_to_sleep(&target);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
}

#[test]
fn all_sleepers_wake_when_the_broker_is_killed() {
    let mut daemon = Daemon::start();
    let mut targets: Vec<Target> = (0..5).map(|_| sample("24")).collect();
    put_all_to_sleep(&daemon, &targets);
    daemon.signal(Signal::SIGKILL);
    daemon.wait_for_end();
    for target in &mut targets {
        target.wait_until_awake();
        target.assert_intact();
    }
    daemon.wait_for_the_others();
    daemon.wait_until_no_image();
}

#[test]
fn all_sleepers_wake_when_the_broker_is_killed_though_its_channels_stay_open() {
    let mut daemon = Daemon::start();
    let mut target = sample("16");
    daemon.put_to_sleep(&target);
    // as a thread of it would that can't end, since it waits for a file system
    let held = procfs::take_descriptors(daemon.pid());
    assert!(held.len() > 5, "{held:?}");
    daemon.signal(Signal::SIGKILL);
    daemon.wait_for_end();
    target.wait_until_awake();
    target.assert_intact();
    daemon.wait_for_the_others();
    drop(held);
}

#[test]
fn all_sleepers_wake_when_the_daemon_is_told_to_end() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut daemon = Daemon::start();
        let mut targets: Vec<Target> = (0..4).map(|_| sample("24")).collect();
        put_all_to_sleep(&daemon, &targets);
        daemon.signal(signal);
        assert_eq!(daemon.wait_for_end().code(), Some(0), "{signal}");
        for target in &mut targets {
            assert!(target.is_awake(), "the daemon ended before the target {} was awake", target.pid());
            target.assert_intact();
        }
        daemon.wait_for_the_others();
        daemon.wait_until_no_image();
        let woken = daemon.audit().iter().filter(|record| record["event"] == "woken").count();
        assert_eq!(woken, targets.len());
    }
}

#[test]
fn all_sleepers_wake_when_the_launcher_is_killed() {
    let mut daemon = Daemon::start();
    let mut targets: Vec<Target> = (0..3).map(|_| sample("16")).collect();
    put_all_to_sleep(&daemon, &targets);
    send(daemon.launcher(), Signal::SIGKILL);
    for target in &mut targets {
        target.wait_until_awake();
        target.assert_intact();
    }
    assert_eq!(daemon.wait_for_end().code(), Some(4));
}

#[test]
fn when_all_of_ours_die_at_once_the_sleeper_waits_and_never_reads_zeros() {
    let daemon = Daemon::start();
    let mut target = sample("16");
    let worker = daemon.put_to_sleep(&target);
    let all = [daemon.pid(), daemon.launcher(), worker];
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        all.iter().for_each(|pid| send(*pid, signal));
    }
    wait::until("all are dead", || all.iter().all(|pid| !procfs::is_alive(*pid)));
    wait::until("nobody traces the target", || procfs::tracer(target.pid()).is_none());
    target.say("check");
    let answer = target.line_within(Duration::from_secs(1));
    assert_eq!(answer, None, "the target ran on without its memory");
    assert!(procfs::is_alive(target.pid()));
    // another daemon doesn't take it for one that runs
    let next = Daemon::start();
    next.client().restore(target.pid()).expect_status(3).expect_words(&["userfaultfd", "must be ended"]);
    assert_eq!(Wire::connect(&next, &cast().client).ask(&v1(RESTORE, target.pid())), Some(-1));
}

#[test]
fn a_restore_during_a_checkpoint_calls_it_off() {
    let daemon = Daemon::start();
    let mut target = sample("512");
    let checkpoint = daemon.client().start_checkpoint(target.pid());
    wait::until("the checkpoint is under way", || {
        matches!(daemon.client().state(target.pid()).as_str(), "attaching" | "dumping")
    });
    daemon.client().restore(target.pid()).expect_status(0);
    checkpoint.finish().expect_status(4).expect_words(&["called off"]);
    assert!(target.is_awake());
    target.assert_intact();
    daemon.wait_until_no_image();
}

#[test]
fn a_checkpoint_goes_on_when_its_client_is_gone() {
    let daemon = Daemon::start();
    let mut target = sample("128");
    let checkpoint = daemon.client().start_checkpoint(target.pid());
    wait::until("there is a worker", || !daemon.workers().is_empty());
    checkpoint.kill();
    wait::until("it sleeps", || daemon.client().state(target.pid()) == "asleep");
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
}

/// A sleeper that may use too little memory to be woken. The kernel is not to kill it for that.
fn sleeper_without_memory(daemon: &Daemon, cgroup: &MemoryCgroup) -> Target {
    let target = sample("32");
    daemon.put_to_sleep(&target);
    cgroup.let_live(target.pid());
    cgroup.limit(8 * 1024 * 1024);
    cgroup.add(target.pid());
    target
}

#[test]
fn a_sleeper_for_which_there_is_too_little_memory_sleeps_on_and_can_be_woken_later() {
    let cgroup = MemoryCgroup::new("restore");
    let daemon = Daemon::start();
    let mut target = sleeper_without_memory(&daemon, &cgroup);
    for _ in 0..2 {
        let refusal = daemon.client().restore(target.pid()).expect_status(4);
        refusal.expect_words(&["too little memory", "sleeps on", "try again"]);
        assert_eq!(daemon.client().state(target.pid()), "asleep");
    }
    assert!(daemon.audit_of(target.pid()).iter().any(|record| record["code"] == "out-of-memory"));
    cgroup.limit(256 * 1024 * 1024);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
    drop(target);
}

#[test]
fn a_daemon_that_ends_wakes_a_sleeper_as_soon_as_there_is_memory_for_it() {
    let cgroup = MemoryCgroup::new("end");
    let mut daemon = Daemon::start();
    let mut target = sleeper_without_memory(&daemon, &cgroup);
    daemon.signal(Signal::SIGTERM);
    wait::until("it is on record that it can't wake yet", || {
        daemon.audit_of(target.pid()).iter().any(|record| record["event"] == "restore-failed")
    });
    assert!(procfs::is_alive(target.pid()) && !target.is_awake());
    cgroup.limit(256 * 1024 * 1024);
    assert_eq!(daemon.wait_for_end().code(), Some(0));
    target.assert_intact();
    drop(target);
}

/// Kills the worker of a sleeping target that changes its mappings before its successor is there.
fn assert_followed(mode: &str) {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-restless", &[mode, "4"]);
    for _ in 0..10 {
        let worker = daemon.put_to_sleep(&target);
        // the successor comes late: its launcher is held up meanwhile
        send(daemon.launcher(), Signal::SIGSTOP);
        send(worker, Signal::SIGKILL);
        wait::until("nobody traces the target", || procfs::tracer(target.pid()).is_none());
        wait::let_pass(Duration::from_millis(10));
        send(daemon.launcher(), Signal::SIGCONT);
        wait::until("the successor is gone again", || daemon.workers().is_empty());
        target.wait_until_awake();
        target.assert_intact();
    }
}

#[test]
fn children_born_before_the_successor_comes_have_all_memory_too() {
    assert_followed("forks");
}

#[test]
fn memory_moved_before_the_successor_comes_is_restored_where_it_is() {
    assert_followed("moves");
}
