//! The audit log as a whole: on standard error, and as its document describes it.

use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::procfs;
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::wait;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// The lines of standard error that are records, each complete or this fails.
fn records(daemon: &Daemon) -> Vec<Value> {
    let log = daemon.log();
    let records = log.lines().filter(|line| line.starts_with('{'));
    records
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in: {line}")))
        .collect()
}

fn wait_for(daemon: &Daemon, event: &str) {
    wait::until(&format!("there is a record of {event}"), || {
        // the last line may be being written just now
        daemon.log().lines().any(|line| line.contains(&format!("\"event\":\"{event}\"")))
    });
}

/// The names of all members, also of those within others.
fn names(record: &Value, into: &mut BTreeSet<String>) {
    for (name, value) in record.as_object().into_iter().flatten() {
        into.insert(name.clone());
        names(value, into);
    }
}

#[test]
fn on_standard_error_every_record_is_a_line_and_the_document_describes_every_member() {
    let mut daemon = Setup::new().without_group().without_audit_log().start();
    let owner = daemon.client_of(&cast().target);
    let target = || Target::start(&cast().target, "sample-memory", &["4"]);

    // requests that are done, denied and failed
    let mut one = target();
    owner.checkpoint(one.pid()).expect_status(0);
    owner.listed();
    owner.state(one.pid());
    for user in [&cast().nobody, &cast().stranger] {
        daemon.client_of(user).restore(one.pid()).expect_status(2);
    }
    owner.checkpoint(one.pid()).expect_status(3);
    owner.restore(one.pid()).expect_status(0);
    one.assert_intact();
    // a worker dies, and its successor wakes its target
    owner.checkpoint(one.pid()).expect_status(0);
    memcr_tests::daemon::send(procfs::tracer(one.pid()).expect("a worker"), Signal::SIGKILL);
    wait_for(&daemon, "woken");
    one.wait_until_awake();
    // a sleeper dies
    let mut two = target();
    owner.checkpoint(two.pid()).expect_status(0);
    two.signal(Signal::SIGKILL);
    two.wait_for_end();
    wait_for(&daemon, "target-lost");
    // a client breaks the protocol
    let mut stranger = UnixStream::connect(daemon.socket()).expect("root may connect");
    stranger.write_all(&[0xff; 64]).expect("it listens");
    // it is hung up on, in one way or the other
    let _ = stranger.read_to_end(&mut Vec::new());
    wait_for(&daemon, "protocol-violation");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_for_end().code(), Some(0));

    let records = records(&daemon);
    let mut members = BTreeMap::new();
    let mut all = BTreeSet::new();
    for record in &records {
        assert_eq!(record["schema"], 1, "{record}");
        let event = record["event"].as_str().expect("every record has an event");
        let own: BTreeSet<_> = record.as_object().expect("an object").keys().cloned().collect();
        let first = members.entry(event).or_insert_with(|| own.clone());
        assert_eq!(*first, own, "members of {event} come and go");
        names(record, &mut all);
    }
    let events: Vec<_> = members.keys().copied().collect();
    let expected =
        ["protocol-violation", "request", "start", "stop", "target-lost", "woken", "worker-replaced"];
    assert_eq!(events, expected);
    assert_eq!(records.iter().filter(|record| record["event"] == "request").count(), 9);

    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../doc/audit.md"));
    let document = document.expect("doc/audit.md is there");
    let is_missing = |name: &&str| !document.contains(&format!("`{name}`"));
    let missing: Vec<_> = all.iter().map(String::as_str).chain(events).filter(is_missing).collect();
    assert!(missing.is_empty(), "not in doc/audit.md: {missing:?}");
}
