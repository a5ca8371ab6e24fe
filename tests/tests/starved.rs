//! A target that hardly gets a processor: what it does for memcr takes its time, and is waited for.

use memcr_tests::daemon::{Daemon, send};
use memcr_tests::procfs;
use memcr_tests::sys::Starved;
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::wait;
use nix::sys::signal::Signal;
use std::time::Duration;

const MIB: u64 = 1024 * 1024;
/// Freeing this takes a processor some ten milliseconds, and a starved target some hundred times as long.
const SIZE: u64 = 192;

fn sample() -> Target {
    Target::start(&cast().target, "sample-memory", &[&SIZE.to_string(), "6"])
}

#[test]
fn however_long_it_takes_to_free_the_memory_it_is_all_there_afterwards() {
    let daemon = Daemon::start();
    let mut target = sample();
    let starved = Starved::new(target.pid());
    daemon.put_to_sleep(&target);
    assert!(procfs::rss_anon(target.pid()) < SIZE * MIB / 20);
    daemon.client().restore(target.pid()).expect_status(0);
    drop(starved);
    target.assert_intact();
}

#[test]
fn a_worker_killed_while_memory_is_being_freed_leaves_it_all_to_its_successor() {
    let daemon = Daemon::start();
    let mut target = sample();
    let starved = Starved::new(target.pid());
    let before = procfs::rss_anon(target.pid());
    let running = daemon.client().start_checkpoint(target.pid());
    let worker = wait::until_some("there is a worker", wait::BOUND, || daemon.workers().first().copied());
    wait::until_some("some memory is freed", 4 * wait::BOUND, || {
        (procfs::rss_anon(target.pid()) < before - 8 * MIB).then_some(())
    });
    send(worker, Signal::SIGKILL);
    // the successor has time enough to do it wrong
    wait::let_pass(Duration::from_millis(500));
    drop(starved);
    let outcome = running.finish();
    target.wait_until_awake();
    target.assert_intact();
    assert_eq!(outcome.status, 4, "{}", outcome.errors);
    daemon.wait_until_no_image();
}
