//! Clients that flood the daemon: what it has stays bounded, and others are served.

use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::procfs::{self, Status};
use memcr_tests::target::{Target, value};
use memcr_tests::users::{User, cast};

/// Most that the broker may ever take up, in KiB (VmHWM): some MiB at its start, buffers of its connections, what one
/// user may have unread.
const MEMORY: u64 = 64 * 1024;

/// A daemon to which everybody may connect, and whose records nobody keeps: there are very many.
fn daemon(words: &[&str]) -> Daemon {
    let words = [&["--audit-log", "/dev/null"], words].concat();
    Setup::new().without_group().without_audit_log().arguments(&words).start()
}

/// Has a user flood it; what came of it once all is done.
fn flood(user: &User, daemon: &Daemon, mode: &str, number: usize) -> Flood {
    let socket = daemon.socket().display().to_string();
    Flood(Target::start(user, "sample-flood", &[mode, &socket, &number.to_string()]))
}

struct Flood(Target);

impl Flood {
    fn number(&self, name: &str) -> usize {
        self.0.fact(name).parse().expect("a number")
    }
}

/// Others are served meanwhile, and what the broker has is bounded.
#[track_caller]
fn assert_well(daemon: &Daemon) {
    let mut target = Target::start(&cast().target, "sample-memory", &["4"]);
    daemon.client_of(&cast().target).checkpoint(target.pid()).expect_status(0);
    daemon.client_of(&cast().target).restore(target.pid()).expect_status(0);
    target.assert_intact();
    let memory = Status::of(daemon.pid()).expect("it lives").number("VmHWM");
    assert!(memory < MEMORY, "the broker took up {memory} KiB");
}

#[test]
fn messages_full_of_descriptors_are_refused_and_none_stays_open() {
    let daemon = daemon(&[]);
    let before = procfs::descriptors(daemon.pid()).len();
    for user in [&cast().stranger, &cast().nobody] {
        let flood = flood(user, &daemon, "descriptors", 400);
        assert_eq!(flood.number("refused"), 400);
        assert_well(&daemon);
    }
    let after = procfs::descriptors(daemon.pid()).len();
    assert!(after <= before + 8, "{before} descriptors before, {after} after");
}

#[test]
fn ten_thousand_connections_leave_room_for_others() {
    let daemon = daemon(&[]);
    let flood = flood(&cast().stranger, &daemon, "connections", 10_000);
    assert!(flood.number("answered") > 1000);
    assert_well(&daemon);
    let held = procfs::descriptors(daemon.pid()).len();
    assert!(held < 2048 + 64, "{held} descriptors");
}

#[test]
fn a_million_requests_are_answered_in_bounded_memory_while_others_are_served() {
    let daemon = daemon(&[]);
    let socket = daemon.socket().display().to_string();
    let stranger = std::thread::spawn(move || {
        Target::start(&cast().stranger, "sample-flood", &["requests", &socket, "1000000"])
    });
    // how often depends on how long it takes; at least while it begins
    while !stranger.is_finished() {
        assert_well(&daemon);
    }
    let flood = Flood(stranger.join().expect("it floods"));
    assert_eq!(flood.number("answered"), 1_000_000);
    assert_well(&daemon);
}

#[test]
fn forged_lengths_reserve_nothing() {
    let daemon = daemon(&[]);
    let flood = flood(&cast().stranger, &daemon, "forged", 600);
    assert_eq!(flood.number("refused"), 600);
    assert_well(&daemon);
}

#[test]
fn a_user_has_no_more_connections_and_sleepers_than_the_administrator_says() {
    let daemon = daemon(&["--max-connections-per-user", "4", "--max-sleepers-per-user", "2"]);
    let owner = daemon.client_of(&cast().target);
    let mut targets: Vec<_> =
        (0..3).map(|_| Target::start(&cast().target, "sample-memory", &["1"])).collect();
    for target in &targets[..2] {
        owner.checkpoint(target.pid()).expect_status(0);
    }
    owner.checkpoint(targets[2].pid()).expect_status(4).expect_words(&["may have", "wake some"]);
    targets[2].assert_intact();
    // it is each user's own number, and root's is none
    daemon.client_of(&cast().root).checkpoint(targets[2].pid()).expect_status(0);
    for target in &mut targets {
        owner.restore(target.pid()).expect_status(0);
        target.assert_intact();
    }
    let crowd = Target::start(
        &cast().target,
        "sample-clients",
        &["idle", &daemon.socket().display().to_string(), "9"],
    );
    let held = procfs::sockets_of(daemon.pid());
    let mut crowd = crowd;
    // the idlest made room, and knows why
    assert_eq!(value(&crowd.ask("how many?"), "told"), "5");
    assert!(!held.is_empty());
}
