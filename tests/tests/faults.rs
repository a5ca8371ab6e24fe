//! A mistake of our own in each role, found by a panic: it ends cleanly, is reported, and harms nobody. The same test builds
//! as in escape.rs have it.

use memcr_drill::Role;
use memcr_tests::client::Outcome;
use memcr_tests::daemon::Daemon;
use memcr_tests::drill::Bait;
use memcr_tests::procfs;
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::wait;
use serde_json::Value;

fn sample() -> Target {
    Target::start(&cast().target, "sample-memory", &["8", "2", "2"])
}

/// A daemon whose second sleep's worker panics in this role.
fn daemon(bait: &Bait, role: Role) -> Daemon {
    bait.daemon(&format!("{}@2 panic\n", role.name()))
}

/// Asserts that a request failed for a fault, that the records say so, and that nobody else noticed.
#[track_caller]
fn assert_reported(daemon: &Daemon, outcome: &Outcome, target: &Target, action: &str) {
    assert_eq!(outcome.status, 4, "{}", outcome.errors);
    let log = daemon.log();
    assert!(log.contains("panicked at"), "{log}");
    let records = daemon.audit_of(target.pid());
    let record = records.iter().rfind(|record| record["event"] == "request").expect("it is on record");
    assert_eq!(
        (&record["action"], &record["outcome"], &record["code"]),
        (&Value::from(action), &Value::from("failed"), &Value::from("internal"))
    );
    let message = record["message"].as_str().expect("a sentence");
    assert!(outcome.errors.contains(message), "{message:?} is not what was said: {:?}", outcome.errors);
    assert!(procfs::is_alive(daemon.launcher()));
}

/// Asserts that the process can be put to sleep and woken, and that another that slept meanwhile wakes.
#[track_caller]
fn assert_unharmed(daemon: &Daemon, target: &mut Target, bait: &mut Bait) {
    target.wait_until_awake();
    target.assert_intact();
    daemon.put_to_sleep(target);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
    bait.wake_other(daemon, true);
    wait::until("all workers are gone", || daemon.workers().is_empty());
    daemon.wait_until_no_image();
}

/// Whether the launcher has put on record that a worker met a fault, or itself.
fn is_on_record(daemon: &Daemon, event: &str) -> bool {
    daemon.log().contains(&format!("\"event\":\"{event}\""))
}

#[test]
fn a_fault_of_a_worker_that_attaches_is_reported_and_harms_nobody() {
    let mut bait = Bait::lay();
    let (daemon, mut target) = (daemon(&bait, Role::Attaching), sample());
    let outcome = daemon.client().checkpoint(target.pid());
    assert_reported(&daemon, &outcome, &target, "checkpoint");
    assert!(is_on_record(&daemon, "worker-fault"), "{}", daemon.log());
    assert_unharmed(&daemon, &mut target, &mut bait);
}

#[test]
fn a_fault_of_a_thread_that_dumps_is_reported_and_harms_nobody() {
    let mut bait = Bait::lay();
    let (daemon, mut target) = (daemon(&bait, Role::Dumping), sample());
    let outcome = daemon.client().checkpoint(target.pid());
    assert_reported(&daemon, &outcome, &target, "checkpoint");
    outcome.expect_words(&["a thread of the worker", "fault of its own"]);
    assert_unharmed(&daemon, &mut target, &mut bait);
}

#[test]
fn a_fault_of_a_worker_that_is_asked_to_wake_its_process_wakes_it_all_the_same() {
    let mut bait = Bait::lay();
    let (daemon, mut target) = (daemon(&bait, Role::Asleep), sample());
    daemon.put_to_sleep(&target);
    // the successor's work is as good
    daemon.client().restore(target.pid()).expect_status(0);
    assert!(is_on_record(&daemon, "worker-fault"), "{}", daemon.log());
    assert!(daemon.audit_of(target.pid()).iter().any(|record| record["event"] == "worker-replaced"));
    assert_unharmed(&daemon, &mut target, &mut bait);
}

#[test]
fn after_a_fault_of_a_thread_that_restores_the_process_sleeps_on_and_can_be_woken() {
    let mut bait = Bait::lay();
    let (daemon, mut target) = (daemon(&bait, Role::Restoring), sample());
    daemon.put_to_sleep(&target);
    let outcome = daemon.client().restore(target.pid());
    assert_reported(&daemon, &outcome, &target, "restore");
    outcome.expect_words(&["a thread of the worker", "fault of its own"]);
    daemon.client().restore(target.pid()).expect_status(0);
    assert_unharmed(&daemon, &mut target, &mut bait);
}

#[test]
fn a_fault_of_the_broker_ends_the_daemon_on_record_and_wakes_all() {
    let mut bait = Bait::lay();
    let mut daemon = bait.daemon("broker@3 panic\n");
    let _ = daemon.client().run(&["--list"]);
    assert_eq!(daemon.wait_for_end().code(), Some(4), "{}", daemon.log());
    let log = daemon.log();
    assert!(log.contains("panicked at") && log.contains("a fault of its own"), "{log}");
    let last = daemon.audit().pop().expect("records");
    assert_eq!((&last["event"], &last["reason"]), (&"stop".into(), &"a fault of its own".into()));
    bait.assert_other_awake();
    daemon.wait_for_the_others();
    daemon.wait_until_no_image();
}

#[test]
fn a_fault_of_the_launcher_ends_the_daemon_on_record_and_wakes_all() {
    let mut bait = Bait::lay();
    let mut daemon = bait.daemon("launcher@4 panic\n");
    let mut target = sample();
    let outcome = daemon.client().checkpoint(target.pid());
    assert_eq!(outcome.status, 4, "{}", outcome.errors);
    assert_eq!(daemon.wait_for_end().code(), Some(4), "{}", daemon.log());
    let log = daemon.log();
    assert!(log.contains("panicked at") && is_on_record(&daemon, "launcher-fault"), "{log}");
    let last = daemon.audit().pop().expect("records");
    assert_eq!(last["event"], "stop");
    bait.assert_other_awake();
    target.wait_until_awake();
    target.assert_intact();
    daemon.wait_for_the_others();
    daemon.wait_until_no_image();
}
