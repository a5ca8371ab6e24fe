//! The state of a target without any IO: who is answered what, and when.

use super::*;
use crate::audit::record::Wire;
use crate::serve::pending::Asker;
use memcr_protocol::client::CheckpointOptions;
use memcr_protocol::subject::{Peer, PeerKind};
use std::fs::File;
use std::rc::Rc;
use std::time::Duration;

const PID: i32 = 4242;
const OWNER: u32 = 1000;
const STRANGER: u32 = 2000;

fn policy() -> Policy {
    Policy::builtin(None)
}

fn pending(number: u64, uid: u32, action: Action) -> Pending {
    let kind = PeerKind::Process;
    let peer = Peer {
        kind,
        uid,
        gid: uid,
        groups: Vec::new(),
        pid: 7,
        executable: None,
        cgroup: None,
        namespaces: None,
    };
    Pending {
        number,
        connection: number,
        id: 1,
        wire: Wire::Framed,
        asker: Rc::new(Asker { peer, known: true, looked_up: true, address: None }),
        action,
        pid: PID,
        since: Instant::now(),
    }
}

fn descriptor() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn checkpoint(number: u64, uid: u32) -> Checkpoint {
    Checkpoint {
        pending: pending(number, uid, Action::Checkpoint),
        options: CheckpointOptions::default(),
        pidfd: descriptor(),
        client: descriptor(),
    }
}

fn restore(number: u64, uid: u32) -> Restore {
    Restore { pending: pending(number, uid, Action::Restore), client: descriptor() }
}

fn subjects() -> WorkerEvent {
    let peer = Peer {
        kind: PeerKind::Process,
        uid: OWNER,
        gid: OWNER,
        groups: Vec::new(),
        pid: 7,
        executable: None,
        cgroup: None,
        namespaces: None,
    };
    let target = TargetFacts {
        pid: PID,
        start_time: 1,
        uids: [OWNER; 3],
        gids: [OWNER; 3],
        executable: "/bin/program".into(),
        cgroup: "/".into(),
        namespaces: None,
        sha256: None,
    };
    WorkerEvent::Subjects { peer, target }
}

fn sleep_report() -> SleepReport {
    SleepReport {
        rss_before: 10,
        rss_asleep: 1,
        dumped: 9,
        zero: 0,
        pages: 1,
        image: 5,
        file_dropped: 0,
        checksum: None,
        threads: 1,
        guard: Guard::Full,
        attach_micros: 1,
        dump_micros: 1,
        free_micros: 1,
    }
}

fn wake_report() -> WakeReport {
    WakeReport { restored: 9, pages: 1, checksum: None, rss_after: 10, restore_micros: 1 }
}

fn failed(code: Code) -> WorkerEvent {
    WorkerEvent::Failed(Failure::new(code, "reason"))
}

/// A target whose checkpoint is request 1, and whose facts are known.
fn attaching() -> Target {
    let mut target = Target::new(pending(1, OWNER, Action::Checkpoint));
    assert!(target.event(subjects(), &policy()).is_empty());
    target
}

fn asleep() -> Target {
    let mut target = attaching();
    let effects = target.event(WorkerEvent::Asleep(sleep_report()), &policy());
    assert_eq!(answers(effects), ["1: asleep"]);
    target
}

/// The effects in short: the request's number and how it was answered.
fn answers(effects: Vec<Effect>) -> Vec<String> {
    effects
        .into_iter()
        .map(|effect| match effect {
            Effect::Answer { pending, outcome, .. } => {
                let outcome = match outcome {
                    Ok(Completion::Asleep(_)) => "asleep".into(),
                    Ok(Completion::Awake(report)) => format!("awake {}", report.restored),
                    Ok(Completion::Listed) => "listed".into(),
                    Err(failure) => failure.code.name().to_owned(),
                };
                format!("{}: {outcome}", pending.number)
            }
            Effect::Outside(pending) => format!("{}: outside", pending.number),
            Effect::Progress { connection, done, .. } => format!("{connection}: {done} done"),
            Effect::Order { ticket, .. } => format!("order {ticket}"),
            Effect::Failed(failure) => format!("failed: {}", failure.code.name()),
            Effect::SleepsOn(failure) => format!("sleeps on: {}", failure.code.name()),
            Effect::Woken(report) => format!("woken {}", report.restored),
        })
        .collect()
}

