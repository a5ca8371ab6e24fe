//! Processes that are refused unless a rule permits them: those that protect their memory, and those with a seccomp filter.

use memcr_tests::daemon::{Daemon, Setup, send};
use memcr_tests::procfs;
use memcr_tests::target::{Target, value};
use memcr_tests::users::cast;
use memcr_tests::wait;
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn daemon(permits: &str) -> Daemon {
    let actions = "['checkpoint', 'restore', 'list', 'status']";
    let rule = format!("[[rule]]\nname = 'apps'\neffect = 'allow'\nactions = {actions}\n");
    let permits = if permits.is_empty() { String::new() } else { format!("permits = {permits}\n") };
    Setup::new().without_group().policy(&format!("version = 1\n{rule}{permits}")).start()
}

fn state(name: &str) -> Target {
    Target::start(&cast().target, "sample-state", &[name])
}

/// A process that is not dumpable is root's in /proc.
fn is_protected(target: &Target) -> bool {
    procfs::owner(target.pid()) == 0
}

#[track_caller]
fn sleeps_and_wakes(daemon: &Daemon, target: &mut Target) {
    daemon.client().checkpoint(target.pid()).expect_status(0);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
}

#[test]
fn a_process_that_is_not_dumpable_sleeps_if_the_rule_permits_it_and_stays_so() {
    let daemon = daemon("['non-dumpable']");
    let mut target = state("not-dumpable");
    assert!(is_protected(&target));
    let before = procfs::Snapshot::of(target.pid());
    daemon.client().checkpoint(target.pid()).expect_status(0);
    assert!(is_protected(&target), "asleep");
    daemon.client().restore(target.pid()).expect_status(0);
    assert!(is_protected(&target), "awake");
    before.assert_same(&procfs::Snapshot::of(target.pid()), "after a sleep");
    target.assert_intact();
    // by a successor too
    daemon.put_to_sleep(&target);
    send(daemon.workers()[0], Signal::SIGKILL);
    target.wait_until_awake();
    target.assert_intact();
    assert!(is_protected(&target), "woken by a successor");
}

#[test]
fn nothing_else_permits_it() {
    for permits in ["", "['seccomp']"] {
        let daemon = daemon(permits);
        let mut target = state("not-dumpable");
        let outcome = daemon.client().checkpoint(target.pid()).expect_status(3);
        outcome.expect_words(&["not dumpable", "doesn't permit `non-dumpable`"]);
        assert!(is_protected(&target));
        target.assert_intact();
    }
    for permits in ["", "['non-dumpable']"] {
        let daemon = daemon(permits);
        let mut target = state("filtered");
        let outcome = daemon.client().checkpoint(target.pid()).expect_status(3);
        outcome.expect_words(&["seccomp", "doesn't permit `seccomp`"]);
        target.assert_intact();
    }
}

/// To be stopped is something that not every filter survives.
#[test]
fn a_process_with_a_filter_that_no_rule_permits_is_not_even_stopped() {
    let daemon = daemon("");
    let mut target = state("kill:restart_syscall");
    target.assert_intact();
    wait::until("its threads wait", || procfs::all_wait(target.pid(), 2));
    daemon.client().checkpoint(target.pid()).expect_status(3).expect_words(&["doesn't permit `seccomp`"]);
    target.assert_intact();
}

#[test]
fn a_process_with_a_filter_sleeps_if_the_rule_permits_it() {
    let daemon = daemon("['seccomp', 'non-dumpable']");
    let mut target = state("filtered");
    let before = procfs::Snapshot::of(target.pid());
    for _ in 0..3 {
        sleeps_and_wakes(&daemon, &mut target);
    }
    before.assert_same(&procfs::Snapshot::of(target.pid()), "after three sleeps");
    daemon.assert_no_worker_died();
}

#[test]
fn a_filter_that_forbids_what_memcr_needs_is_found_before_anything_is_done() {
    let daemon = daemon("'seccomp'");
    for call in ["mmap", "munmap", "madvise", "openat", "ioctl", "close", "recvmsg", "sendmsg", "socketpair"]
    {
        for answer in ["error", "trap"] {
            let mut target = state(&format!("{answer}:{call}"));
            // it has its filter by then
            target.assert_intact();
            let before = procfs::Snapshot::of(target.pid());
            let outcome = daemon.client().checkpoint(target.pid()).expect_status(3);
            let outcome = outcome.expect_words(&[&format!("{call}(2)"), "its seccomp filter"]);
            if answer == "error" {
                outcome.expect_words(&["answers it with: ", "not permitted"]);
            }
            target.wait_until_awake();
            before.assert_same(&procfs::Snapshot::of(target.pid()), call);
            // a trap for memcr was none for the program, whose handler is still there
            let own = if answer == "trap" { "1" } else { "0" };
            assert_eq!(value(&target.ask("trap"), "traps"), own, "{answer}:{call}");
            target.assert_intact();
        }
    }
    daemon.assert_no_worker_died();
}

#[test]
fn a_filter_that_kills_can_not_be_survived_and_the_client_is_told_why() {
    let daemon = daemon("'seccomp'");
    let mut target = state("kill:madvise");
    target.assert_intact();
    let outcome = daemon.client().checkpoint(target.pid()).expect_status(5);
    outcome.expect_words(&["seccomp filter", "should not permit"]);
    assert_eq!(target.wait_for_end().signal(), Some(libc::SIGSYS));
    assert!(procfs::is_alive(daemon.launcher()));
}

#[test]
fn a_filter_that_kills_a_thread_breaks_the_process_and_the_client_is_told_so() {
    let daemon = daemon("'seccomp'");
    let mut target = state("kill-thread:madvise");
    target.assert_intact();
    let outcome = daemon.client().checkpoint(target.pid()).expect_status(5);
    outcome.expect_words(&["lost a thread", "should not permit"]);
    assert!(procfs::is_alive(daemon.launcher()));
    send(target.pid(), Signal::SIGKILL);
}

#[test]
fn a_sigsys_that_others_send_all_the_time_holds_nobody_up_and_harms_nothing() {
    let daemon = daemon("'seccomp'");
    // a filter that lets everything through that memcr needs, and a handler
    let mut target = state("error:umask");
    target.assert_intact();
    let (pid, is_done) = (target.pid(), AtomicBool::new(false));
    let (slept, sent) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !is_done.load(Ordering::Relaxed) {
                send(pid, Signal::SIGSYS);
                sent += 1;
                wait::let_pass(Duration::from_micros(200));
            }
            sent
        });
        let mut slept = 0;
        for _ in 0..12 {
            let outcome = daemon.client().checkpoint(pid);
            match outcome.status {
                0 => {
                    slept += 1;
                    daemon.client().restore(pid).expect_status(0);
                }
                // one waits for it
                3 => {}
                other => panic!("{other}: {}", outcome.errors),
            }
        }
        is_done.store(true, Ordering::Relaxed);
        (slept, sender.join().expect("it sends"))
    });
    println!("{slept} sleeps, {sent} signals");
    target.wait_until_awake();
    target.assert_intact();
    assert!(procfs::Status::of(pid).is_some_and(|status| status.hexadecimal("SigCgt") >> 30 & 1 == 1));
    wait::until("all workers are gone", || daemon.workers().is_empty());
    daemon.assert_no_worker_died();
}

#[test]
fn the_strict_mode_of_seccomp_is_never_permitted() {
    let daemon = daemon("'seccomp'");
    let mut target = state("strict");
    target.assert_intact();
    daemon.client().checkpoint(target.pid()).expect_status(3).expect_words(&["strict mode"]);
    target.assert_intact();
}
