//! Invariant 9 where places are scarce: nobody keeps others out by taking what there is a limited number of.

use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::target::{Target, value};
use memcr_tests::users::{User, cast};
use memcr_tests::{procfs, wait};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// So few that two users can fill the house: 128 connections, half of them for one user.
const DESCRIPTORS: u64 = 256;

fn clients(user: &User, daemon: &Daemon, mode: &str, number: i32) -> Target {
    let socket = daemon.socket();
    Target::start(user, "sample-clients", &[mode, &socket.to_string_lossy(), &number.to_string()])
}

/// Clients that leave descriptors in so many connections, of which the daemon reads none before all are sent.
fn lingering(user: &User, daemon: &Daemon, number: i32) -> Target {
    daemon.signal(Signal::SIGSTOP);
    let clients = clients(user, daemon, "linger", number);
    daemon.signal(Signal::SIGCONT);
    clients
}

/// How many connections were told that a limit is reached.
fn told(clients: &mut Target) -> u32 {
    value(&clients.ask("how many?"), "told").parse().expect("a number")
}

#[test]
fn a_house_full_of_idle_clients_of_two_users_has_room_for_a_third_and_for_root() {
    let daemon = Setup::new().without_group().descriptors(DESCRIPTORS).start();
    let mut first = clients(&cast().nobody, &daemon, "idle", 70);
    let mut second = clients(&cast().stranger, &daemon, "idle", 70);
    let mut target = Target::start(&cast().target, "sample-memory", &["4"]);
    for user in [&cast().target, &cast().root] {
        daemon.client_of(user).checkpoint(target.pid()).expect_status(0);
        daemon.client_of(user).restore(target.pid()).expect_status(0);
    }
    target.assert_intact();
    // each has half of the places at most; who made room for others knows why
    assert!(told(&mut first) >= 6 && told(&mut second) >= 6);
}

#[test]
fn a_client_that_is_turned_away_learns_why() {
    let daemon = Setup::new().without_group().descriptors(DESCRIPTORS).start();
    let _crowd = lingering(&cast().stranger, &daemon, 40);
    let lister = daemon.client_of(&cast().stranger);
    wait::until("no more descriptors are taken from this user", || lister.run(&["--list"]).status == 4);
    lister.run(&["--list"]).expect_status(4).expect_words(&["descriptors", "can't be closed"]);
    // though nothing was asked yet, it is on record who was there
    let away = daemon.audit().into_iter().find(|record| record["event"] == "client-turned-away");
    let away = away.expect("it is on record");
    assert_eq!(away["client"]["uid"], cast().stranger.uid, "{away}");
    assert!(away["message"].as_str().is_some_and(|message| message.contains("can't be closed")), "{away}");
}

#[test]
fn descriptors_whose_closing_takes_long_delay_nobody_else_not_even_the_end() {
    let mut daemon = Setup::new().without_group().descriptors(DESCRIPTORS).start();
    let before = procfs::descriptors(daemon.pid()).len();
    let crowd = lingering(&cast().stranger, &daemon, 60);
    let mut target = Target::start(&cast().target, "sample-memory", &["4"]);
    let owner = daemon.client_of(&cast().target);
    for _ in 0..40 {
        owner.checkpoint(target.pid()).expect_status(0);
        owner.restore(target.pid()).expect_status(0);
    }
    let held = procfs::descriptors(daemon.pid()).len().saturating_sub(before);
    assert!(held < 112, "{held} descriptors of the stranger are open");
    owner.checkpoint(target.pid()).expect_status(0);
    let start = Instant::now();
    daemon.signal(Signal::SIGTERM);
    target.wait_until_awake();
    assert_eq!(daemon.wait_for_end().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
    target.assert_intact();
    drop(crowd);
}

#[test]
fn a_stranger_who_asks_without_end_keeps_nobody_from_their_own_process() {
    let daemon = Setup::new().without_group().start();
    let mut target = Target::start(&cast().target, "sample-memory", &["4"]);
    let _flood = clients(&cast().stranger, &daemon, "flood", target.pid());
    let owner = daemon.client_of(&cast().target);
    for _ in 0..10 {
        owner.checkpoint(target.pid()).expect_status(0);
        owner.restore(target.pid()).expect_status(0);
    }
    target.assert_intact();
    let denied = daemon.audit_of(target.pid()).into_iter().filter(|record| record["outcome"] == "denied");
    assert!(denied.count() > 10, "the stranger was hardly there");
}
