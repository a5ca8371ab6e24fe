//! An attacker inside of each role, after it has read what could have taken it over: what he tries fails, and is seen
//! failing. Test builds of the roles have his code (tests/drill), and none other has.

use memcr_drill::{MARK, Role, attempts};
use memcr_tests::binaries;
use memcr_tests::drill::{Bait, Fate, adopt_orphans, end_of, fates, is_killed, is_status_killed, one_by_one};
use memcr_tests::procfs;
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use nix::errno::Errno;

/// What a launcher, or a worker that still attaches, can do by what it is for. doc/threat-model.md tells what follows.
const CAN: &[(&str, &str)] = &[
    ("open-secret", "it opens files for reading, /proc among them: what the daemon's user may read"),
    ("open-image", "the same; it is encrypted"),
    ("make-file", "it makes images: new files where the daemon's user may"),
    ("remove-file", "it removes images: files of the daemon's user"),
    ("list-directory", "it looks for threads, descriptors and processes"),
    ("open-memory-of-process", "with CAP_SYS_PTRACE, or for one of the same user"),
    ("use-own-capability", "CAP_SYS_PTRACE, and no other"),
    ("read-process", "it prepares targets"),
    ("read-launcher", "the same"),
    (READ_WORKER, "the same"),
    ("write-process", "the same"),
    ("compare-process", "it looks for processes that share memory with a target"),
    ("open-process", "it names targets of clients that send numbers"),
    ("take-descriptor", "it takes its end of the parasite's socket"),
    ("fork", "a worker is a fork"),
];
/// Needs CAP_SYS_PTRACE in effect, which a launcher has for moments only.
const READ_WORKER: &str = "read-other-worker";

fn names() -> Vec<&'static str> {
    attempts().map(|attempt| attempt.name).collect()
}

/// Asserts that nothing worked but what is listed, that all of that did, and that what was refused was forbidden: not
/// missing, and not misspelt.
#[track_caller]
fn assert_only(can: &[(&str, &str)], found: &[(String, Fate)], tried: &[&str]) {
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, tried, "each is tried once");
    let worked = found.iter().filter(|(_, fate)| *fate == Fate::Worked);
    let worked: Vec<_> = worked.map(|(name, _)| name.as_str()).collect();
    assert_eq!(worked, can.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "what worked");
    // ENXIO: a socket can't be opened by its name
    let forbids = [Errno::EPERM, Errno::EACCES, Errno::ENOSYS, Errno::ENXIO].map(|errno| errno as i32);
    let odd: Vec<_> = found
        .iter()
        .filter(|(_, fate)| matches!(fate, Fate::Refused(number) if !forbids.contains(number)))
        .collect();
    assert!(odd.is_empty(), "refused for another reason: {odd:?}");
    let killed = found.iter().filter(|(_, fate)| *fate == Fate::Killed).count();
    println!("{} tried, {killed} of them deadly, {} worked: {worked:?}", found.len(), worked.len());
}

/// Has a role of workers try everything, each in a sleep of its own.
#[track_caller]
fn worker_tries(role: Role, can: &[(&str, &str)]) {
    let (mut bait, names) = (Bait::lay(), names());
    let daemon = bait.daemon(&one_by_one(role, &names, 2));
    let mut target = Target::start(&cast().target, "sample-memory", &["2"]);
    for _ in &names {
        let outcome = daemon.client().checkpoint(target.pid());
        if outcome.status == 0 {
            daemon.client().restore(target.pid()).expect_status(0);
        }
        target.wait_until_awake();
        target.assert_intact();
    }
    let found = fates(&daemon.log(), role);
    if can.is_empty() {
        bait.assert_untouched(role.name());
    }
    assert_only(can, &found, &names);
    bait.wake_other(&daemon, true);
}

#[test]
fn a_confined_worker_that_reads_memory_can_do_nothing_else() {
    worker_tries(Role::Dumping, &[]);
}

#[test]
fn a_confined_worker_that_reads_an_order_asleep_can_do_nothing_else() {
    worker_tries(Role::Asleep, &[]);
}

#[test]
fn a_confined_worker_that_reads_an_image_can_do_nothing_else() {
    worker_tries(Role::Restoring, &[]);
}

#[test]
fn a_worker_that_attaches_can_do_only_what_it_is_for() {
    worker_tries(Role::Attaching, CAN);
}

