//! An attacker inside of each role, after it has read what could have taken it over: what he tries fails, and is seen
//! failing. Test builds of the roles have his code (tests/drill), and none other has.

use memcr_drill::{Role, attempts};
use memcr_tests::daemon::Daemon;
use memcr_tests::drill::{
    Bait, Fate, adopt_orphans, end_of, fates, is_killed, is_status_killed, one_by_one, start,
};
use memcr_tests::procfs;
use memcr_tests::target::Target;
use memcr_tests::users::cast;

fn sample() -> Target {
    Target::start(&cast().target, "sample-memory", &["4", "3", "2"])
}

fn names() -> Vec<&'static str> {
    attempts().map(|attempt| attempt.name).collect()
}

/// Has a role of workers try everything, each in a sleep of its own.
fn worker_tries(role: Role, names: &[&str]) -> Vec<(String, Fate)> {
    let mut bait = Bait::lay();
    let daemon = start(&one_by_one(role, names), &bait);
    let mut target = sample();
    for name in names {
        let outcome = daemon.client().checkpoint(target.pid());
        if outcome.status == 0 {
            daemon.client().restore(target.pid()).expect_status(0);
        }
        target.wait_until_awake();
        target.assert_intact();
        let _ = name;
    }
    let fates = fates(&daemon.log(), role);
    if fates.iter().all(|(_, fate)| *fate != Fate::Worked) {
        bait.assert_untouched("all");
    }
    fates
}

fn broker_tries(name: &str, target: &mut Target, bait: &mut Bait) -> Fate {
    let mut daemon: Daemon = start(&format!("broker@3 try {name}\n"), bait);
    daemon.put_to_sleep(target);
    let _ = daemon.client().run(&["--list"]);
    let log = daemon.log();
    let fate = match fates(&log, Role::Broker)[..] {
        [(_, Fate::Killed)] => {
            let end = daemon.wait_for_end();
            assert!(is_status_killed(end), "{name}: {end:?}");
            Fate::Killed
        }
        [(_, fate)] => {
            daemon.client().restore(target.pid()).expect_status(0);
            fate
        }
        _ => panic!("{log}"),
    };
    target.wait_until_awake();
    target.assert_intact();
    fate
}

fn launcher_tries(name: &str, target: &mut Target, bait: &mut Bait) -> Fate {
    let mut daemon: Daemon = start(&format!("launcher@3 try {name}\n"), bait);
    daemon.put_to_sleep(target);
    let _ = daemon.client().run(&["--list"]);
    let log = daemon.log();
    let fate = match fates(&log, Role::Launcher)[..] {
        [(_, Fate::Killed)] => {
            daemon.wait_for_end();
            let end = end_of(daemon.launcher());
            assert!(is_killed(end), "{name}: {end:?}");
            Fate::Killed
        }
        [(_, fate)] => {
            daemon.client().restore(target.pid()).expect_status(0);
            fate
        }
        _ => panic!("{log}"),
    };
    target.wait_until_awake();
    target.assert_intact();
    fate
}

#[test]
fn experiment() {
    adopt_orphans();
    let only = std::env::var("ONLY").unwrap_or_default();
    for role in [Role::Attaching, Role::Dumping, Role::Asleep, Role::Restoring] {
        if only.is_empty() || only == role.name() {
            let begin = std::time::Instant::now();
            for (name, fate) in worker_tries(role, &names()) {
                if fate != Fate::Killed {
                    println!("{} {name} {fate:?}", role.name());
                }
            }
            println!("{} took {:?}", role.name(), begin.elapsed());
        }
    }
    let mut target = sample();
    for name in names() {
        if only.is_empty() || only == "broker" {
            let mut bait = Bait::lay();
            let fate = broker_tries(name, &mut target, &mut bait);
            if fate != Fate::Killed {
                println!("broker {name} {fate:?}");
            }
        }
    }
    for name in names() {
        if only.is_empty() || only == "launcher" {
            let mut bait = Bait::lay();
            let fate = launcher_tries(name, &mut target, &mut bait);
            if fate != Fate::Killed {
                println!("launcher {name} {fate:?}");
            }
        }
    }
}
