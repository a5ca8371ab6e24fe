//! Processes whose only thread waits in a system call, or never does: it works for memcr, and must not notice.

use memcr_tests::daemon::Daemon;
use memcr_tests::lone;

#[test]
fn waits_of_a_lone_thread_end_in_time() {
    lone::assert_waits_end_in_time(&Daemon::start());
}

#[test]
fn a_signal_that_came_asleep_ends_the_wait_that_it_would_have_ended() {
    lone::assert_signals_end_waits(&Daemon::start());
}

#[test]
fn a_flood_of_signals_holds_nobody_up() {
    lone::assert_a_flood_of_signals_holds_nobody_up(&Daemon::start());
}

#[test]
fn one_signal_ends_the_wait_of_one_thread() {
    lone::assert_one_signal_ends_one_wait(&Daemon::start());
}

#[test]
fn a_stopped_process_stays_stopped_and_does_nothing() {
    let daemon = Daemon::start();
    lone::assert_stopped_stays_stopped(&daemon);
    lone::assert_stopped_does_nothing(&daemon);
}

#[test]
fn lone_threads_survive_workers_that_die_at_work() {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = seed.map_or(1, |time| time.as_nanos() as u64);
    lone::assert_lone_threads_survive_workers(&Daemon::start(), 20, 25, seed);
}