fn numbers(checkpoints: &VecDeque<Checkpoint>) -> Vec<u64> {
    checkpoints.iter().map(|checkpoint| checkpoint.pending.number).collect()
}

fn decided(allowed: bool) -> WorkerEvent {
    WorkerEvent::Decided { rule: "a rule".into(), allowed }
}

#[test]
fn a_process_sleeps_and_wakes() {
    let mut target = asleep();
    assert_eq!(target.entry().unwrap().state, State::Asleep);
    assert_eq!(answers(target.ask_restore(restore(2, OWNER), &policy())), ["order 1"]);
    let allowed = WorkerEvent::RestoreAllowed { ticket: 1, rule: "owner".into() };
    assert!(target.event(allowed, &policy()).is_empty());
    assert_eq!(target.entry().unwrap().state, State::Restoring);
    assert_eq!(answers(target.event(WorkerEvent::Awake(wake_report()), &policy())), ["2: awake 9"]);
    assert!(target.entry().is_none());
    let (effects, next) = target.ended(Ending::Exited, &policy());
    assert!(effects.is_empty() && next.is_empty());
}

#[test]
fn a_second_checkpoint_is_refused_by_what_the_target_does() {
    let mut target = attaching();
    assert_eq!(answers(target.ask_checkpoint(checkpoint(2, OWNER), false, &policy())), ["2: busy"]);
    let mut target = asleep();
    assert_eq!(answers(target.ask_checkpoint(checkpoint(2, OWNER), false, &policy())), ["2: already-asleep"]);
    target.ask_restore(restore(3, OWNER), &policy());
    target.event(WorkerEvent::RestoreAllowed { ticket: 1, rule: "owner".into() }, &policy());
    assert_eq!(answers(target.ask_checkpoint(checkpoint(4, OWNER), false, &policy())), ["4: busy"]);
}

#[test]
fn a_stranger_is_denied_and_does_not_learn_that_it_sleeps() {
    let mut target = asleep();
    assert_eq!(answers(target.ask_checkpoint(checkpoint(2, STRANGER), false, &policy())), ["2: denied"]);
    assert_eq!(answers(target.ask_restore(restore(3, STRANGER), &policy())), ["3: denied"]);
    assert_eq!(target.entry().unwrap().state, State::Asleep);
}

#[test]
fn the_worker_has_the_last_word_on_a_restore() {
    let mut target = asleep();
    assert_eq!(answers(target.ask_restore(restore(2, OWNER), &policy())), ["order 1"]);
    assert!(target.ask_restore(restore(3, OWNER), &policy()).is_empty());
    let denied = WorkerEvent::RestoreDenied { ticket: 1, rule: "no".into() };
    assert_eq!(answers(target.event(denied, &policy())), ["2: denied", "order 2"]);
}

#[test]
fn everybody_who_waits_for_the_same_wake_gets_it() {
    let mut target = asleep();
    target.ask_restore(restore(2, OWNER), &policy());
    target.ask_restore(restore(3, 0), &policy());
    let effects = target.event(WorkerEvent::Awake(wake_report()), &policy());
    assert_eq!(answers(effects), ["2: awake 9", "3: awake 9"]);
}

#[test]
fn a_restore_during_a_checkpoint_calls_it_off_and_succeeds() {
    let mut target = attaching();
    assert_eq!(answers(target.ask_restore(restore(2, OWNER), &policy())), ["order 1"]);
    let effects = target.event(failed(Code::Aborted), &policy());
    assert_eq!(answers(effects), ["1: aborted", "2: awake 0"]);
}

