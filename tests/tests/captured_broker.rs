//! Invariants 5 and 6: a broker in the hands of an attacker can act for nobody but a client that
//! is really connected, and the launcher accepts nothing but its few jobs.

use memcr_protocol::code::{Code, Failure};
use memcr_protocol::image::ImageSettings;
use memcr_protocol::launcher::{Clients, Job, LauncherReport, SleepOptions, Transport};
use memcr_protocol::sandbox::Strictness;
use memcr_protocol::worker::WorkerEvent;
use memcr_tests::captured::{CapturedBroker, order_restore, until_settled};
use memcr_tests::procfs;
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::wait;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

fn sample() -> Target {
    Target::start(&cast().target, "sample-memory", &["16", "3", "2"])
}

fn is_denied(events: &[WorkerEvent]) -> bool {
    let denied = Code::Denied;
    matches!(events.last(), Some(WorkerEvent::Failed(Failure { code, .. })) if *code == denied)
        && events.iter().any(|event| matches!(event, WorkerEvent::Decided { allowed: false, .. }))
}

#[test]
fn it_can_put_to_sleep_what_a_connected_client_may() {
    let broker = CapturedBroker::with_set_up_launcher();
    let mut target = sample();
    let (client, process) = broker.client_of(&cast().client);
    let control = broker.order_sleep(1, &client, target.pid());
    let events = until_settled(&control);
    assert!(matches!(events.last(), Some(WorkerEvent::Asleep(_))), "{events:?}");
    assert!(matches!(broker.jobs.receive(), Some(LauncherReport::Started { ticket: 1, .. })));
    order_restore(&control, 2, &client);
    let events = until_settled(&control);
    assert!(matches!(events.last(), Some(WorkerEvent::Awake(_))), "{events:?}");
    target.assert_intact();
    process.kill();
}

#[test]
fn it_can_not_act_for_a_client_that_may_not() {
    let broker = CapturedBroker::with_set_up_launcher();
    let target = sample();
    for user in [&cast().nobody, &cast().stranger] {
        let (client, process) = broker.client_of(user);
        let events = until_settled(&broker.order_sleep(1, &client, target.pid()));
        assert!(is_denied(&events), "{events:?}");
        assert!(target.is_awake());
        process.kill();
    }
}

#[test]
fn it_is_taken_for_itself_when_it_makes_up_a_client() {
    let broker = CapturedBroker::with_set_up_launcher();
    let target = sample();
    let (client, process) = broker.client_of(&cast().daemon);
    let events = until_settled(&broker.order_sleep(1, &client, target.pid()));
    assert!(is_denied(&events), "{events:?}");
    assert!(target.is_awake());
    process.kill();
}

#[test]
fn it_can_not_pass_off_something_else_as_a_client() {
    let broker = CapturedBroker::with_set_up_launcher();
    let target = sample();
    let file = std::fs::File::open("/dev/null").expect("/dev/null");
    let events = until_settled(&broker.order_sleep(1, &file, target.pid()));
    assert!(matches!(events.last(), None | Some(WorkerEvent::Failed(_))), "{events:?}");
    assert!(target.is_awake());
}

/// Sockets that a broker has, or can make, behind which the kernel sees root.
fn sockets_of_root(broker: &CapturedBroker) -> Vec<OwnedFd> {
    let directory = tempfile::tempdir().expect("a directory");
    let server = UnixListener::bind(directory.path().join("server")).expect("a socket");
    let connected = UnixStream::connect(directory.path().join("server")).expect("it connects");
    // what a daemon's accepted sockets are called, but connected to a server of root's
    let _ = std::fs::remove_file(broker.address());
    let named =
        socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    bind(named.as_raw_fd(), &UnixAddr::new(&broker.address()).expect("an address")).expect("it binds");
    let address = UnixAddr::new(&directory.path().join("server")).expect("an address");
    connect(named.as_raw_fd(), &address).expect("it connects");
    let _ = std::fs::remove_file(broker.address());
    let listening = UnixListener::bind(broker.address()).expect("a socket");
    let jobs = broker.jobs.as_fd().try_clone_to_owned().expect("a copy");
    let pair = UnixStream::pair().expect("a pair").0;
    vec![jobs, listening.into(), server.into(), connected.into(), named, pair.into()]
}

#[test]
fn it_can_not_pass_for_root_by_a_socket_that_root_made() {
    let broker = CapturedBroker::with_set_up_launcher();
    let mut target = sample();
    for (index, socket) in sockets_of_root(&broker).iter().enumerate() {
        let events = until_settled(&broker.order_sleep(1, socket, target.pid()));
        let refused =
            matches!(events.as_slice(), [WorkerEvent::Failed(Failure { code: Code::Protocol, .. })]);
        assert!(refused, "socket {index}: {events:?}");
        assert!(target.is_awake());
    }
    // nor wake what a client has put to sleep
    let (client, process) = broker.client_of(&cast().client);
    let control = broker.order_sleep(1, &client, target.pid());
    assert!(matches!(until_settled(&control).last(), Some(WorkerEvent::Asleep(_))));
    for socket in &sockets_of_root(&broker) {
        order_restore(&control, 2, socket);
        let events = until_settled(&control);
        assert!(matches!(events.last(), Some(WorkerEvent::RestoreDenied { ticket: 2, .. })), "{events:?}");
    }
    drop(control);
    wait::until("it wakes when its broker is gone", || target.is_awake());
    target.assert_intact();
    process.kill();
}