/// Has the broker or the launcher try everything, each in a daemon of its own.
#[track_caller]
fn daemon_tries(role: Role, can: &[(&str, &str)]) {
    let names = names();
    let mut found = Vec::new();
    for name in &names {
        let mut bait = Bait::lay();
        let mut daemon = bait.daemon(&format!("{}@3 try {name}\n", role.name()));
        let _ = daemon.client().run(&["--list"]);
        let fate = match &fates(&daemon.log(), role)[..] {
            [(_, fate)] => fate.clone(),
            other => panic!("{other:?} in {}", daemon.log()),
        };
        if fate == Fate::Killed {
            let end = daemon.wait_for_end();
            match role {
                Role::Launcher => assert!(is_killed(end_of(daemon.launcher())), "{name}: {end:?}"),
                _ => assert!(is_status_killed(end), "{name}: {end:?}"),
            }
        }
        bait.wake_other(&daemon, fate != Fate::Killed);
        if !can.iter().any(|(able, _)| able == name) {
            bait.assert_untouched(name);
        }
        found.push(((*name).to_owned(), fate));
    }
    assert_only(can, &found, &names);
}

#[test]
fn a_captured_broker_can_do_nothing_else() {
    daemon_tries(Role::Broker, &[]);
}

#[test]
fn a_captured_launcher_can_do_only_what_it_is_for() {
    adopt_orphans();
    let can: Vec<_> = CAN.iter().copied().filter(|(name, _)| *name != READ_WORKER).collect();
    daemon_tries(Role::Launcher, &can);
}

/// Has the broker order something of the launcher as soon as a client has asked for `target`.
fn broker_orders(what: &str, target: &mut Target) -> Fate {
    let mut bait = Bait::lay();
    let daemon = bait.daemon(&format!("broker@4 try {what}\n"));
    let _ = daemon.client().checkpoint(target.pid());
    let fate = match &fates(&daemon.log(), Role::Broker)[..] {
        [(_, fate)] => fate.clone(),
        other => panic!("{other:?} in {}", daemon.log()),
    };
    // its end wakes whoever sleeps, whatever it has done
    drop(daemon);
    target.wait_until_awake();
    target.assert_intact();
    bait.assert_untouched(what);
    bait.assert_other_awake();
    fate
}

#[test]
fn a_captured_broker_gets_nothing_for_clients_that_it_made_up() {
    let mut target = Target::start(&cast().target, "sample-memory", &["2"]);
    // so that this test can see it
    assert_eq!(broker_orders("forge-job-for-this-client", &mut target), Fate::Worked);
    for what in [
        "forge-job-for-pair",
        "forge-job-for-listener",
        "forge-job-for-job-channel",
        "forge-job-for-standard-error",
        "find-process-for-nobody",
    ] {
        let fate = broker_orders(what, &mut target);
        println!("{what}: {fate:?}");
        assert!(matches!(fate, Fate::Refused(_)), "{what}: {fate:?}");
    }
}

#[test]
fn whatever_a_captured_worker_says_to_the_launcher_gives_it_nothing_and_harms_no_other() {
    for role in [Role::Attaching, Role::Dumping, Role::Asleep] {
        for what in ["ask-launcher-for-descriptors", "confuse-launcher"] {
            let mut bait = Bait::lay();
            let daemon = bait.daemon(&one_by_one(role, &[what], 2));
            let mut target = Target::start(&cast().target, "sample-memory", &["2"]);
            let outcome = daemon.client().checkpoint(target.pid());
            if outcome.status == 0 {
                let _ = daemon.client().restore(target.pid());
            }
            let found = fates(&daemon.log(), role);
            // who only talks isn't stopped, but hears nothing
            let came = |fate: &Fate| match what {
                "confuse-launcher" => *fate == Fate::Worked,
                _ => matches!(fate, Fate::Refused(number) if *number == Errno::ENODATA as i32),
            };
            assert!(matches!(&found[..], [(_, fate)] if came(fate)), "{}: {found:?}", role.name());
            target.wait_until_awake();
            target.assert_intact();
            bait.wake_other(&daemon, true);
            assert!(procfs::is_alive(daemon.launcher()));
        }
    }
}

#[test]
fn no_build_for_others_has_the_attackers_code() {
    let has = |path: &std::path::Path| {
        let bytes = std::fs::read(path).expect("a program");
        [MARK, READ_WORKER].map(|text| bytes.windows(text.len()).any(|at| at == text.as_bytes()))
    };
    for name in ["memcr", "memcr-worker"] {
        assert_eq!(has(&binaries::path(name)), [false; 2], "{name}");
        // so that this test can see it
        assert_eq!(has(&binaries::drills().join(name)), [true; 2], "the test build of {name}");
    }
}
