//! Invariant 3: putting a process to sleep and waking it leaves no trace in it.

use memcr_tests::daemon::Daemon;
use memcr_tests::guest::assert_no_difference;
use memcr_tests::procfs::{self, Snapshot};
use memcr_tests::target::{Target, value};
use memcr_tests::users::cast;
use memcr_tests::{lone, wait};
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

#[test]
fn a_hundred_cycles_leave_no_difference() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-zoo", &[]);
    assert_no_difference(&daemon, &mut target, 100);
    assert_eq!(target.ask("finish"), "intact");
}

#[test]
fn changing_memory_comes_back_as_it_was_last() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-memory", &["48", "1", "3"]);
    for seed in 2..8 {
        let filled = target.ask(&format!("refill {seed}"));
        daemon.put_to_sleep(&target);
        daemon.client().restore(target.pid()).expect_status(0);
        let checked = target.ask("check");
        assert!(checked.starts_with("intact"), "{checked}");
        assert_eq!(value(&checked, "hash"), value(&filled, "hash"));
    }
}

#[test]
fn asleep_only_the_guard_is_added_and_it_is_close_on_exec() {
    let daemon = Daemon::start();
    let target = Target::start(&cast().target, "sample-memory", &["8"]);
    let before = procfs::descriptors(target.pid());
    daemon.put_to_sleep(&target);
    let added: Vec<_> =
        procfs::descriptors(target.pid()).into_iter().filter(|number| !before.contains(number)).collect();
    assert_eq!(added.len(), 1, "added: {added:?}");
    let guard = added[0];
    assert!(procfs::descriptor_target(target.pid(), guard).contains("userfaultfd"));
    let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/{guard}", target.pid())).expect("fdinfo");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags").trim().to_owned();
    let flags = i32::from_str_radix(&flags, 8).expect("flags are octal");
    assert_ne!(flags & libc::O_CLOEXEC, 0, "the guard isn't close-on-exec");
    daemon.client().restore(target.pid()).expect_status(0);
    assert_eq!(procfs::descriptors(target.pid()), before);
}

#[test]
fn a_refused_checkpoint_leaves_no_difference() {
    let daemon = Daemon::start();
    let target = Target::start(&cast().target, "sample-state", &["filtered"]);
    let before = Snapshot::of(target.pid());
    daemon.client().checkpoint(target.pid()).expect_status(3);
    before.assert_same(&Snapshot::of(target.pid()), "after a refusal");
}

#[test]
fn calls_that_wait_for_a_time_neither_fail_nor_end_early_nor_take_longer() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-waits", &["500"]);
    let mut slept = Duration::ZERO;
    for _ in 0..8 {
        let start = Instant::now();
        daemon.put_to_sleep(&target);
        wait::let_pass(Duration::from_millis(50));
        daemon.client().restore(target.pid()).expect_status(0);
        slept = slept.max(start.elapsed());
        let answer = target.ask("check");
        assert!(answer.starts_with("intact"), "{answer}");
    }
    let longest: u64 = value(&target.ask("check"), "longest").parse().expect("a number");
    let bound = 2 * 500 + slept.as_millis() as u64 + 1000;
    assert!(longest < bound, "a wait of 500 ms took {longest} ms, the longest sleep was {slept:?}");
}

#[test]
fn an_area_of_restartable_sequences_stays_registered_and_where_it_is() {
    let daemon = Daemon::start();
    let mut target = lone::with_sequences("8");
    for _ in 0..3 {
        daemon.put_to_sleep(&target);
        daemon.client().restore(target.pid()).expect_status(0);
        target.assert_intact();
    }
    daemon.assert_no_worker_died();
}

#[test]
fn a_process_whose_main_thread_has_ended_sleeps_and_wakes() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-state", &["without-main-thread", "16"]);
    wait::until("the main thread has ended", || {
        procfs::Status::of_thread(target.pid(), target.pid()).is_some_and(|status| status.state() == 'Z')
    });
    for _ in 0..2 {
        let report = daemon.client().checkpoint(target.pid()).expect_status(0);
        // what /proc tells of the ended thread is empty: the figures are those of the living one
        assert!(report.figure("dumped") > 12 << 20, "its memory is still there: {}", report.output);
        daemon.client().restore(target.pid()).expect_status(0);
        target.assert_intact();
    }
}

#[test]
fn a_stopped_process_stays_stopped_and_is_intact_when_continued() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-memory", &["8", "5", "2"]);
    target.signal(Signal::SIGSTOP);
    wait::until("it is stopped", || state_of(&target) == 'T');
    daemon.put_to_sleep(&target);
    daemon.client().restore(target.pid()).expect_status(0);
    // a detached thread passes through the kernel once more on its way back to its stop
    wait::until("it is stopped again", || state_of(&target) == 'T');
    wait::holds_for("it stays stopped", Duration::from_millis(200), || state_of(&target) == 'T');
    target.signal(Signal::SIGCONT);
    target.assert_intact();
}

#[test]
fn stop_and_continue_sent_to_a_sleeper_take_effect_at_the_wake_and_harm_nothing() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-memory", &["8", "6", "2"]);
    let send_asleep = |target: &Target, signal| {
        daemon.put_to_sleep(target);
        target.signal(signal);
        wait::holds_for("it sleeps on", Duration::from_millis(100), || {
            procfs::tracer(target.pid()).is_some()
        });
        daemon.client().restore(target.pid()).expect_status(0);
    };
    send_asleep(&target, Signal::SIGSTOP);
    wait::until("it is stopped, by the signal only", || {
        state_of(&target) == 'T' && procfs::tracer(target.pid()).is_none()
    });
    target.say("check");
    assert_eq!(target.line_within(Duration::from_millis(200)), None, "it is stopped and runs all the same");
    send_asleep(&target, Signal::SIGCONT);
    assert!(target.line().starts_with("intact"));
    // the one takes the other back
    daemon.put_to_sleep(&target);
    target.signal(Signal::SIGSTOP);
    target.signal(Signal::SIGCONT);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
}

#[test]
fn a_fatal_signal_sent_to_a_sleeper_ends_it_at_the_wake_with_that_signal() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-memory", &["8"]);
    daemon.put_to_sleep(&target);
    target.signal(Signal::SIGTERM);
    wait::holds_for("it sleeps on", Duration::from_millis(200), || procfs::tracer(target.pid()).is_some());
    // it runs when the daemon says so, and ends by the signal at once
    let outcome = daemon.client().restore(target.pid());
    assert!(matches!(outcome.status, 0 | 5), "{}", outcome.errors);
    assert_eq!(target.wait_for_end().signal(), Some(libc::SIGTERM));
}

#[test]
fn a_sleeper_that_is_killed_disappears_from_the_list_and_is_on_record() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-memory", &["8"]);
    daemon.put_to_sleep(&target);
    target.signal(Signal::SIGKILL);
    assert_eq!(target.wait_for_end().signal(), Some(libc::SIGKILL));
    wait::until("its entry disappears", || daemon.client().listed().is_empty());
    daemon.wait_until_no_image();
    wait::until("it is on record", || {
        daemon.audit_of(target.pid()).iter().any(|record| record["event"] == "target-lost")
    });
}

fn state_of(target: &Target) -> char {
    procfs::Status::of(target.pid()).map_or('?', |status| status.state())
}
