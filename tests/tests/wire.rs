//! Clients of the original memcr, byte by byte: what they send, and each number that they are answered.

use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::wire::{CHECKPOINT, RESTORE, Wire, compression, directory, v1, v2, words};
use memcr_tests::{procfs, wait};
use nix::sys::ptrace;
use nix::unistd::Pid;
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn sample(mib: &str) -> Target {
    Target::start(&cast().target, "sample-memory", &[mib])
}

fn client(daemon: &Daemon) -> Wire {
    Wire::connect(daemon, &cast().client)
}

/// What is on record of this client's, in order.
fn records_of(daemon: &Daemon, wire: &Wire) -> Vec<Value> {
    let is_its = |record: &Value| record["client"]["pid"].as_i64() == Some(i64::from(wire.pid()));
    daemon.audit().into_iter().filter(is_its).collect()
}

/// What the last record says of it.
#[track_caller]
fn assert_recorded(daemon: &Daemon, wire: &Wire, members: &[(&str, Value)]) {
    let record = records_of(daemon, wire).pop().expect("there is a record");
    for (name, expected) in members {
        assert_eq!(&record[*name], expected, "{name}: {record}");
    }
}

#[test]
fn version_1_puts_to_sleep_and_wakes() {
    let daemon = Daemon::start();
    let mut target = sample("8");
    let mut wire = client(&daemon);
    assert_eq!(wire.ask(&v1(CHECKPOINT, target.pid())), Some(0));
    assert!(procfs::tracer(target.pid()).is_some());
    let expected = |action: &str| {
        [("event", "request"), ("wire", "v1"), ("action", action), ("outcome", "ok")]
            .map(|(name, value)| (name, Value::from(value)))
    };
    assert_recorded(&daemon, &wire, &expected("checkpoint"));
    let record = records_of(&daemon, &wire).pop().expect("a record");
    assert_eq!(
        (&record["target"]["pid"], &record["client"]["uid"]),
        (&target.pid().into(), &cast().client.uid.into())
    );
    assert!(record["client"]["groups"].is_array() && record["times"]["dump_micros"].is_u64(), "{record}");
    assert_eq!(wire.reconnect().ask(&v1(RESTORE, target.pid())), Some(0));
    assert_recorded(&daemon, &wire, &expected("restore"));
    assert!(target.is_awake());
    target.assert_intact();
}

#[test]
fn version_2_takes_each_option_in_each_order() {
    let setup = Setup::new();
    let [one, two] = ["one", "two"].map(|name| setup.scratch().directory_of(&cast().daemon, name));
    let both = PathBuf::from(format!("{};{}", one.display(), two.display()));
    let daemon = setup.images(&both).start();
    let mut target = sample("8");
    let mut wire = client(&daemon);
    let (first, second) = (directory(&one.to_string_lossy()), directory(&two.to_string_lossy()));
    for (options, place) in [
        (vec![], &one),
        (vec![first], &one),
        (vec![second.clone()], &two),
        (vec![compression(0)], &one),
        (vec![compression(1)], &one),
        (vec![compression(2)], &one),
        (vec![compression(1), second.clone()], &two),
        (vec![second, compression(2)], &two),
    ] {
        assert_eq!(wire.reconnect().ask(&v2(CHECKPOINT, target.pid(), &options)), Some(0), "{options:?}");
        assert_recorded(&daemon, &wire, &[("wire", "v2".into()), ("outcome", "ok".into())]);
        let image = place.join(format!("pages-{}.img", target.pid()));
        assert!(image.exists(), "{} is not there", image.display());
        // they mean nothing to a restore
        assert_eq!(wire.reconnect().ask(&v2(RESTORE, target.pid(), &options)), Some(0), "{options:?}");
        assert_recorded(&daemon, &wire, &[("wire", "v2".into()), ("action", "restore".into())]);
        target.assert_intact();
    }
}

#[test]
fn another_directory_than_the_daemons_means_the_first_and_is_logged() {
    let daemon = Daemon::start();
    let mut target = sample("4");
    let mut wire = client(&daemon);
    for name in ["/etc", "", "/nowhere/\u{1b}[2J"] {
        assert_eq!(wire.reconnect().ask(&v2(CHECKPOINT, target.pid(), &[directory(name)])), Some(0));
        assert_eq!(daemon.image_names().len(), 1);
        assert!(
            daemon.log().contains(&format!("{name:?} is not one of the image directories")),
            "{}",
            daemon.log()
        );
        assert_eq!(wire.reconnect().ask(&v1(RESTORE, target.pid())), Some(0));
        daemon.wait_until_no_image();
    }
    target.assert_intact();
}

