//! doc/audit.md shows a record of each event as it is.

use super::log::Origin;
use super::record::{
    BadEnd, Begun, Client, Event, Gap, Outcome, PolicyKept, PolicyReloaded, Record, Reopened, Request,
    SCHEMA, Start, Stop, Target, Times, TurnedAway, Violation, Wire, Woken, WorkerReplaced,
};
use memcr_protocol::report::{Guard, Sandbox};
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// One of each event, as they are when everything is there.
fn examples() -> Vec<Event<'static>> {
    let client = || Client {
        uid: Some(1000),
        gid: Some(1000),
        groups: Some(&[1000, 27]),
        pid: 17063,
        executable: Some("/usr/bin/memcr-client"),
        anonymous: false,
        address: None,
    };
    let target = || Target {
        pid: 17020,
        start_time: Some(955_067),
        uid: Some(1001),
        executable: Some("/usr/bin/python3.11"),
        cgroup: Some("/user.slice"),
    };
    let sandbox = Sandbox { landlock_abi: 7, landlock_full: true, seccomp: true, capabilities_empty: true };
    let bad_end = |code, message| BadEnd { target: target(), guard: Some(Guard::Full.name()), code, message };
    let times = Times {
        total_micros: 164_276,
        attach_micros: Some(10_996),
        dump_micros: Some(133_669),
        free_micros: Some(15_975),
        restore_micros: None,
    };
    vec![
        Event::Start(Start {
            torn: false,
            log: Origin::Continued,
            audit_required: true,
            version: "0.1.0",
            protocol: 2,
            pid: 17001,
            launcher: 17002,
            uid: 990,
            gid: 990,
            listen: Some("/run/memcr/memcr.sock"),
            addresses: &[],
            listen_gid: Some(991),
            directories: vec!["/var/lib/memcr"],
            policy: Some("/etc/memcr/policy.toml"),
            cipher: "aes-256-gcm",
            compression: "lz4",
            checksum: false,
            guard: Guard::Full.name(),
            landlock: "full",
            seccomp: true,
            sandbox: "strict",
            missing: Vec::new(),
            features: BTreeMap::from([("landlock", true)]),
        }),
        Event::RequestBegun(Begun {
            request: 1,
            client: client(),
            wire: Wire::Framed,
            action: "checkpoint",
            target: Target::of(17020, None),
        }),
        Event::Request(Box::new(Request {
            request: 1,
            client: client(),
            wire: Wire::Framed,
            action: "checkpoint",
            target: Some(target()),
            rule: Some("built-in: listen group"),
            outcome: Outcome::Ok,
            code: None,
            message: None,
            sandbox: Some(sandbox),
            guard: Some(Guard::Full.name()),
            bytes: Some(105_512_960),
            pages: Some(25_760),
            image_bytes: Some(2_225_813),
            file_bytes: Some(0),
            checksum: None,
            entries: None,
            times,
        })),
        Event::ClientTurnedAway(TurnedAway {
            client: Client { groups: None, executable: None, ..client() },
            message: "user 1000, or the daemon, has as many connections as it may, and none is idle; try again later",
        }),
        Event::ProtocolViolation(Violation {
            client: client(),
            wire: None,
            message: "the first message must be a hello",
        }),
        Event::WorkerReplaced(WorkerReplaced { target: target(), worker: 17068 }),
        Event::RestoreFailed(bad_end(
            "out-of-memory",
            "putting memory back: ENOMEM: Out of memory; it sleeps on",
        )),
        Event::Woken(Woken {
            target: target(),
            bytes: 105_512_960,
            pages: 25_760,
            checksum: None,
            times: Times { restore_micros: Some(98_112), ..Times::total(98_501) },
        }),
        Event::SleepFailed(bad_end("internal", "the worker died; its target runs on unharmed")),
        Event::TargetLost(bad_end("target-lost", "the process died while it slept")),
        Event::Gap(Gap { missed: 3, torn: true }),
        Event::LogReopened(Reopened { failure: None }),
        Event::PolicyReloaded(PolicyReloaded { rules: 3 }),
        Event::PolicyKept(PolicyKept {
            reason: "policy file /etc/memcr/policy.toml: line 11, column 20: unknown group `memcr-client`",
        }),
        Event::Stop(Stop { reason: "a signal asks for it" }),
    ]
}

fn line(sequence: u64, event: Event<'_>) -> String {
    let time = "2026-11-26T21:02:15.041151Z".into();
    let record = Record { schema: SCHEMA, sequence, previous: "9f86d0...0f00a08".into(), time, event };
    serde_json::to_string(&record).unwrap()
}

#[test]
fn the_document_shows_a_record_of_each_event_as_it_is() {
    let document = include_str!("../../../doc/audit.md");
    let shown: Vec<&str> = document.lines().filter(|line| line.starts_with("{\"schema\"")).collect();
    let made: Vec<String> = (1..).zip(examples()).map(|(sequence, event)| line(sequence, event)).collect();
    assert_eq!(shown, made, "doc/audit.md should show:\n{}", made.join("\n"));
}

#[test]
fn the_document_has_an_example_of_every_event_there_is() {
    let events: BTreeSet<String> = examples()
        .into_iter()
        .map(|event| serde_json::from_str::<Value>(&line(1, event)).unwrap()["event"].to_string())
        .collect();
    // the variants are counted where they are defined: a new one must get its example
    let source = include_str!("record.rs");
    let definition = source.split_once("pub(crate) enum Event<'a> {").unwrap().1.split_once("\n}").unwrap().0;
    let variants = definition.lines().filter(|line| line.trim_end().ends_with("),")).count();
    assert_eq!(events.len(), variants);
}
