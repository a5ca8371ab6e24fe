//! Clients that flood the daemon: what it has stays bounded, and others are served.

use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::network::{FIRST, Network};
use memcr_tests::procfs::{self, Status};
use memcr_tests::target::{Target, value};
use memcr_tests::users::{User, cast};
use memcr_tests::{binaries, wait};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::thread;

/// Most that the broker may ever take up in these tests, in KiB (VmHWM): 5 MiB at its start, and buffers of 2048 connections.
const MEMORY: u64 = 16 * 1024;

/// A daemon to which everybody may connect, and whose records nobody keeps: there are very many.
fn daemon(words: &[&str]) -> Daemon {
    let words = [&["--audit-log", "/dev/null"], words].concat();
    Setup::new().without_group().without_audit_log().arguments(&words).start()
}

/// Has a user flood it; what came of it once all is done.
fn flood(user: &User, daemon: &Daemon, mode: &str, number: usize) -> Flood {
    flood_at(user, &daemon.socket(), mode, number)
}

fn flood_at(user: &User, socket: &Path, mode: &str, number: usize) -> Flood {
    let mut command = user.command(binaries::path("sample-flood"));
    command.arg(mode).arg(socket).arg(number.to_string());
    // more descriptors than a process usually may have; executes the command in its own place
    let mut roomy = Command::new("/usr/bin/prlimit");
    roomy.arg("--nofile=4096:4096").arg(command.get_program()).args(command.get_args());
    roomy.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Flood(Target::start_command(roomy))
}

struct Flood(Target);

impl Flood {
    fn number(&self, name: &str) -> usize {
        self.0.fact(name).parse().expect("a number")
    }

    /// How many of its connections the daemon has not hung up.
    fn held(&mut self) -> usize {
        value(&self.0.ask("how many?"), "held").parse().expect("a number")
    }
}

/// Others are served meanwhile, and what the broker has is bounded.
#[track_caller]
fn assert_well(daemon: &Daemon) {
    assert_serves(daemon, &mut Target::start(&cast().target, "sample-memory", &["4"]));
}

#[track_caller]
fn assert_serves(daemon: &Daemon, target: &mut Target) {
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
    let users = [&cast().stranger, &cast().client, &cast().daemon, &cast().target];
    let mut floods: Vec<_> = users.iter().map(|user| flood(user, &daemon, "connections", 2500)).collect();
    assert_well(&daemon);
    // as many as there are places, and no user has more than half of them
    let held: Vec<_> = floods.iter_mut().map(Flood::held).collect();
    let all: usize = held.iter().sum();
    assert!(all > 1000 && all <= 2048 && held.iter().all(|held| *held <= 1024), "{held:?}");
    let descriptors = procfs::descriptors(daemon.pid()).len();
    assert!(descriptors < 2048 + 64, "{descriptors} descriptors");
}

#[test]
fn clients_that_are_silent_slow_or_stop_in_the_middle_cost_little_and_delay_nobody() {
    let daemon = daemon(&[]);
    let before = procfs::descriptors(daemon.pid()).len();
    let mut floods = Vec::new();
    for (user, mode) in [(&cast().stranger, "silent"), (&cast().client, "halves"), (&cast().nobody, "slow")] {
        floods.push(flood(user, &daemon, mode, 500));
        assert_well(&daemon);
    }
    // who began late is still there: half a frame is waited for
    assert_eq!(floods[2].held(), 500);
    drop(floods);
    wait::until("they are forgotten", || procfs::descriptors(daemon.pid()).len() <= before + 8);
}

#[test]
fn clients_that_read_no_answers_are_asked_for_nothing_more_and_fill_no_memory() {
    let daemon = daemon(&[]);
    let mut flood = flood(&cast().stranger, &daemon, "unread", 4);
    assert!(flood.number("answered") > 4 * 256);
    assert_eq!(flood.number("refused"), 0, "clients could ask on without an end");
    assert_well(&daemon);
    assert_eq!(flood.held(), 4);
}

