//! Temporary.
use memcr_protocol::worker::WorkerEvent;
use memcr_tests::captured::{CapturedBroker, order_restore, until_settled};
use memcr_tests::procfs::{self, Snapshot};
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::{programs, wait};
use std::time::{Duration, Instant};

fn cycle(broker: &CapturedBroker, pid: i32, asleep: impl FnOnce()) -> Vec<WorkerEvent> {
    let (client, process) = broker.client_of(&cast().client);
    let control = broker.order_sleep(1, &client, pid);
    let events = until_settled(&control);
    assert!(matches!(events.last(), Some(WorkerEvent::Asleep(_))), "{events:?}");
    asleep();
    order_restore(&control, 2, &client);
    let events2 = until_settled(&control);
    assert!(matches!(events2.last(), Some(WorkerEvent::Awake(_))), "{events2:?}");
    process.kill();
    wait::until("worker gone", || procfs::tracer(pid).is_none());
    events
}

#[test]
fn zoo() {
    let broker = CapturedBroker::with_set_up_launcher();
    let mut target = Target::start(&cast().target, "sample-zoo", &[]);
    target.assert_intact();
    let before = Snapshot::of(target.pid());
    for i in 0..20 {
        cycle(&broker, target.pid(), || {
            before.clone().without_sleep().assert_same(&Snapshot::of(target.pid()).without_sleep(), "asleep");
        });
        before.assert_same(&Snapshot::of(target.pid()), &format!("cycle {i}"));
        target.assert_intact();
    }
    assert_eq!(target.ask("finish"), "intact");
}

#[test]
fn waits() {
    let broker = CapturedBroker::with_set_up_launcher();
    let mut target = Target::start(&cast().target, "sample-waits", &["500"]);
    for _ in 0..8 {
        cycle(&broker, target.pid(), || wait::let_pass(Duration::from_millis(50)));
        let a = target.ask("check");
        assert!(a.starts_with("intact"), "{a}");
    }
}

#[test]
fn threads() {
    let broker = CapturedBroker::with_set_up_launcher();
    let mut target = Target::start(&cast().target, "sample-threads", &["64"]);
    for _ in 0..10 {
        let t = Instant::now();
        cycle(&broker, target.pid(), || {});
        println!("{:?}", t.elapsed());
        target.assert_intact();
    }
}

#[test]
fn node_and_python() {
    let broker = CapturedBroker::with_set_up_launcher();
    for mut target in [programs::start_node(), programs::start_python()] {
        for _ in 0..3 {
            let ev = cycle(&broker, target.pid(), || {});
            println!("{ev:?}");
            target.assert_intact();
        }
    }
}

#[test]
fn redis() {
    let broker = CapturedBroker::with_set_up_launcher();
    let scratch = memcr_tests::scratch::Scratch::new();
    let redis = programs::Redis::start(&scratch);
    let mut c = redis.connect();
    c.ask("DEBUG POPULATE 500000 key 1000");
    let d = c.ask("DEBUG DIGEST");
    let ev = cycle(&broker, redis.program.pid(), || {});
    println!("{:?}", ev.last());
    assert_eq!(c.ask("DEBUG DIGEST"), d);
}
