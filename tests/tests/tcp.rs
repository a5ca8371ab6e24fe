//! Serving over TCP: on this machine's own addresses only, clients named by the kernel; from elsewhere only where
//! the policy has a rule for it.

use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::network::{FIRST, Network, Port, SECOND, loopbacks};
use memcr_tests::target::{Target, value};
use memcr_tests::users::{User, cast};
use memcr_tests::{binaries, procfs, wait};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::rc::Rc;

/// Port in networks of a test's own.
const PORT: u16 = 9000;

const FOR_GUESTS: &str = "version = 1\n[[rule]]\nname = \"guests may look\"\neffect = \"allow\"\nactions = \"list\"\n\
                          client = { anonymous = true }\n";

fn daemon_at(port: &Rc<Port>) -> Daemon {
    Setup::new().port(port).start()
}

fn command_of(user: &User, address: SocketAddr) -> Command {
    let mut command = user.command(binaries::path("sample-tcp"));
    command.arg(address.to_string());
    command
}

fn client(user: &User, address: SocketAddr) -> Target {
    Target::start_command(command_of(user, address))
}

/// The record of the only request that came from the address which this client has.
fn record_of(daemon: &Daemon, client: &Target) -> Value {
    let mut records = daemon.audit();
    records
        .retain(|record| record["event"] == "request" && record["client"]["address"] == client.fact("local"));
    assert_eq!(records.len(), 1, "{records:?}");
    records.remove(0)
}

#[test]
fn a_port_is_open_on_the_loopback_addresses_only_and_log_and_record_name_them() {
    let port = Rc::new(Port::reserve());
    let mut daemon = daemon_at(&port);
    let addresses = loopbacks(port.number());
    assert_eq!(procfs::listening_at(daemon.pid()), BTreeSet::from(addresses));
    let start = daemon.start_record();
    assert_eq!(start["event"], "start");
    assert_eq!(start["addresses"], serde_json::json!(addresses.map(|address| address.to_string())));
    assert!(start["listen"].is_null() && start["listen_gid"].is_null(), "{start}");
    for address in addresses {
        assert!(daemon.log().contains(&format!("listening on {address}")), "{}", daemon.log());
    }
    // nobody but the broker has them
    let served = procfs::sockets_of(daemon.pid());
    assert!(procfs::sockets_of(daemon.launcher()).is_disjoint(&served));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_for_end().code(), Some(0));
    assert!(addresses.iter().all(|address| TcpStream::connect(address).is_err()));
}

#[test]
fn clients_over_tcp_are_named_by_their_user_and_the_record_tells_who_they_are() {
    let port = Rc::new(Port::reserve());
    let daemon = daemon_at(&port);
    for address in loopbacks(port.number()) {
        for user in [&cast().root, &cast().client, &cast().stranger] {
            let mut process = client(user, address);
            assert_eq!(process.ask("list"), "listed=");
            let record = record_of(&daemon, &process);
            let about = &record["client"];
            assert_eq!((&record["outcome"], &record["rule"]), (&"ok".into(), &Value::Null));
            assert_eq!((&about["uid"], &about["gid"]), (&user.uid.into(), &user.gid.into()));
            assert_eq!((&about["pid"], &about["anonymous"]), (&process.pid().into(), &false.into()));
            assert!(
                about["executable"].as_str().is_some_and(|path| path.ends_with("/sample-tcp")),
                "{about}"
            );
            let groups = about["groups"].as_array().expect("groups");
            assert_eq!(groups.contains(&cast().socket_group.into()), *user == cast().client, "{about}");
        }
    }
}

#[test]
fn a_client_over_tcp_that_the_kernel_shows_as_nobody_may_nothing() {
    let port = Rc::new(Port::reserve());
    let daemon = daemon_at(&port);
    let mut nobody = client(&cast().nobody, loopbacks(port.number())[0]);
    let answer = nobody.ask("list");
    assert!(answer.starts_with("failed=denied") && answer.contains("client unknown here"), "{answer}");
    let record = record_of(&daemon, &nobody);
    assert_eq!((&record["outcome"], &record["rule"]), (&"denied".into(), &"client unknown here".into()));
    assert_eq!(record["client"]["uid"], cast().nobody.uid);
}

