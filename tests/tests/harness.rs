//! The harness itself: what the other tests compare must not change by itself.

use memcr_tests::procfs::Snapshot;
use memcr_tests::programs::{self, Nginx, PAGE, Postgres, Redis};
use memcr_tests::scratch::Scratch;
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::wait;
use std::time::Duration;

#[test]
fn a_target_that_is_left_alone_does_not_change() {
    let mut target = Target::start(&cast().target, "sample-zoo", &[]);
    target.assert_intact();
    let before = Snapshot::of(target.pid());
    wait::let_pass(Duration::from_millis(200));
    before.assert_same(&Snapshot::of(target.pid()), "though nothing was done to it");
    assert_eq!(target.ask("finish"), "intact");
}

#[test]
#[should_panic(expected = "oom_score_adj")]
fn a_difference_is_seen() {
    let target = Target::start(&cast().target, "sample-memory", &["1"]);
    let before = Snapshot::of(target.pid());
    std::fs::write(format!("/proc/{}/oom_score_adj", target.pid()), "7").expect("root may change it");
    before.assert_same(&Snapshot::of(target.pid()), "since something was done to it");
}

#[test]
fn the_samples_find_themselves_intact() {
    for (sample, words) in [
        ("sample-memory", &["8", "3", "2"][..]),
        ("sample-threads", &["8"]),
        ("sample-waits", &["50"]),
        ("sample-state", &["plain"]),
    ] {
        Target::start(&cast().target, sample, words).assert_intact();
    }
}

#[test]
fn the_real_programs_work_when_they_are_left_alone() {
    let scratch = Scratch::new();
    let redis = Redis::start(&scratch);
    assert_eq!(redis.connect().ask("PING"), "+PONG");
    programs::start_node().assert_intact();
    programs::start_python().assert_intact();
    let nginx = Nginx::start(&scratch);
    let mut connection = nginx.connect();
    programs::send_request(&mut connection);
    assert_eq!(programs::read_answer(&mut connection), PAGE);
    let postgres = Postgres::start(&scratch);
    assert_eq!(postgres.connect().ask("SELECT 6 * 7;"), ["42"]);
}
