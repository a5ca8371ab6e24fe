//! `-t`: a checkpoint that takes too long is undone, a restore that does is answered; nobody is harmed.

use memcr_tests::cgroup::SlowCgroup;
use memcr_tests::daemon::{Daemon, Setup, send};
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::wait;
use nix::sys::signal::Signal;

/// A daemon with a limit that even a busy machine keeps.
fn daemon(seconds: &str) -> Daemon {
    Setup::new().arguments(&["-t", seconds]).start()
}

#[test]
fn a_checkpoint_that_takes_too_long_is_undone_and_the_next_one_works() {
    let daemon = daemon("5");
    let mut target = Target::start(&cast().target, "sample-memory", &["256"]);
    // reading and writing that takes a processor more than a tenth of a second
    let cgroup = SlowCgroup::new("checkpoint", 1);
    cgroup.add(daemon.launcher());
    let outcome = daemon.client().checkpoint(target.pid()).expect_status(4);
    outcome.expect_words(&["the checkpoint", "did not finish in 5 seconds", "undone"]);
    target.wait_until_awake();
    target.assert_intact();
    daemon.wait_until_no_image();
    cgroup.hurry();
    daemon.client().checkpoint(target.pid()).expect_status(0);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
}

#[test]
fn a_restore_that_takes_too_long_is_answered_and_goes_on() {
    let daemon = daemon("5");
    let mut target = Target::start(&cast().target, "sample-memory", &["16"]);
    let worker = daemon.put_to_sleep(&target);
    send(worker, Signal::SIGSTOP);
    let outcome = daemon.client().restore(target.pid()).expect_status(4);
    outcome.expect_words(&["not awake within 5 seconds", "being woken all the same"]);
    send(worker, Signal::SIGCONT);
    target.wait_until_awake();
    target.assert_intact();
    wait::until("it is known to run", || daemon.client().state(target.pid()) == "running");
    daemon.client().checkpoint(target.pid()).expect_status(0);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
}