#[test]
fn a_client_over_tcp_that_is_gone_before_it_is_named_is_nobody_on_record() {
    use memcr_protocol::client::CheckpointOptions;
    use memcr_protocol::legacy::{Command, Request};
    use std::io::Write;
    let port = Rc::new(Port::reserve());
    let daemon = daemon_at(&port);
    let mut target = Target::start(&cast().target, "sample-memory", &["4"]);
    // all is there before the daemon looks at any of it
    daemon.signal(Signal::SIGSTOP);
    let mut stream = TcpStream::connect(loopbacks(port.number())[0]).expect("the kernel accepts it");
    let local = stream.local_addr().expect("an address").to_string();
    // of the original, whose clients are told nothing before they are named: an answer would reset the connection,
    // of which the kernel knows nothing at all then
    let options = CheckpointOptions::default();
    let request = Request { command: Command::Checkpoint, pid: target.pid(), options };
    stream.write_all(&request.encode().expect("it fits")).expect("there is room");
    drop(stream);
    daemon.signal(Signal::SIGCONT);
    let record = wait::until_some("its request is on record", wait::BOUND, || {
        daemon.audit().into_iter().find(|record| record["client"]["address"] == local.as_str())
    });
    // root made that socket, and the kernel says user 0 of a closed one in any case
    assert_eq!((&record["outcome"], &record["rule"]), (&"denied".into(), &"client unknown here".into()));
    let about = &record["client"];
    assert!(about["uid"].is_null() && about["gid"].is_null() && about["groups"].is_null(), "{about}");
    assert_eq!((&about["pid"], &about["anonymous"]), (&0.into(), &false.into()));
    target.assert_intact();
}

#[test]
fn a_port_that_another_program_has_is_an_error_that_says_so() {
    for (index, ip) in ["127.0.0.1", "[::1]"].into_iter().enumerate() {
        let network = Rc::new(Network::new());
        let _other = network.inside(|| TcpListener::bind(loopbacks(PORT)[index]).expect("a port"));
        let (status, said) = Setup::new().port_in(&network, PORT).start_and_fail();
        assert_eq!(status, 4, "{said}");
        assert!(said.contains(&format!("listen on {ip}:{PORT} (-l)")), "{said}");
        assert!(said.contains("another program has this port"), "{said}");
    }
}

#[test]
fn a_machine_without_ipv6_is_served_without_it_and_the_log_says_so() {
    let network = Rc::new(Network::without_ipv6());
    let daemon = Setup::new().port_in(&network, PORT).start();
    let [address, other] = loopbacks(PORT);
    assert_eq!(procfs::listening_at(daemon.pid()), BTreeSet::from([address]));
    assert!(daemon.log().contains(&format!("not listening on {other}")), "{}", daemon.log());
    let mut process = Target::start_command(network.command(&command_of(&cast().client, address)));
    assert_eq!(process.ask("list"), "listed=");
}

#[test]
fn an_address_that_others_can_reach_is_refused_unless_a_rule_allows_something_to_anonymous_clients() {
    let rule_for_all = FOR_GUESTS.replace("client = { anonymous = true }\n", "");
    let deny = FOR_GUESTS.replace("allow", "deny");
    for policy in [None, Some(&rule_for_all), Some(&deny)] {
        for address in ["0.0.0.0", "::", "192.0.2.7"] {
            let network = Rc::new(Network::new());
            let mut setup = Setup::new().port_in(&network, PORT).arguments(&["--listen-address", address]);
            if let Some(policy) = policy {
                setup = setup.policy(policy);
            }
            let (status, said) = setup.start_and_fail();
            assert_eq!(status, 1, "{said}");
            assert!(said.contains(&format!("address {address} (--listen-address)")), "{said}");
            assert!(said.contains("add one with client = { anonymous = true }"), "{said}");
        }
    }
}