#[test]
fn it_is_told_of_numbers_in_namespaces_of_clients_only() {
    let broker = CapturedBroker::with_set_up_launcher();
    let target = sample();
    let found = |socket: &dyn AsFd, pid| {
        broker.jobs.send(&Job::FindTarget { ticket: 1, pid }, &[socket.as_fd()]);
        match broker.jobs.receive() {
            Some(LauncherReport::TargetFound { ticket: 1, found }) => found,
            other => panic!("the launcher says {other:?}"),
        }
    };
    let (client, process) = broker.client_of(&cast().client);
    assert!(found(&client, target.pid()));
    for number in [0, -1, i32::MIN, i32::MAX] {
        assert!(!found(&client, number), "{number}");
    }
    for socket in sockets_of_root(&broker) {
        assert!(!found(&socket, target.pid()));
    }
    let file = std::fs::File::open("/dev/null").expect("/dev/null");
    assert!(!found(&file, target.pid()));
    // nor of a client that has gone, whose number may be another's
    let (gone, process_of_it) = broker.client_of(&cast().client);
    process_of_it.kill();
    assert!(!found(&gone, target.pid()));
    process.kill();
}

#[test]
fn it_can_not_wake_for_a_client_that_may_not() {
    let broker = CapturedBroker::with_set_up_launcher();
    let mut target = sample();
    let (client, process) = broker.client_of(&cast().client);
    let (stranger, other) = broker.client_of(&cast().stranger);
    let control = broker.order_sleep(1, &client, target.pid());
    until_settled(&control);
    order_restore(&control, 2, &stranger);
    let events = until_settled(&control);
    assert!(matches!(events.last(), Some(WorkerEvent::RestoreDenied { ticket: 2, .. })), "{events:?}");
    assert!(procfs::tracer(target.pid()).is_some());
    drop(control);
    wait::until("it wakes when its broker is gone", || target.is_awake());
    target.assert_intact();
    process.kill();
    other.kill();
}

#[test]
fn what_is_no_job_ends_the_launcher_and_wakes_every_sleeper() {
    let jobs: [&[u8]; 4] = [&[0xff; 300], &[200, 0, 0, 0], &[1, 0, 0, 0, 9], &[5, 0, 0, 0, 1, 1, 1, 1, 1]];
    for garbage in jobs {
        let mut broker = CapturedBroker::with_set_up_launcher();
        let mut target = sample();
        let (client, process) = broker.client_of(&cast().client);
        let control = broker.order_sleep(1, &client, target.pid());
        until_settled(&control);
        broker.jobs.send_bytes(garbage, &[]);
        // though this broker never hangs up
        wait::until("the sleeper is awake", || target.is_awake());
        assert_eq!(broker.wait_for_end(), Some(1), "{garbage:?}");
        drop(control);
        target.assert_intact();
        process.kill();
    }
}

#[test]
fn a_second_set_up_or_a_job_before_the_first_ends_the_launcher() {
    let setup = Job::Setup {
        policy: None,
        userfaultfd: false,
        listen_group: Some(cast().target.gid),
        clients: Clients::AcceptedAt(b"/nowhere".to_vec()),
        image: ImageSettings::default(),
        drop_file_pages: false,
        transport: Transport::Taken,
        sandbox: Strictness::Strict,
    };
    let mut broker = CapturedBroker::with_set_up_launcher();
    broker.jobs.send(&setup, &[]);
    assert_eq!(broker.wait_for_end(), Some(1));
    let mut broker = CapturedBroker::start();
    broker.jobs.send(&Job::Sleep { ticket: 1, options: SleepOptions::default() }, &[]);
    assert_eq!(broker.wait_for_end(), Some(1));
}

#[test]
fn a_job_with_other_descriptors_than_it_needs_ends_the_launcher() {
    let mut broker = CapturedBroker::with_set_up_launcher();
    broker.jobs.send(&Job::Identify { ticket: 1 }, &[]);
    assert_eq!(broker.wait_for_end(), Some(1));
}

#[test]
fn orders_that_make_no_sense_harm_no_sleeper_while_it_sleeps_or_wakes() {
    let broker = CapturedBroker::with_set_up_launcher();
    let mut target = Target::start(&cast().target, "sample-memory", &["96", "3"]);
    let (client, process) = broker.client_of(&cast().client);
    // no length, no such order, a restore without its client
    let garbage: [&[u8]; 3] = [&[0xff; 60], &[1, 0, 0, 0, 9], &[2, 0, 0, 0, 0, 7]];
    for ticket in 1..4 {
        let control = broker.order_sleep(ticket, &client, target.pid());
        assert!(matches!(until_settled(&control).last(), Some(WorkerEvent::Asleep(_))));
        garbage.iter().for_each(|bytes| control.send_bytes(bytes, &[]));
        order_restore(&control, 2, &client);
        garbage.iter().for_each(|bytes| control.send_bytes(bytes, &[]));
        let events = until_settled(&control);
        assert!(matches!(events.last(), Some(WorkerEvent::Awake(_))), "{events:?}");
        target.assert_intact();
    }
    process.kill();
}