#[test]
fn a_restore_before_anything_is_known_of_the_target_waits_for_that() {
    let mut target = Target::new(pending(1, OWNER, Action::Checkpoint));
    assert!(target.ask_restore(restore(2, STRANGER), &policy()).is_empty());
    assert!(target.ask_restore(restore(3, OWNER), &policy()).is_empty());
    assert_eq!(answers(target.event(subjects(), &policy())), ["2: denied", "order 2"]);
    let mut target = Target::new(pending(1, OWNER, Action::Checkpoint));
    target.ask_restore(restore(2, STRANGER), &policy());
    let effects = target.event(failed(Code::Denied), &policy());
    assert_eq!(answers(effects), ["1: denied", "2: outside"]);
}

#[test]
fn a_failed_checkpoint_leaves_nothing_to_restore() {
    let mut target = attaching();
    target.ask_restore(restore(2, OWNER), &policy());
    assert_eq!(answers(target.event(failed(Code::Storage), &policy())), ["1: storage", "2: outside"]);
}

#[test]
fn a_target_that_dies_asleep_is_lost_with_or_without_a_request() {
    let mut target = asleep();
    assert_eq!(answers(target.event(failed(Code::TargetLost), &policy())), ["failed: target-lost"]);
    let mut target = asleep();
    target.ask_restore(restore(2, OWNER), &policy());
    assert_eq!(answers(target.event(failed(Code::TargetLost), &policy())), ["2: target-lost"]);
}

#[test]
fn a_worker_that_ends_without_a_word_is_answered_for() {
    for (ending, before, asleep_then) in [
        (Ending::Exited, "1: internal", "failed: internal"),
        (Ending::DiedUnharmed, "1: internal", "failed: internal"),
        (Ending::DiedAsleep, "1: target-lost", "failed: target-lost"),
        (Ending::NotStarted, "1: internal", "failed: internal"),
    ] {
        assert_eq!(answers(attaching().ended(ending, &policy()).0), [before]);
        assert_eq!(answers(asleep().ended(ending, &policy()).0), [asleep_then]);
    }
}

#[test]
fn a_successor_wakes_it_and_nobody_has_to_have_asked() {
    let mut target = asleep();
    target.replaced();
    assert_eq!(target.entry().unwrap().state, State::Restoring);
    assert_eq!(answers(target.event(WorkerEvent::Awake(wake_report()), &policy())), ["woken 9"]);
}

#[test]
fn a_checkpoint_right_after_the_wake_waits_for_the_worker_to_end() {
    let mut target = asleep();
    target.ask_restore(restore(2, OWNER), &policy());
    target.event(WorkerEvent::Awake(wake_report()), &policy());
    assert_eq!(answers(target.ask_restore(restore(5, OWNER), &policy())), ["5: outside"]);
    assert!(target.ask_checkpoint(checkpoint(3, OWNER), false, &policy()).is_empty());
    assert_eq!(answers(target.ask_checkpoint(checkpoint(4, OWNER), false, &policy())), ["4: busy"]);
    let (_, next) = target.ended(Ending::Exited, &policy());
    assert_eq!(numbers(&next), [3]);
}

#[test]
fn a_checkpoint_of_the_next_process_with_this_pid_waits_too() {
    let mut target = asleep();
    assert!(target.ask_checkpoint(checkpoint(2, STRANGER), true, &policy()).is_empty());
    let (effects, next) = target.ended(Ending::DiedAsleep, &policy());
    assert_eq!(answers(effects), ["failed: target-lost"]);
    assert_eq!(numbers(&next), [2]);
}