#[test]
fn minus_two_is_said_of_a_checkpoint_twice_and_of_a_restore_twice_and_of_nothing_else() {
    let daemon = Daemon::start();
    let mut target = sample("4");
    let mut wire = client(&daemon);
    for (command, answer, code) in [
        (RESTORE, -2, Some("not-asleep")),
        (CHECKPOINT, 0, None),
        (CHECKPOINT, -2, Some("already-asleep")),
        (RESTORE, 0, None),
        (RESTORE, -2, Some("not-asleep")),
    ] {
        for bytes in [v1(command, target.pid()), v2(command, target.pid(), &[])] {
            // once it is done the second is another case
            if answer == 0 && bytes.len() > 8 {
                continue;
            }
            assert_eq!(wire.reconnect().ask(&bytes), Some(answer), "{command} {code:?}");
            assert_recorded(&daemon, &wire, &[("code", code.into())]);
        }
    }
    target.assert_intact();
}

#[test]
fn minus_one_is_the_answer_to_whoever_may_not() {
    let daemon = Setup::new().without_group().start();
    let mut target = sample("4");
    let owner = daemon.client_of(&cast().target);
    for is_asleep in [false, true] {
        // who is shown as whom the kernel can't name is denied before anything is looked for
        for (user, is_named) in [(&cast().stranger, true), (&cast().nobody, false)] {
            let mut wire = Wire::connect(&daemon, user);
            for command in [CHECKPOINT, RESTORE] {
                assert_eq!(wire.reconnect().ask(&v1(command, target.pid())), Some(-1));
                assert_recorded(&daemon, &wire, &[("outcome", "denied".into()), ("code", "denied".into())]);
                let record = records_of(&daemon, &wire).pop().expect("a record");
                assert_eq!(record["target"].is_object(), is_named, "{record}");
            }
        }
        assert_eq!(procfs::tracer(target.pid()).is_some(), is_asleep);
        if !is_asleep {
            owner.checkpoint(target.pid()).expect_status(0);
        }
    }
    owner.restore(target.pid()).expect_status(0);
    target.assert_intact();
}

#[test]
fn minus_one_is_the_answer_for_a_process_that_is_not_there_or_unfit() {
    let daemon = Daemon::start();
    let mut wire = client(&daemon);
    let mut dead = sample("4");
    dead.signal(nix::sys::signal::Signal::SIGKILL);
    dead.wait_for_end();
    for pid in [dead.pid(), i32::MAX] {
        for command in [CHECKPOINT, RESTORE] {
            assert_eq!(wire.reconnect().ask(&v1(command, pid)), Some(-1));
            assert_recorded(&daemon, &wire, &[("code", "no-such-process".into()), ("target", Value::Null)]);
        }
    }
    let mut unfit = Target::start(&cast().target, "sample-state", &["not-dumpable"]);
    assert_eq!(wire.reconnect().ask(&v1(CHECKPOINT, unfit.pid())), Some(-1));
    assert_recorded(&daemon, &wire, &[("code", "target-refused".into())]);
    unfit.assert_intact();
}

#[test]
fn numbers_that_mean_many_or_the_first_process_and_our_own_ones_are_refused_without_side_effects() {
    let daemon = Daemon::start();
    let sleeper = sample("4");
    let worker = daemon.put_to_sleep(&sleeper);
    let ours = [daemon.pid(), daemon.launcher(), worker];
    // root may do everything else
    let mut wire = Wire::connect(&daemon, &cast().root);
    for (number, code) in
        [-1, 0, i32::MIN].map(|number| (number, "protocol")).into_iter().chain([(1, "target-refused")])
    {
        for bytes in [v1(CHECKPOINT, number), v1(RESTORE, number), v2(CHECKPOINT, number, &[compression(1)])]
        {
            assert_eq!(wire.reconnect().ask(&bytes), Some(-1), "{number}");
            assert_recorded(&daemon, &wire, &[("code", code.into()), ("target", Value::Null)]);
        }
    }
    for number in ours {
        for command in [CHECKPOINT, RESTORE] {
            assert_eq!(wire.reconnect().ask(&v1(command, number)), Some(-1), "{number}");
            assert_recorded(
                &daemon,
                &wire,
                &[("code", "target-refused".into()), ("outcome", "failed".into())],
            );
        }
    }
    assert_eq!([1].into_iter().chain(ours).map(procfs::tracer).collect::<Vec<_>>(), [None; 4]);
    assert_eq!(daemon.client().state(sleeper.pid()), "asleep");
    daemon.client().restore(sleeper.pid()).expect_status(0);
}