#[test]
fn a_million_requests_are_answered_in_bounded_memory_while_others_are_served() {
    let daemon = daemon(&[]);
    let socket = daemon.socket();
    let mut target = Target::start(&cast().target, "sample-memory", &["4"]);
    let answered: usize = thread::scope(|scope| {
        let floods = [&cast().stranger, &cast().client].map(|user| {
            let socket = &socket;
            scope.spawn(move || flood_at(user, socket, "requests", 500_000).number("answered"))
        });
        // how often depends on how long it takes; at least while it begins
        while !floods.iter().all(thread::ScopedJoinHandle::is_finished) {
            assert_serves(&daemon, &mut target);
        }
        floods.map(|flood| flood.join().expect("it floods")).iter().sum()
    });
    assert_eq!(answered, 1_000_000);
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
    let words = ["--max-connections-per-user", "4", "--max-sleepers-per-user", "2"];
    let daemon = Setup::new().without_group().arguments(&words).start();
    let owner = daemon.client_of(&cast().target);
    let mut targets: Vec<_> =
        (0..3).map(|_| Target::start(&cast().target, "sample-memory", &["1"])).collect();
    for target in &targets[..2] {
        owner.checkpoint(target.pid()).expect_status(0);
    }
    owner.checkpoint(targets[2].pid()).expect_status(4).expect_words(&["may have", "wake some"]);
    targets[2].assert_intact();
    assert_eq!(daemon.audit_of(targets[2].pid())[0]["code"], "limit");
    // it is each user's own number, and root's is none
    daemon.client_of(&cast().root).checkpoint(targets[2].pid()).expect_status(0);
    for target in &mut targets {
        owner.restore(target.pid()).expect_status(0);
        target.assert_intact();
    }
    let before = procfs::descriptors(daemon.pid()).len();
    let crowd = |user: &User| {
        Target::start(user, "sample-clients", &["idle", &daemon.socket().display().to_string(), "9"])
    };
    let (mut ours, mut roots) = (crowd(&cast().target), crowd(&cast().root));
    // the idlest made room, and knows why
    assert_eq!(value(&ours.ask("how many?"), "told"), "5");
    assert_eq!(value(&roots.ask("how many?"), "told"), "0");
    // those that were told go a moment later
    wait::until("no more are held than may be", || {
        procfs::descriptors(daemon.pid()).len().saturating_sub(before) <= 4 + 9
    });
}

/// Clients of another network are one user, which nobody knows by name.
#[test]
fn anonymous_clients_over_tcp_share_the_places_of_one_user() {
    let (near, far) = Network::connected();
    let near = Rc::new(near);
    let (address, rule) = (SocketAddr::from((FIRST, 9000)), "client = { anonymous = true }\n");
    let policy =
        format!("version = 1\n[[rule]]\nname = \"guests\"\neffect = \"allow\"\nactions = \"list\"\n{rule}");
    let words = ["--listen-address", &FIRST.to_string(), "--max-connections-per-user", "2"];
    let daemon = Setup::new().port_in(&near, 9000).policy(&policy).arguments(&words).start();
    let guest = |user: &User| {
        let mut command = user.command(binaries::path("sample-tcp"));
        Target::start_command(far.command(command.arg(address.to_string())))
    };
    let before = procfs::descriptors(daemon.pid()).len();
    let mut guests = Vec::new();
    for user in [&cast().stranger, &cast().client, &cast().root, &cast().target] {
        guests.push(guest(user));
        assert_eq!(guests.last_mut().expect("a guest").ask("list"), "listed=");
    }
    wait::until("the idlest have made room", || procfs::descriptors(daemon.pid()).len() == before + 2);
    // its own users have their own places
    let mut here = Target::start_command(
        near.command(cast().stranger.command(binaries::path("sample-tcp")).arg(address.to_string())),
    );
    assert_eq!(here.ask("list"), "listed=");
    assert_eq!(procfs::descriptors(daemon.pid()).len(), before + 3);
}