#[test]
fn progress_goes_to_whoever_waits() {
    let mut target = attaching();
    let dumping = WorkerEvent::Progress { state: State::Dumping, done: 5, total: 9 };
    assert_eq!(answers(target.event(dumping, &policy())), ["1: 5 done"]);
    assert_eq!(target.entry().unwrap().state, State::Dumping);
    let mut target = asleep();
    let restoring = WorkerEvent::Progress { state: State::Restoring, done: 5, total: 9 };
    assert!(answers(target.event(restoring.clone(), &policy())).is_empty());
    target.ask_restore(restore(2, OWNER), &policy());
    assert_eq!(answers(target.event(restoring, &policy())), ["2: 5 done"]);
}

#[test]
fn restores_do_not_pile_up_without_bound() {
    let mut target = asleep();
    for number in 0..16 {
        target.ask_restore(restore(number, OWNER), &policy());
    }
    assert_eq!(answers(target.ask_restore(restore(99, OWNER), &policy())), ["99: busy"]);
}

#[test]
fn a_worker_that_goes_on_talking_after_its_last_word_changes_nothing() {
    let mut target = asleep();
    target.event(WorkerEvent::Awake(wake_report()), &policy());
    for event in [subjects(), failed(Code::Internal), WorkerEvent::Asleep(sleep_report())] {
        assert!(target.event(event, &policy()).is_empty());
    }
    assert!(target.entry().is_none());
}

#[test]
fn a_restore_that_does_not_work_yet_is_answered_and_the_next_is_tried() {
    let mut target = asleep();
    let short = || WorkerEvent::SleepsOn(Failure::new(Code::OutOfMemory, "too little memory"));
    assert_eq!(answers(target.ask_restore(restore(2, OWNER), &policy())), ["order 1"]);
    assert!(target.ask_restore(restore(3, OWNER), &policy()).is_empty());
    target.event(WorkerEvent::RestoreAllowed { ticket: 1, rule: "owner".into() }, &policy());
    assert_eq!(answers(target.event(short(), &policy())), ["2: out-of-memory", "order 2"]);
    assert_eq!(answers(target.event(short(), &policy())), ["3: out-of-memory"]);
    assert_eq!(target.entry().unwrap().state, State::Asleep);
    // one that nobody asked for
    assert_eq!(answers(target.event(short(), &policy())), ["sleeps on: out-of-memory"]);
    assert_eq!(answers(target.event(WorkerEvent::Awake(wake_report()), &policy())), ["woken 9"]);
}

#[test]
fn a_checkpoint_behind_one_that_is_denied_is_the_next_to_be_started() {
    let mut target = Target::new(pending(1, STRANGER, Action::Checkpoint));
    assert!(target.ask_checkpoint(checkpoint(2, OWNER), false, &policy()).is_empty());
    // a stranger with many requests has one place, and it is taken
    assert_eq!(answers(target.ask_checkpoint(checkpoint(3, STRANGER), false, &policy())), ["3: busy"]);
    assert!(target.event(subjects(), &policy()).is_empty());
    assert!(target.event(decided(false), &policy()).is_empty());
    assert_eq!(answers(target.event(failed(Code::Denied), &policy())), ["1: denied"]);
    assert!(target.ask_checkpoint(checkpoint(4, STRANGER), false, &policy()).is_empty());
    let (_, next) = target.ended(Ending::Exited, &policy());
    assert_eq!(numbers(&next), [2, 4]);
}

#[test]
fn a_checkpoint_behind_one_that_fails_before_it_is_allowed_is_started_too() {
    let mut target = attaching();
    assert!(target.ask_checkpoint(checkpoint(2, 0), false, &policy()).is_empty());
    assert_eq!(answers(target.event(failed(Code::TargetRefused), &policy())), ["1: target-refused"]);
    assert_eq!(numbers(&target.ended(Ending::Exited, &policy()).1), [2]);
}

