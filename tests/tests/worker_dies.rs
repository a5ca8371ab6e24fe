//! Invariant 2 to the letter: wherever a worker is killed, its target runs on as if nothing had been.

use memcr_tests::client::Running;
use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::procfs::{self, Snapshot};
use memcr_tests::scratch::Scratch;
use memcr_tests::sockets::{self, assert_empty, daemon_with};
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::watch::Watch;
use std::path::Path;

/// More calls than a worker makes that concern its target.
const MANY: u64 = 2000;

#[test]
fn killed_before_any_call_that_concerns_it_a_worker_leaves_a_computing_target_unharmed() {
    killed_at_every_call(&Daemon::start(), &mut computing(), None);
}

#[test]
fn killed_before_any_call_that_concerns_it_a_worker_leaves_a_waiting_target_unharmed() {
    killed_at_every_call(&Daemon::start(), &mut waiting(), None);
}

#[test]
fn the_same_holds_for_a_computing_target_with_a_socket_in_a_directory() {
    let scratch = Scratch::new();
    let directory = sockets::directory_of(&cast().target, &scratch);
    // the longest way: with a group, which is the target's own
    let group = cast().target.gid.to_string();
    let daemon = daemon_with(&directory).arguments(&["-G", &group]).start();
    killed_at_every_call(&daemon, &mut computing(), Some(&directory));
}

#[test]
fn the_same_holds_for_a_waiting_target_with_a_socket_in_a_directory() {
    let scratch = Scratch::new();
    let directory = sockets::directory_of(&cast().target, &scratch);
    killed_at_every_call(&daemon_with(&directory).start(), &mut waiting(), Some(&directory));
}

#[test]
fn the_same_holds_for_a_process_that_protects_its_memory_which_stays_so() {
    let rule = "[[rule]]\nname = 'all'\neffect = 'allow'\nactions = ['checkpoint', 'restore']\npermits = 'non-dumpable'\n";
    let daemon = Setup::new().without_group().policy(&format!("version = 1\n{rule}")).start();
    let mut target = Target::start(&cast().target, "sample-state", &["not-dumpable", "2"]);
    killed_at_every_call(&daemon, &mut target, None);
    assert_eq!(procfs::owner(target.pid()), 0, "it is dumpable");
}

fn computing() -> Target {
    Target::start(&cast().target, "sample-lone", &["2", "5"])
}

fn waiting() -> Target {
    Target::start(&cast().target, "sample-memory", &["2", "5", "2"])
}

/// The parasite's socket, if it has one, is in this directory.
fn killed_at_every_call(daemon: &Daemon, target: &mut Target, directory: Option<&Path>) {
    target.assert_intact();
    let before = Snapshot::of(target.pid());
    for at in 0..MANY {
        let mut watch = Watch::start(daemon.launcher(), at);
        let asleep = daemon.client().start_checkpoint(target.pid());
        let checkpoint = until_it_ends(asleep, &mut watch);
        if checkpoint == 0 && watch.died_at.is_none() {
            let restore = until_it_ends(daemon.client().start_restore(target.pid()), &mut watch);
            assert!(matches!(restore, 0 | 4), "call {at}, {:?}: restore gave {restore}", watch.died_at);
        }
        let died_at = watch.died_at;
        // the successor is watched until it is there, too: its first stop must be ended
        watch.until("no worker is left", || daemon.workers().is_empty());
        watch.end();
        let when = format!("after its worker died at call {at}, {died_at:x?}");
        println!("{when}");
        target.wait_until_awake();
        target.assert_intact();
        before.assert_same(&Snapshot::of(target.pid()), &when);
        daemon.wait_until_no_image();
        directory.into_iter().for_each(assert_empty);
        if died_at.is_none() {
            println!("{at} calls");
            assert!(at > 50, "only {at} calls");
            return;
        }
    }
    panic!("more than {MANY} calls");
}

/// Watches the worker until the client has its answer; its exit status.
fn until_it_ends(mut client: Running, watch: &mut Watch) -> i32 {
    watch.until("the client has its answer", || client.has_ended());
    client.finish().status
}
