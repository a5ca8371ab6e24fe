//! A client of the original means the process that has the number in the client's own pid namespace.

use memcr_tests::content::Sequence;
use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::namespace::PidNamespace;
use memcr_tests::scratch::Scratch;
use memcr_tests::target::Target;
use memcr_tests::users::{User, cast};
use memcr_tests::wire::{CHECKPOINT, RESTORE, Wire, number_inside, v1, v2};
use memcr_tests::{binaries, procfs};
use std::process::Command;

fn sample_command(user: &User) -> Command {
    let mut command = user.command(binaries::path("sample-memory"));
    command.arg("4");
    command
}

fn sample_in(namespace: &PidNamespace) -> Target {
    namespace.start(sample_command(&cast().target))
}

#[test]
fn a_client_in_a_namespace_of_its_own_names_a_process_there_by_the_number_there() {
    let daemon = Daemon::start();
    let namespace = PidNamespace::new();
    let mut target = sample_in(&namespace);
    let number = number_inside(target.pid());
    assert!(number > 1 && number < 100 && number != target.pid());
    let mut wire = Wire::connect_in(&namespace, &daemon, &cast().client);
    assert_eq!(wire.ask(&v1(CHECKPOINT, number)), Some(0));
    assert!(procfs::tracer(target.pid()).is_some());
    // the daemon speaks of it by its own numbers
    assert_eq!(daemon.client().listed(), [i64::from(target.pid())]);
    let record = daemon.audit_of(target.pid()).pop().expect("a record");
    assert_eq!((&record["action"], &record["client"]["pid"]), (&"checkpoint".into(), &wire.pid().into()));
    // and so does a client outside
    let mut outside = Wire::connect(&daemon, &cast().client);
    assert_eq!(outside.ask(&v1(CHECKPOINT, target.pid())), Some(-2));
    assert_eq!(wire.ask(&v2(RESTORE, number, &[])), Some(0));
    assert_eq!(outside.ask(&v1(RESTORE, target.pid())), Some(-2));
    target.assert_intact();
}

#[test]
fn a_number_that_only_others_have_is_not_touched() {
    let daemon = Daemon::start();
    let (namespace, sibling) = (PidNamespace::new(), PidNamespace::new());
    let mut outside = Target::start(&cast().target, "sample-memory", &["4"]);
    // in the sibling the numbers go further than here
    let mut others: Vec<_> = (0..6).map(|_| sample_in(&sibling)).collect();
    let mut wire = Wire::connect_in(&namespace, &daemon, &cast().root);
    let own = number_inside(wire.pid());
    let numbers: Vec<_> =
        others.iter().map(|other| number_inside(other.pid())).filter(|number| *number > own).collect();
    assert!(!numbers.is_empty());
    let all: Vec<_> = others.iter().chain([&outside]).map(Target::pid).collect();
    let before: Vec<_> = all.iter().map(|pid| procfs::context_switches(*pid)).collect();
    for number in
        numbers.into_iter().chain([outside.pid(), daemon.pid(), daemon.launcher(), std::process::id() as i32])
    {
        for command in [CHECKPOINT, RESTORE] {
            assert_eq!(wire.reconnect().ask(&v1(command, number)), Some(-1), "{number}");
        }
    }
    // the first process of a namespace is refused there as everywhere
    assert_eq!(wire.reconnect().ask(&v1(CHECKPOINT, 1)), Some(-1));
    let after: Vec<_> = all.iter().map(|pid| procfs::context_switches(*pid)).collect();
    assert_eq!(before, after, "one was stopped");
    outside.assert_intact();
    others.iter_mut().for_each(Target::assert_intact);
}

#[test]
fn in_nested_namespaces_each_client_has_its_own_numbers() {
    let daemon = Daemon::start();
    let outer = PidNamespace::new();
    let inner = outer.nested();
    // so that the numbers differ
    let _others: Vec<_> = (0..3).map(|_| sample_in(&outer)).collect();
    let mut target = sample_in(&inner);
    let status = procfs::Status::of(target.pid()).expect("it is there");
    let numbers: Vec<i32> =
        status.field("NSpid").split_whitespace().map(|number| number.parse().expect("a number")).collect();
    assert_eq!((numbers.len(), numbers[0]), (3, target.pid()));
    assert_ne!(numbers[1], numbers[2]);
    let mut clients = [
        Wire::connect(&daemon, &cast().client),
        Wire::connect_in(&outer, &daemon, &cast().client),
        Wire::connect_in(&inner, &daemon, &cast().client),
    ];
    for (client, number) in clients.iter_mut().zip(&numbers) {
        assert_eq!(client.ask(&v1(CHECKPOINT, *number)), Some(0), "{numbers:?}");
        assert_eq!(daemon.client().listed(), [i64::from(target.pid())]);
        assert_eq!(client.ask(&v1(RESTORE, *number)), Some(0), "{numbers:?}");
        target.assert_intact();
    }
    // whoever is within does not see out: these numbers are another's there, or nobody's
    let [_, outer_client, inner_client] = &mut clients;
    assert_eq!(outer_client.reconnect().ask(&v1(RESTORE, numbers[0])), Some(-1));
    assert_eq!(inner_client.reconnect().ask(&v1(RESTORE, numbers[0])), Some(-1));
    assert!(target.is_awake());
    target.assert_intact();
}