#[test]
fn what_is_no_request_is_answered_minus_one_and_the_connection_closed() {
    let daemon = Daemon::start();
    let mut target = sample("4");
    let pid = target.pid();
    let body = |more: &[u8]| v2(CHECKPOINT, pid, &[more.to_vec()]);
    let long = directory(&"a".repeat(1025));
    let mut wire = client(&daemon);
    let broken = [
        // short: the end of the stream in the middle
        (words(&[CHECKPOINT])[..1].to_vec(), "v1"),
        (words(&[102])[..3].to_vec(), "v2"),
        (v1(CHECKPOINT, pid)[..4].to_vec(), "v1"),
        (v1(RESTORE, pid)[..7].to_vec(), "v1"),
        (v2(CHECKPOINT, pid, &[])[..15].to_vec(), "v2"),
        // of no possible length
        (words(&[102, 7]), "v2"),
        (words(&[102, 0]), "v2"),
        (words(&[102, u32::MAX]), "v2"),
        (words(&[102, i32::MAX as u32]), "v2"),
        (words(&[102, 0x8000_0000]), "v2"),
        (words(&[102, 1046]), "v2"),
        // of no possible content
        (v2(102, pid, &[]), "v2"),
        (v2(99, pid, &[]), "v2"),
        (body(&words(&[202, 1])), "v2"),
        (body(&words(&[201, 3])), "v2"),
        (body(&words(&[201])), "v2"),
        (body(&[200]), "v2"),
        (body(&words(&[200, 0x6161_6161])), "v2"),
        (body(&[compression(1), compression(1)].concat()), "v2"),
        (body(&long), "v2"),
    ];
    for (bytes, version) in &broken {
        let rest = wire.reconnect().send(bytes).half_close().rest();
        assert_eq!(rest, [-1], "{bytes:?}");
        let version = if bytes.len() < 4 { Value::Null } else { (*version).into() };
        assert_recorded(&daemon, &wire, &[("event", "protocol-violation".into()), ("wire", version)]);
    }
    // what shows at once is answered at once, though the stream goes on
    assert_eq!(wire.reconnect().ask(&words(&[102, u32::MAX])), Some(-1));
    assert_eq!(wire.answer(), None);
    assert_eq!(records_of(&daemon, &wire).len(), broken.len() + 1);
    assert!(target.is_awake());
    target.assert_intact();
}

#[test]
fn two_commands_on_one_connection_are_served_whether_sent_apart_or_at_once() {
    let daemon = Daemon::start();
    let mut target = sample("32");
    let pid = target.pid();
    let mut wire = client(&daemon);
    assert_eq!(wire.ask(&v1(CHECKPOINT, pid)), Some(0));
    assert!(procfs::tracer(pid).is_some());
    assert_eq!(wire.ask(&v1(RESTORE, pid)), Some(0));
    assert_eq!(wire.answer(), None);
    target.assert_intact();
    // the second waits for the first, and doesn't call it off
    for second in [v1(RESTORE, pid), v2(RESTORE, pid, &[])] {
        let both = [v1(CHECKPOINT, pid), second].concat();
        assert_eq!(wire.reconnect().send(&both).half_close().rest(), [0, 0]);
        target.assert_intact();
    }
    // one after the other, byte by byte
    wire.reconnect();
    for byte in [v1(CHECKPOINT, pid), v1(RESTORE, pid)].concat() {
        wire.send(&[byte]);
    }
    assert_eq!(wire.rest(), [0, 0]);
    let actions: Vec<_> = records_of(&daemon, &wire).iter().map(|record| record["action"].clone()).collect();
    assert_eq!(actions, ["checkpoint", "restore"].repeat(4));
}

#[test]
fn a_third_command_on_one_connection_is_not_served() {
    let daemon = Daemon::start();
    let mut target = sample("4");
    let pid = target.pid();
    let mut wire = client(&daemon);
    let three = [v1(CHECKPOINT, pid), v1(RESTORE, pid), v1(CHECKPOINT, pid)].concat();
    assert_eq!(wire.send(&three).rest(), [0, 0]);
    assert_eq!(records_of(&daemon, &wire).len(), 2);
    assert!(target.is_awake());
    target.assert_intact();
}

