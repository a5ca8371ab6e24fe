//! Invariant 5 over TCP: the privileged side names clients itself, from the kernel's own tables, and a broker in the
//! hands of an attacker can pass nothing else off as a client.

use memcr_protocol::code::{Code, Failure};
use memcr_protocol::subject::PeerKind;
use memcr_protocol::worker::WorkerEvent;
use memcr_tests::captured::{CapturedBroker, Channel, order_restore, until_settled};
use memcr_tests::network::{FIRST, Network, SECOND, loopbacks};
use memcr_tests::target::Target;
use memcr_tests::users::{User, cast};
use memcr_tests::{binaries, procfs, wait};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;

fn sample(user: &User) -> Target {
    Target::start(user, "sample-memory", &["16", "3", "2"])
}

/// A listener of this machine, a launcher that takes who is accepted there for a client.
fn captured(ip: &str) -> (CapturedBroker, TcpListener) {
    let listener = TcpListener::bind((ip, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    (CapturedBroker::over_tcp(&[address], None, None), listener)
}

fn command_of(user: &User, address: SocketAddr) -> Command {
    let mut command = user.command(binaries::path("sample-tcp"));
    command.arg(address.to_string());
    command
}

/// A process of this user that has connected, and what was accepted.
fn client(user: &User, listener: &TcpListener) -> (Target, TcpStream) {
    let process = Target::start_command(command_of(user, listener.local_addr().expect("an address")));
    (process, listener.accept().expect("it has connected").0)
}

#[track_caller]
fn assert_asleep(events: &[WorkerEvent]) {
    assert!(matches!(events.last(), Some(WorkerEvent::Asleep(_))), "{events:?}");
}

#[track_caller]
fn assert_denied(events: &[WorkerEvent], by: &str) {
    let denied = Code::Denied;
    let is_denied =
        matches!(events.last(), Some(WorkerEvent::Failed(Failure { code, .. })) if *code == denied);
    let by_rule =
        |event: &WorkerEvent| matches!(event, WorkerEvent::Decided { allowed: false, rule } if rule == by);
    assert!(is_denied && events.iter().any(by_rule), "{events:?}");
}

/// Lets go of a sleeper, and sees to it that it wakes as it was.
fn let_wake(control: Channel, target: &mut Target) {
    drop(control);
    wait::until("it wakes when its broker is gone", || target.is_awake());
    target.assert_intact();
}

#[test]
fn a_client_over_tcp_is_named_by_the_user_of_its_socket_and_its_process_is_found_for_the_record() {
    for ip in ["127.0.0.1", "::1"] {
        let (broker, listener) = captured(ip);
        for user in [&cast().root, &cast().client, &cast().stranger] {
            let (process, accepted) = client(user, &listener);
            let peer = broker.identify(&accepted).expect("the kernel names it");
            assert_eq!((peer.kind, peer.uid, peer.gid), (PeerKind::Socket, user.uid, user.gid));
            assert_eq!(peer.pid, process.pid());
            let program = peer.executable.expect("it has a program");
            assert!(program.ends_with("/sample-tcp"), "{program}");
            assert_eq!(peer.groups.contains(&cast().socket_group), *user == cast().client);
        }
    }
}

#[test]
fn a_user_over_tcp_puts_its_own_process_to_sleep_and_wakes_it_and_no_other_user_does() {
    for ip in ["127.0.0.1", "::1"] {
        let (broker, listener) = captured(ip);
        let mut target = sample(&cast().target);
        let (_owner, by_owner) = client(&cast().target, &listener);
        // the group of the socket means nothing over TCP
        for user in [&cast().stranger, &cast().client, &cast().daemon] {
            let (_process, accepted) = client(user, &listener);
            let events = until_settled(&broker.order_sleep(1, &accepted, target.pid()));
            assert_denied(&events, "default: deny");
        }
        let control = broker.order_sleep(2, &by_owner, target.pid());
        assert_asleep(&until_settled(&control));
        let (_process, by_stranger) = client(&cast().stranger, &listener);
        order_restore(&control, 3, &by_stranger);
        let events = until_settled(&control);
        assert!(matches!(events.last(), Some(WorkerEvent::RestoreDenied { ticket: 3, .. })), "{events:?}");
        assert!(procfs::tracer(target.pid()).is_some());
        // another connection of the same user, named by a worker that can open nothing any more
        let (_again, again) = client(&cast().target, &listener);
        order_restore(&control, 4, &again);
        let events = until_settled(&control);
        let by_rule = |event: &WorkerEvent| matches!(event, WorkerEvent::RestoreAllowed { ticket: 4, rule } if rule == "built-in: own process");
        assert!(events.iter().any(by_rule), "{events:?}");
        assert!(matches!(events.last(), Some(WorkerEvent::Awake(_))), "{events:?}");
        target.assert_intact();
    }
}

#[test]
fn root_over_tcp_may_what_root_may() {
    let (broker, listener) = captured("127.0.0.1");
    let mut target = sample(&cast().target);
    let (_root, by_root) = client(&cast().root, &listener);
    let control = broker.order_sleep(1, &by_root, target.pid());
    assert_asleep(&until_settled(&control));
    order_restore(&control, 2, &by_root);
    assert!(matches!(until_settled(&control).last(), Some(WorkerEvent::Awake(_))));
    target.assert_intact();
}

#[test]
fn a_rule_by_group_allows_nobody_over_tcp_neither_to_put_to_sleep_nor_to_wake() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let rule = |name: &str, client: String| {
        format!(
            "[[rule]]\nname = \"{name}\"\neffect = \"allow\"\nactions = [\"checkpoint\", \"restore\"]\n\
             client = {{ {client} }}\n"
        )
    };
    let policy = [
        "version = 1\n".to_owned(),
        rule("the group", format!("gid = {}", cast().socket_group)),
        rule("the owner", format!("uid = {}", cast().target.uid)),
    ];
    let broker = CapturedBroker::over_tcp(&[address], Some(&policy.concat()), None);
    let mut target = sample(&cast().target);
    let (_member, by_member) = client(&cast().client, &listener);
    let events = until_settled(&broker.order_sleep(1, &by_member, target.pid()));
    assert_denied(&events, "default: deny");
    let (_owner, by_owner) = client(&cast().target, &listener);
    let control = broker.order_sleep(2, &by_owner, target.pid());
    assert_asleep(&until_settled(&control));
    order_restore(&control, 3, &by_member);
    let events = until_settled(&control);
    assert!(
        matches!(events.last(), Some(WorkerEvent::RestoreDenied { rule, .. }) if rule == "default: deny"),
        "{events:?}"
    );
    let_wake(control, &mut target);
}

#[test]
fn a_client_over_tcp_that_has_closed_its_socket_is_not_taken_for_root() {
    let (broker, listener) = captured("127.0.0.1");
    let mut target = sample(&cast().target);
    let (_owner, by_owner) = client(&cast().target, &listener);
    for how in ["close", "reset"] {
        let (mut stranger, left) = client(&cast().stranger, &listener);
        assert_eq!(stranger.ask(how), "closed");
        assert_eq!(broker.identify(&left), None, "{how}");
        let events = until_settled(&broker.order_sleep(1, &left, target.pid()));
        assert!(matches!(events.as_slice(), [WorkerEvent::Failed(_)]), "{how}: {events:?}");
        assert!(target.is_awake());
        let control = broker.order_sleep(2, &by_owner, target.pid());
        assert_asleep(&until_settled(&control));
        order_restore(&control, 3, &left);
        let events = until_settled(&control);
        assert!(
            matches!(events.last(), Some(WorkerEvent::RestoreDenied { rule, .. }) if rule == "client unknown here"),
            "{how}: {events:?}"
        );
        let_wake(control, &mut target);
    }
}

/// Sockets behind which the kernel sees root, and that are no client's.
fn sockets_of_root(listener: &TcpListener) -> (Vec<(&'static str, OwnedFd)>, Vec<OwnedFd>) {
    let own = listener.local_addr().expect("an address");
    let client = TcpStream::connect(own).expect("it connects");
    let accepted = listener.accept().expect("it has connected").0;
    let other = TcpListener::bind("127.0.0.1:0").expect("another port");
    let abroad = TcpStream::connect(other.local_addr().expect("an address")).expect("it connects");
    let accepted_abroad = other.accept().expect("it has connected").0;
    // the same two addresses, in another network, while they are a connection here as well
    let elsewhere = Network::new();
    let here = client.local_addr().expect("an address");
    let (client_elsewhere, same) = elsewhere.inside(|| {
        let listener = TcpListener::bind(own).expect("a port");
        let client = connected_from(here, own);
        (client, listener.accept().expect("it has connected").0)
    });
    assert_eq!(same.peer_addr().expect("an address"), accepted.peer_addr().expect("an address"));
    let pair = UnixStream::pair().expect("a pair").0;
    let listening = listener.try_clone().expect("a copy");
    let sockets = vec![
        ("of the client", client.into()),
        ("accepted at another port", accepted_abroad.into()),
        ("of another network", same.into()),
        ("that listens", listening.into()),
        ("of a pair", pair.into()),
    ];
    (sockets, vec![accepted.into(), other.into(), abroad.into(), client_elsewhere])
}

/// A socket with an address of its own, connected.
fn connected_from(own: SocketAddr, to: SocketAddr) -> OwnedFd {
    let [own, to] = [own, to].map(|address| match address {
        SocketAddr::V4(address) => SockaddrIn::from(address),
        SocketAddr::V6(_) => panic!("an IPv4 address"),
    });
    let made = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    bind(made.as_raw_fd(), &own).expect("it binds");
    connect(made.as_raw_fd(), &to).expect("it connects");
    made
}

#[test]
fn it_can_not_pass_for_root_by_a_tcp_socket_that_is_no_clients() {
    let (broker, listener) = captured("127.0.0.1");
    let mut target = sample(&cast().target);
    let (_owner, by_owner) = client(&cast().target, &listener);
    let (sockets, _others) = sockets_of_root(&listener);
    for (what, socket) in &sockets {
        assert_no_client(&broker, what, socket, &target);
    }
    // nor wake what a client has put to sleep
    let control = broker.order_sleep(1, &by_owner, target.pid());
    assert_asleep(&until_settled(&control));
    for (what, socket) in &sockets {
        order_restore(&control, 2, socket);
        let events = until_settled(&control);
        assert!(
            matches!(events.last(), Some(WorkerEvent::RestoreDenied { ticket: 2, .. })),
            "{what}: {events:?}"
        );
    }
    let_wake(control, &mut target);
}

#[track_caller]
fn assert_no_client(broker: &CapturedBroker, what: &str, socket: &OwnedFd, target: &Target) {
    assert_eq!(broker.identify(socket), None, "the socket {what}");
    let events = until_settled(&broker.order_sleep(1, socket, target.pid()));
    let refused = matches!(events.as_slice(), [WorkerEvent::Failed(Failure { code: Code::Protocol, .. })]);
    assert!(refused, "the socket {what}: {events:?}");
    assert!(target.is_awake());
}

#[test]
fn it_can_not_pass_for_root_by_a_socket_of_its_address_that_is_connected_to_a_server_of_roots() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let connected = connected_from(any, server.local_addr().expect("an address"));
    let _accepted = server.accept().expect("it has connected");
    let socket = TcpStream::from(connected);
    let own = socket.local_addr().expect("an address");
    let broker = CapturedBroker::over_tcp(&[own], None, None);
    let target = sample(&cast().target);
    assert_no_client(&broker, "of its address", &socket.into(), &target);
}

#[test]
fn the_worker_that_sleeps_has_one_more_socket_and_nobody_shares_it() {
    let (broker, listener) = captured("127.0.0.1");
    let mut targets = [sample(&cast().target), sample(&cast().target)];
    let (_owner, by_owner) = client(&cast().target, &listener);
    let before = procfs::sockets_of(broker.launcher());
    let controls = [0, 1].map(|index| broker.order_sleep(index as u64, &by_owner, targets[index].pid()));
    controls.iter().for_each(|control| assert_asleep(&until_settled(control)));
    let workers = targets.each_ref().map(|target| procfs::tracer(target.pid()).expect("it sleeps"));
    let sockets = workers.map(procfs::sockets_of);
    // to the broker, to the launcher, for questions
    assert!(sockets.iter().all(|own| own.len() == 3), "{sockets:?}");
    assert!(sockets[0].is_disjoint(&sockets[1]));
    // to each worker, and the one from that to the broker, which a successor gets; it opens one for each question
    let of_launcher = procfs::sockets_of(broker.launcher());
    assert_eq!(of_launcher.len(), before.len() + 4);
    assert!(sockets.iter().all(|own| own.intersection(&of_launcher).count() == 1));
    for (control, target) in controls.into_iter().zip(&mut targets) {
        let_wake(control, target);
    }
}

#[test]
fn an_anonymous_client_may_what_its_rule_says_and_nothing_else() {
    let (near, far) = Network::connected();
    let address = SocketAddr::from(SocketAddrV4::new(FIRST, 9000));
    let listener = near.inside(|| TcpListener::bind(address).expect("a port"));
    let (own, other) = (sample(&cast().target), sample(&cast().stranger));
    let (mut own, uid) = (own, cast().target.uid);
    let policy = format!(
        "version = 1\n\
         [[rule]]\nname = \"everybody here\"\neffect = \"allow\"\nactions = [\"checkpoint\", \"restore\"]\n\
         target = {{ uid = {} }}\n\
         [[rule]]\nname = \"whoever it is\"\neffect = \"allow\"\nactions = \"checkpoint\"\n\
         client = {{ anonymous = true }}\ntarget = {{ uid = {uid} }}\n\
         [[rule]]\nname = \"the owner\"\neffect = \"allow\"\nactions = \"restore\"\nclient = {{ uid = {uid} }}\n",
        cast().stranger.uid
    );
    let broker = CapturedBroker::over_tcp(&[address], Some(&policy), Some(&near));
    let guest = Target::start_command(far.command(&command_of(&cast().target, address)));
    let by_guest = listener.accept().expect("it has connected").0;
    assert_eq!(by_guest.peer_addr().expect("an address").ip(), SECOND);
    let peer = broker.identify(&by_guest).expect("it is known to be anonymous");
    assert_eq!((peer.kind, peer.uid, peer.gid, peer.pid), (PeerKind::Anonymous, u32::MAX, u32::MAX, 0));
    assert!(peer.groups.is_empty() && peer.executable.is_none());
    // a rule for any client is not for one that nobody can name
    let events = until_settled(&broker.order_sleep(1, &by_guest, other.pid()));
    assert_denied(&events, "default: deny");
    let control = broker.order_sleep(2, &by_guest, own.pid());
    assert_asleep(&until_settled(&control));
    // though its process runs as the owner of the target, over there
    order_restore(&control, 3, &by_guest);
    let events = until_settled(&control);
    assert!(matches!(events.last(), Some(WorkerEvent::RestoreDenied { ticket: 3, .. })), "{events:?}");
    // a client of this machine has a name at that address, too
    let owner = Target::start_command(near.command(&command_of(&cast().target, address)));
    let by_owner = listener.accept().expect("it has connected").0;
    let peer = broker.identify(&by_owner).expect("the kernel names it");
    assert_eq!((peer.kind, peer.uid, peer.pid), (PeerKind::Socket, uid, owner.pid()));
    order_restore(&control, 4, &by_owner);
    assert!(matches!(until_settled(&control).last(), Some(WorkerEvent::Awake(_))));
    own.assert_intact();
    drop(guest);
}

#[test]
fn a_client_of_another_network_that_reaches_a_loopback_address_is_nobody_not_even_anonymous() {
    let (near, far) = Network::connected();
    near.opens_loopback_to(&far);
    let address = loopbacks(9000)[0];
    let listener = near.inside(|| TcpListener::bind(address).expect("a port"));
    let policy = "version = 1\n[[rule]]\nname = \"all\"\neffect = \"allow\"\nactions = \"checkpoint\"\n\
                  client = { anonymous = true }\n";
    let broker = CapturedBroker::over_tcp(&[address], Some(policy), Some(&near));
    let target = sample(&cast().target);
    let _guest = Target::start_command(far.command(&command_of(&cast().root, address)));
    let (by_guest, from) = listener.accept().expect("it has connected");
    assert_eq!((by_guest.local_addr().expect("an address"), from.ip()), (address, SECOND.into()));
    assert_eq!(broker.identify(&by_guest), None);
    let events = until_settled(&broker.order_sleep(1, &by_guest, target.pid()));
    assert!(matches!(events.as_slice(), [WorkerEvent::Failed(_)]), "{events:?}");
    assert!(target.is_awake());
}