#[test]
fn who_may_do_what_there_is_decided_by_the_daemons_own_numbers() {
    let daemon = Setup::new().without_group().start();
    let namespace = PidNamespace::new();
    let mut target = sample_in(&namespace);
    let number = number_inside(target.pid());
    let mut stranger = Wire::connect_in(&namespace, &daemon, &cast().stranger);
    assert_eq!(stranger.ask(&v1(CHECKPOINT, number)), Some(-1));
    let record = daemon.audit_of(target.pid()).pop().expect("a record");
    assert_eq!(
        (&record["outcome"], &record["client"]["uid"]),
        (&"denied".into(), &cast().stranger.uid.into())
    );
    assert_eq!(record["target"]["uid"], cast().target.uid);
    let mut owner = Wire::connect_in(&namespace, &daemon, &cast().target);
    assert_eq!(owner.ask(&v1(CHECKPOINT, number)), Some(0));
    assert_eq!(owner.ask(&v1(RESTORE, number)), Some(0));
    target.assert_intact();
}

/// As people have it: the client, its target and a first process of their own, in user, pid, mount and network
/// namespaces of their own, where the client takes itself for root.
#[test]
fn a_client_that_is_root_in_a_user_namespace_of_its_own_puts_its_child_to_sleep() {
    let daemon = Daemon::start();
    let scratch = Scratch::new();
    let place = scratch.directory_of(&cast().client, "client");
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    // the number is known in the script only: it is below 100, one byte
    let [sleep, wake] = [CHECKPOINT, RESTORE].map(|command| hex(v1(command, 0))[..8].to_owned());
    let script = format!(
        "set -e; cd {place}; mkfifo line; {bin}/sample-memory 8 < line > said & exec 3> line\n\
         target=$!; while ! grep -q ready said; do :; done; test $target -lt 100\n\
         number=$(printf %02x000000 $target)\n\
         printf 'send {sleep}%s\\nanswer\\nsend {wake}%s\\nanswer\\n' $number $number | {bin}/wire-client {socket}\n\
         echo check >&3; while ! grep -q intact said; do :; done; cat said",
        place = place.display(),
        bin = binaries::directory().display(),
        socket = daemon.socket().display(),
    );
    let mut command = cast().client.command("/usr/bin/unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--net", "--kill-child"]);
    let output = command.args(["timeout", "60", "sh", "-c", &script]).output().expect("cannot run unshare");
    let said = String::from_utf8_lossy(&output.stdout);
    let answers = said.matches("answer=0").count();
    assert!(
        output.status.success() && answers == 2 && said.contains("intact"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let records: Vec<_> = daemon.audit().into_iter().filter(|record| record["wire"] == "v1").collect();
    assert_eq!(records.len(), 2);
    for record in records {
        assert_eq!((&record["outcome"], &record["client"]["uid"]), (&"ok".into(), &cast().client.uid.into()));
        assert_eq!(record["target"]["uid"], cast().client.uid);
    }
}

#[test]
fn clients_of_one_user_that_all_ask_at_once_are_all_answered() {
    let daemon = Daemon::start();
    let namespace = PidNamespace::new();
    let mut targets: Vec<_> = (0..6).map(|_| sample_in(&namespace)).collect();
    let mut clients: Vec<_> = (0..6).map(|_| Wire::connect_in(&namespace, &daemon, &cast().client)).collect();
    for command in [CHECKPOINT, RESTORE] {
        for (client, target) in clients.iter_mut().zip(&targets) {
            client.send(&v1(command, number_inside(target.pid()))).await_answer();
        }
        assert!(clients.iter().all(|client| client.awaited() == Some(0)));
    }
    targets.iter_mut().for_each(Target::assert_intact);
    // numbers that nobody has, or that are no process's: never anything but -1
    let mut numbers = Sequence::new(7);
    let highest = number_inside(clients[5].pid());
    for client in &mut clients {
        let number = highest + 1 + (numbers.next_number() % 1_000_000) as i32;
        assert_eq!(client.reconnect().ask(&v1(CHECKPOINT, number)), Some(-1));
    }
}