#[test]
fn after_its_first_answer_a_client_is_waited_for_a_few_seconds() {
    let daemon = Daemon::start();
    let mut target = sample("4");
    let mut wire = client(&daemon);
    assert_eq!(wire.ask(&v1(CHECKPOINT, target.pid())), Some(0));
    let start = Instant::now();
    assert!(wire.rest().is_empty());
    let waited = start.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(15)).contains(&waited), "it was {waited:?}");
    assert_eq!(wire.reconnect().ask(&v1(RESTORE, target.pid())), Some(0));
    // one that has begun to say more is told that it came to nothing
    assert_eq!(wire.send(&v1(RESTORE, target.pid())[..5]).rest(), [-1]);
    target.assert_intact();
}

#[test]
fn a_client_that_leaves_changes_nothing() {
    let daemon = Daemon::start();
    let mut target = sample("192");
    let pid = target.pid();
    let mut wire = client(&daemon);
    for leaves_altogether in [true, false] {
        for (command, is_asleep_then) in [(CHECKPOINT, true), (RESTORE, false)] {
            wire.reconnect().send(&v1(command, pid));
            if leaves_altogether {
                wire.close();
            } else {
                assert_eq!(wire.half_close().rest(), [0]);
            }
            let expected = if is_asleep_then { "asleep" } else { "running" };
            wait::until(expected, || daemon.client().state(pid) == expected);
        }
    }
    let records = records_of(&daemon, &wire);
    assert!(records.len() == 4 && records.iter().all(|record| record["outcome"] == "ok"), "{records:?}");
    target.assert_intact();
}

#[test]
fn a_restore_during_a_checkpoint_calls_it_off_at_once_and_the_next_request_finds_a_clean_state() {
    let daemon = Daemon::start();
    let mut target = sample("512");
    let pid = target.pid();
    let [mut one, mut two] = [client(&daemon), client(&daemon)];
    for round in 0..3 {
        one.reconnect().send(&v1(CHECKPOINT, pid)).await_answer();
        wait::until("its memory is being written", || daemon.client().state(pid) == "dumping");
        let start = Instant::now();
        assert_eq!(two.reconnect().ask(&v1(RESTORE, pid)), Some(0));
        let took = start.elapsed();
        assert_eq!(one.awaited(), Some(-1));
        assert!(target.is_awake());
        // far less than the rest of the dump
        assert!(took < Duration::from_secs(1), "round {round}: it took {took:?}");
        assert_recorded(&daemon, &one, &[("code", "aborted".into())]);
        assert_recorded(&daemon, &two, &[("outcome", "ok".into()), ("bytes", 0.into())]);
    }
    assert_eq!(one.reconnect().ask(&v1(CHECKPOINT, pid)), Some(0));
    assert_eq!(two.reconnect().ask(&v1(RESTORE, pid)), Some(0));
    target.assert_intact();
    daemon.wait_until_no_image();
}

#[test]
fn a_restore_says_minus_two_of_no_process_that_may_be_asleep_elsewhere() {
    let (one, other) = (Daemon::start(), Daemon::start());
    let mut wire = client(&other);
    let mut asleep = sample("4");
    one.put_to_sleep(&asleep);
    assert_eq!(wire.ask(&v1(RESTORE, asleep.pid())), Some(-1));
    assert_recorded(&other, &wire, &[("code", "busy".into())]);
    assert!(!asleep.is_awake());
    one.client().restore(asleep.pid()).expect_status(0);
    assert_eq!(wire.reconnect().ask(&v1(RESTORE, asleep.pid())), Some(-2));
    asleep.assert_intact();
    let mut traced = sample("4");
    // this very thread becomes its tracer
    ptrace::seize(Pid::from_raw(traced.pid()), ptrace::Options::empty()).expect("root may trace");
    assert_eq!(wire.reconnect().ask(&v1(RESTORE, traced.pid())), Some(-1));
    traced.assert_intact();
}

#[test]
fn both_protocols_are_served_side_by_side_and_told_apart_on_record() {
    let daemon = Daemon::start();
    let mut target = sample("4");
    let mut wire = client(&daemon);
    daemon.client().checkpoint(target.pid()).expect_status(0);
    assert_eq!(wire.ask(&v1(CHECKPOINT, target.pid())), Some(-2));
    assert_eq!(wire.ask(&v2(RESTORE, target.pid(), &[])), Some(0));
    assert_eq!(daemon.client().state(target.pid()), "running");
    let records = daemon.audit_of(target.pid());
    let wires: Vec<_> = records.iter().map(|record| record["wire"].as_str().expect("a wire")).collect();
    assert_eq!(wires, ["framed", "v1", "v2", "framed"]);
    target.assert_intact();
}
