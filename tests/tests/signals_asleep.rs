//! Signals that come while a process sleeps: one that will end it anyway lets it die without its memory, any
//! other is delivered once it is awake, once.

use memcr_tests::daemon::{Daemon, Setup, Way};
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::{binaries, procfs, wait};
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

const TERM: Signal = Signal::SIGTERM;

fn sample(treatment: &str, signal: Signal) -> Target {
    Target::start(&cast().target, "sample-signal", &[treatment, &(signal as i32).to_string(), "16"])
}

/// Sent while it sleeps; it waits there.
fn send_asleep(daemon: &Daemon, target: &Target, signal: Signal) {
    daemon.put_to_sleep(target);
    target.signal(signal);
    assert!(procfs::tracer(target.pid()).is_some(), "it doesn't sleep any more");
}

#[test]
fn one_that_ends_it_lets_it_die_by_that_signal_and_the_client_is_told() {
    // without /dev/userfaultfd, too
    for way in [Way::Root, Way::Ambient] {
        for (treatment, signal) in
            [("default", TERM), ("thread", TERM), ("default", Signal::SIGHUP), ("default", Signal::SIGUSR2)]
        {
            let daemon = Setup::new().way(way).start();
            let mut target = sample(treatment, signal);
            send_asleep(&daemon, &target, signal);
            let outcome = daemon.client().restore(target.pid()).expect_status(5);
            outcome.expect_words(&[signal.as_str(), "let go to die", "not given back"]);
            assert_eq!(target.wait_for_end().signal(), Some(signal as i32), "{way:?} {treatment}");
            daemon.wait_until_no_image();
            let records = daemon.audit_of(target.pid());
            assert!(records.iter().any(|record| record["code"] == "target-lost"), "{records:?}");
        }
    }
}

#[test]
fn when_the_daemon_ends_such_a_process_dies_too() {
    let mut daemon = Daemon::start();
    let mut target = sample("default", TERM);
    send_asleep(&daemon, &target, TERM);
    daemon.signal(TERM);
    assert!(daemon.wait_for_end().success());
    assert_eq!(target.wait_for_end().signal(), Some(libc::SIGTERM));
}

#[test]
fn one_with_a_handler_comes_once_and_finds_all_memory() {
    let daemon = Daemon::start();
    let mut target = sample("handler", TERM);
    send_asleep(&daemon, &target, TERM);
    daemon.client().restore(target.pid()).expect_status(0);
    wait::until("the signal comes", || target.ask("count") == "1");
    target.assert_intact();
    assert_eq!(target.ask("count"), "1");
}

#[test]
fn one_that_is_blocked_waits_and_comes_once() {
    let daemon = Daemon::start();
    let mut target = sample("blocked", TERM);
    send_asleep(&daemon, &target, TERM);
    daemon.client().restore(target.pid()).expect_status(0);
    assert_eq!(target.ask("count"), "0");
    target.assert_intact();
    assert_eq!(target.ask("unblock"), "unblocked");
    assert_eq!(target.ask("count"), "1");
}

#[test]
fn one_that_is_ignored_or_does_nothing_changes_nothing() {
    let daemon = Daemon::start();
    for (treatment, signal) in [("ignored", TERM), ("default", Signal::SIGCHLD), ("default", Signal::SIGCONT)]
    {
        let mut target = sample(treatment, signal);
        send_asleep(&daemon, &target, signal);
        daemon.client().restore(target.pid()).expect_status(0);
        target.assert_intact();
    }
}

#[test]
fn one_that_ends_it_with_a_core_dump_gets_its_memory_first() {
    let daemon = Daemon::start();
    let mut target = sample("default", Signal::SIGQUIT);
    send_asleep(&daemon, &target, Signal::SIGQUIT);
    daemon.client().restore(target.pid()).expect_status(0);
    assert_eq!(target.wait_for_end().signal(), Some(libc::SIGQUIT));
}

#[test]
fn a_handler_that_runs_before_the_fatal_signal_has_its_memory() {
    let daemon = Daemon::start();
    // SIGUSR1 is given out before SIGTERM
    let mut target = sample("handler", Signal::SIGUSR1);
    daemon.put_to_sleep(&target);
    target.signal(Signal::SIGUSR1);
    target.signal(TERM);
    daemon.client().restore(target.pid()).expect_status(0);
    assert_eq!(target.wait_for_end().signal(), Some(libc::SIGTERM));
}

#[test]
fn the_first_process_of_a_pid_namespace_is_not_ended_by_it() {
    let daemon = Daemon::start();
    let sample = binaries::path("sample-signal");
    let user = &cast().target;
    let mut command = std::process::Command::new("unshare");
    let ids = [format!("--reuid={}", user.uid), format!("--regid={}", user.gid)];
    command.args(["--pid", "--fork", "--kill-child", "setpriv"]).args(ids);
    command.args(["--clear-groups", "--"]).arg(sample).args(["default", "15", "8"]).stderr(Stdio::null());
    let mut target = Target::start_command(command);
    let pid = procfs::children(target.pid())[0];
    daemon.client().checkpoint(pid).expect_status(0);
    memcr_tests::daemon::send(pid, TERM);
    daemon.client().restore(pid).expect_status(0);
    target.assert_intact();
}

#[test]
fn a_process_that_was_stopped_before_stays_stopped_and_keeps_its_memory() {
    let daemon = Daemon::start();
    let mut target = sample("default", TERM);
    target.signal(Signal::SIGSTOP);
    wait::until("it is stopped", || {
        procfs::Status::of(target.pid()).is_some_and(|status| status.state() == 'T')
    });
    send_asleep(&daemon, &target, TERM);
    daemon.client().restore(target.pid()).expect_status(0);
    wait::until("it is stopped again", || {
        procfs::Status::of(target.pid()).is_some_and(|status| status.state() == 'T')
    });
    target.signal(Signal::SIGCONT);
    assert_eq!(target.wait_for_end().signal(), Some(libc::SIGTERM));
}