#[test]
fn a_checkpoint_behind_one_that_is_allowed_is_refused_as_soon_as_that_is_known() {
    let mut target = Target::new(pending(1, OWNER, Action::Checkpoint));
    assert!(target.ask_checkpoint(checkpoint(2, 0), false, &policy()).is_empty());
    assert!(target.ask_checkpoint(checkpoint(3, STRANGER), false, &policy()).is_empty());
    assert_eq!(answers(target.event(subjects(), &policy())), ["3: denied"]);
    assert_eq!(answers(target.event(decided(true), &policy())), ["2: busy"]);
    assert_eq!(answers(target.ask_checkpoint(checkpoint(4, 0), false, &policy())), ["4: busy"]);
    assert!(target.ended(Ending::DiedUnharmed, &policy()).1.is_empty());
}

#[test]
fn what_happens_to_a_process_concerns_nobody_who_waits_for_the_next_with_its_number() {
    let mut target = Target::new(pending(1, OWNER, Action::Checkpoint));
    assert!(target.ask_checkpoint(checkpoint(2, STRANGER), true, &policy()).is_empty());
    assert!(target.event(subjects(), &policy()).is_empty());
    assert!(target.event(decided(true), &policy()).is_empty());
    assert_eq!(numbers(&target.ended(Ending::Exited, &policy()).1), [2]);
}

#[test]
fn checkpoints_do_not_pile_up_without_bound() {
    let mut target = Target::new(pending(1, OWNER, Action::Checkpoint));
    for uid in 5000..5008 {
        assert!(target.ask_checkpoint(checkpoint(u64::from(uid), uid), false, &policy()).is_empty());
    }
    assert_eq!(answers(target.ask_checkpoint(checkpoint(9, 5008), false, &policy())), ["9: busy"]);
    // but for root there is a place
    assert!(target.ask_checkpoint(checkpoint(10, 0), false, &policy()).is_empty());
}

#[test]
fn a_restore_that_takes_too_long_is_answered_and_goes_on() {
    let (mut target, limit) = (asleep(), Duration::from_secs(20));
    assert_eq!(target.next_overdue(limit), None);
    let mut early = restore(2, OWNER);
    early.pending.since = Instant::now() - Duration::from_secs(15);
    let due = early.pending.since + limit;
    target.ask_restore(early, &policy());
    assert_eq!(target.next_overdue(limit), Some(due));
    assert!(target.give_up_waiting(limit, due - Duration::from_millis(1), &policy()).is_empty());
    let given_up = answers(target.give_up_waiting(limit, due, &policy()));
    assert_eq!(given_up, ["2: timeout"]);
    // the next waits for the same wake
    assert!(target.ask_restore(restore(3, OWNER), &policy()).is_empty());
    assert_eq!(answers(target.event(WorkerEvent::Awake(wake_report()), &policy())), ["3: awake 9"]);
}

#[test]
fn the_next_restore_does_not_suffer_from_the_failure_of_one_that_was_given_up() {
    let (mut target, limit) = (asleep(), Duration::from_secs(20));
    target.ask_restore(restore(2, OWNER), &policy());
    let later = Instant::now() + limit;
    assert_eq!(answers(target.give_up_waiting(limit, later, &policy())), ["2: timeout"]);
    assert!(target.ask_restore(restore(3, OWNER), &policy()).is_empty());
    let failure = Failure::new(Code::OutOfMemory, "reason");
    let effects = answers(target.event(WorkerEvent::SleepsOn(failure), &policy()));
    assert_eq!(effects, ["sleeps on: out-of-memory", "order 2"]);
}

#[test]
fn a_restore_calls_off_a_checkpoint_that_waits_for_the_worker_to_end() {
    let mut target = asleep();
    target.ask_restore(restore(2, OWNER), &policy());
    target.event(WorkerEvent::Awake(wake_report()), &policy());
    assert!(target.ask_checkpoint(checkpoint(3, OWNER), false, &policy()).is_empty());
    let effects = answers(target.ask_restore(restore(4, OWNER), &policy()));
    assert_eq!(effects, ["3: aborted", "4: awake 0"]);
    assert!(numbers(&target.ended(Ending::Exited, &policy()).1).is_empty());
}