#[test]
fn a_client_of_another_network_is_anonymous_and_one_of_this_machine_has_a_name_at_that_address_too() {
    let (near, far) = Network::connected();
    let near = Rc::new(near);
    for listening in [IpAddr::from(FIRST), "0.0.0.0".parse().expect("an address")] {
        let words = ["--listen-address", &listening.to_string()];
        let daemon = Setup::new().port_in(&near, PORT).policy(FOR_GUESTS).arguments(&words).start();
        assert_eq!(procfs::listening_at(daemon.pid()), BTreeSet::from([SocketAddr::new(listening, PORT)]));
        assert!(daemon.log().contains("nothing on the way is encrypted"), "{}", daemon.log());
        let address = SocketAddr::from((FIRST, PORT));
        // root there is nobody here
        let mut guest = Target::start_command(far.command(&command_of(&cast().root, address)));
        assert_eq!(guest.ask("list"), "listed=");
        assert!(guest.fact("local").starts_with(&SECOND.to_string()));
        let record = record_of(&daemon, &guest);
        let about = &record["client"];
        assert_eq!((&record["outcome"], &about["anonymous"]), (&"ok".into(), &true.into()));
        for unknown in ["uid", "gid", "groups", "executable"] {
            assert!(about[unknown].is_null(), "{unknown}: {about}");
        }
        assert_eq!(about["pid"], 0);
        let mut neighbour = Target::start_command(near.command(&command_of(&cast().client, address)));
        assert_eq!(neighbour.ask("list"), "listed=");
        let about = record_of(&daemon, &neighbour)["client"].take();
        assert_eq!((&about["uid"], &about["anonymous"]), (&cast().client.uid.into(), &false.into()));
    }
}

#[test]
fn a_loopback_address_alone_needs_no_rule() {
    let port = Rc::new(Port::reserve());
    let [_, address] = loopbacks(port.number());
    let daemon = Setup::new().port(&port).arguments(&["--listen-address", "::1"]).start();
    assert_eq!(procfs::listening_at(daemon.pid()), BTreeSet::from([address]));
    assert_eq!(client(&cast().stranger, address).ask("list"), "listed=");
}

#[test]
fn one_user_over_tcp_can_not_take_the_places_of_others_named_or_not() {
    let port = Rc::new(Port::reserve());
    // 128 connections, half of them for one user
    let _daemon = Setup::new().port(&port).descriptors(256).start();
    let address = loopbacks(port.number())[0];
    let crowd = |user, number: &str| {
        let mut command = command_of(user, address);
        command.arg(number);
        Target::start_command(command)
    };
    let assert_served = |user| assert_eq!(client(user, address).ask("list"), "listed=", "{}", user.name);
    // those that have no name yet share half of the places, and the idle ones make room
    let mut silent = crowd(&cast().stranger, "100");
    wait::until("those in excess are told", || told(&mut silent) >= 36);
    [&cast().client, &cast().target, &cast().root].into_iter().for_each(assert_served);
    assert_eq!(silent.ask("close"), "closed");
    // with a name each takes one of its user's places, of which there are 64
    let crowds = [(); 2].map(|()| {
        let mut crowd = crowd(&cast().target, "50");
        assert_eq!(crowd.ask("hello"), "greeted=50");
        crowd
    });
    let [mut first, mut second] = crowds;
    wait::until("those in excess are told", || told(&mut first) + told(&mut second) >= 36);
    [&cast().client, &cast().root].into_iter().for_each(assert_served);
}

/// How many connections were told that a limit is reached.
fn told(clients: &mut Target) -> u32 {
    value(&clients.ask("told"), "told").parse().expect("a number")
}
