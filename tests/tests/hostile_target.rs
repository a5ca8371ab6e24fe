//! Targets that are traps: what is done to them ends in bounded time, clearly, and harms neither them nor others.

use memcr_tests::cgroup::Freezer;
use memcr_tests::client::Outcome;
use memcr_tests::daemon::{Daemon, send};
use memcr_tests::fuse;
use memcr_tests::procfs::{self, Snapshot};
use memcr_tests::target::{Target, value};
use memcr_tests::users::cast;
use memcr_tests::wait;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A step in a target has 5 seconds; the rest is for a busy machine.
const BOUND: Duration = Duration::from_secs(25);

fn hostile(words: &[&str]) -> Target {
    Target::start(&cast().target, "sample-hostile", words)
}

/// Three successors, one after the other, have their steps each if a worker left something in its target.
const BOUND_OF_SUCCESSORS: Duration = Duration::from_secs(55);

/// Asks for a checkpoint, which must come to an end in time, while another client is served.
#[track_caller]
fn checkpoint(daemon: &Daemon, pid: i32) -> Outcome {
    checkpoint_within(BOUND, daemon, pid)
}

#[track_caller]
fn checkpoint_within(bound: Duration, daemon: &Daemon, pid: i32) -> Outcome {
    let mut other = Target::start(&cast().target, "sample-memory", &["2"]);
    let start = Instant::now();
    let running = daemon.client().start_checkpoint(pid);
    daemon.put_to_sleep(&other);
    daemon.client().restore(other.pid()).expect_status(0);
    let served = start.elapsed();
    other.assert_intact();
    let outcome = running.finish();
    assert!(start.elapsed() < bound, "it took {:?}: {}", start.elapsed(), outcome.errors);
    assert!(served < BOUND, "others waited {served:?}");
    outcome
}

/// Expects that it was refused, or failed, with a sentence; and that the target runs and is what it was.
#[track_caller]
fn assert_harmless(outcome: &Outcome, target: &mut Target) {
    assert!(matches!(outcome.status, 3 | 4), "{}: {}", outcome.status, outcome.errors);
    assert!(outcome.errors.len() > 20, "that tells nothing: {}", outcome.errors);
    target.wait_until_awake();
    target.assert_intact();
}

#[test]
fn names_that_look_like_lines_of_the_list_of_mappings_mislead_nobody() {
    let daemon = Daemon::start();
    let directory = daemon.scratch().directory_of(&cast().target, "names");
    let mut target = hostile(&["names", directory.to_str().expect("a path of ours is text")]);
    // not every kernel can name memory (CONFIG_ANON_VMA_NAME); the parser has a test of its own for that
    println!("memory is named: {}", target.fact("named"));
    let before = Snapshot::of(target.pid());
    for _ in 0..2 {
        let outcome = checkpoint(&daemon, target.pid()).expect_status(0);
        // all of it, also what is called "VmFlags: lo"
        assert!(outcome.figure("dumped") > 8 << 20, "{}", outcome.output);
        before.clone().without_sleep().assert_same(&Snapshot::of(target.pid()).without_sleep(), "asleep");
        daemon.client().restore(target.pid()).expect_status(0);
        target.assert_intact();
    }
    before.assert_same(&Snapshot::of(target.pid()), "afterwards");
}

#[test]
fn a_helper_that_shares_its_memory_and_changes_its_number_all_the_time_is_found() {
    let daemon = Daemon::start();
    let mut target = hostile(&["hops"]);
    let hops = |target: &mut Target| value(&target.ask("check"), "sprung").parse::<u64>().expect("a number");
    let mut last = hops(&mut target);
    for round in 0..40 {
        let outcome = daemon.client().checkpoint(target.pid()).expect_status(3);
        outcome.expect_words(&["shares its memory"]);
        target.wait_until_awake();
        let now = hops(&mut target);
        assert!(now > last, "in round {round} there was no other helper: this shows nothing");
        last = now;
    }
    target.assert_intact();
}

/// How many mappings a process of this machine may have, made larger as long as this is there.
struct MappingLimit {
    former: String,
    _alone: MutexGuard<'static, ()>,
}

impl MappingLimit {
    const PATH: &'static str = "/proc/sys/vm/max_map_count";

    fn raise(to: u64) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let former = std::fs::read_to_string(Self::PATH).expect("there is a limit");
        std::fs::write(Self::PATH, to.to_string()).expect("root may set it");
        Self { former, _alone }
    }
}

impl Drop for MappingLimit {
    fn drop(&mut self) {
        let _ = std::fs::write(Self::PATH, &self.former);
    }
}

#[test]
fn a_process_with_a_hundred_thousand_mappings_sleeps_and_wakes_and_one_without_room_for_more_is_refused() {
    let _limit = MappingLimit::raise(150_000);
    let daemon = Daemon::start();
    let mut target = hostile(&["many", "100000"]);
    assert_eq!(target.fact("mappings"), "100000");
    let outcome = checkpoint(&daemon, target.pid()).expect_status(0);
    assert!(outcome.figure("pages") >= 100_000, "{}", outcome.output);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
    // as many as there may be: the parasite would be one more
    let mut target = hostile(&["many", "160000"]);
    let made: u64 = target.fact("mappings").parse().expect("a number");
    assert!((140_000..150_000).contains(&made), "{made}");
    let outcome = checkpoint(&daemon, target.pid());
    assert_harmless(&outcome, &mut target);
    outcome.expect_words(&["mappings"]);
}

#[test]
fn a_process_that_executes_itself_all_the_time_sleeps_or_is_refused_and_runs_on() {
    let daemon = Daemon::start();
    let mut target = hostile(&["executes", "0"]);
    let generation =
        |target: &mut Target| -> u64 { value(&target.ask("check"), "generation").parse().expect("a number") };
    let first = generation(&mut target);
    let mut asleep = 0;
    for _ in 0..300 {
        let outcome = daemon.client().checkpoint(target.pid());
        match outcome.status {
            0 => {
                asleep += 1;
                daemon.client().restore(target.pid()).expect_status(0);
            }
            3 | 4 => assert!(outcome.errors.len() > 20, "that tells nothing: {}", outcome.errors),
            _ => panic!("{}: {}", outcome.status, outcome.errors),
        }
    }
    target.wait_until_awake();
    let last = generation(&mut target);
    println!("asleep {asleep} times of 300, {} programs later", last - first);
    assert!(last > first + 300 && asleep > 0, "{asleep} {first} {last}");
    daemon.assert_no_worker_died();
}

#[test]
fn processes_that_exit_while_they_are_put_to_sleep_leave_a_clear_answer_and_nothing_else() {
    let daemon = Daemon::start();
    let mut counts = [0; 3];
    for round in 0_u64..200 {
        let mut target = Target::start(&cast().target, "sample-memory", &["8"]);
        let running = daemon.client().start_checkpoint(target.pid());
        wait::let_pass(Duration::from_micros(round * 150));
        // as if it had done so itself
        target.signal(Signal::SIGKILL);
        let outcome = running.finish();
        target.wait_for_end();
        match outcome.status {
            0 => counts[0] += 1,
            3 => counts[1] += 1,
            4 | 5 => counts[2] += 1,
            status => panic!("{status}: {}", outcome.errors),
        }
        assert!(outcome.status == 0 || outcome.errors.len() > 20, "that tells nothing: {}", outcome.errors);
        // neither what it was not, nor that it runs on
        for wrong in ["shares its memory", "no system call instruction", "unharmed"] {
            assert!(!outcome.errors.contains(wrong), "it was killed: {}", outcome.errors);
        }
    }
    println!("asleep before, refused, lost: {counts:?}");
    wait::until("nobody is asleep", || daemon.client().listed().is_empty());
    wait::until("all workers are gone", || daemon.workers().is_empty());
    daemon.wait_until_no_image();
    assert!(procfs::is_alive(daemon.launcher()));
}

/// A file system whose pages may never come, and a file of it.
struct Fuse {
    server: Target,
    directory: String,
    file: String,
}

impl Drop for Fuse {
    fn drop(&mut self) {
        let _ = umount2(self.directory.as_str(), MntFlags::MNT_FORCE | MntFlags::MNT_DETACH);
    }
}

impl Fuse {
    fn start(daemon: &Daemon) -> Self {
        let directory: PathBuf = daemon.scratch().directory_of(&cast().root, "fuse");
        memcr_tests::scratch::set_mode(&directory, 0o755);
        let path = directory.to_str().expect("a path of ours is text").to_owned();
        let server = Target::start(&cast().root, "sample-fuse", &[&path]);
        Self { server, file: format!("{path}/{}", fuse::NAME), directory: path }
    }
}

#[test]
fn code_on_a_file_system_that_does_not_answer_is_no_trap() {
    let daemon = Daemon::start();
    let mut fuse = Fuse::start(&daemon);
    let mut target = hostile(&["maps-code", &fuse.file]);
    assert_eq!(fuse.server.ask("silence"), "silent");
    // it is called like a C library, whose code is looked at first, by a thread that may wait
    let running = daemon.client().start_checkpoint(target.pid());
    let is_waiting = |pid: &i32| procfs::threads(*pid).len() == 2;
    let worker =
        wait::until_some("its worker waits", BOUND, || daemon.workers().into_iter().find(is_waiting));
    // as a freezer of cgroups, or a person at a terminal, may do to it
    for (signal, state) in [(Signal::SIGSTOP, 'T'), (Signal::SIGCONT, 'S')] {
        send(worker, signal);
        let is_so = || procfs::Status::of(worker).is_some_and(|status| status.state() == state);
        wait::until("it is stopped, and waits again", is_so);
    }
    let outcome = running.finish().expect_status(3);
    assert_harmless(&outcome, &mut target);
    outcome.expect_words(&["code", "does not answer"]);
    wait::until("its worker is gone", || daemon.workers().is_empty());
    assert_eq!(fuse.server.ask("answer"), "answering");
    checkpoint(&daemon, target.pid()).expect_status(0);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
}

#[test]
fn a_thread_that_waits_for_a_file_system_that_does_not_answer_is_refused_and_gets_its_page_later() {
    let daemon = Daemon::start();
    let mut fuse = Fuse::start(&daemon);
    assert_eq!(fuse.server.ask("silence"), "silent");
    let mut target = hostile(&["reads", &fuse.file]);
    wait::until("a thread waits for its page", || fuse.server.ask("waiting") != "waiting=0");
    let outcome = checkpoint(&daemon, target.pid()).expect_status(3);
    assert_harmless(&outcome, &mut target);
    outcome.expect_words(&["did not stop"]);
    assert_eq!(fuse.server.ask("answer"), "answering");
    assert_eq!(target.line(), "read 0");
    checkpoint(&daemon, target.pid()).expect_status(0);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
}

#[test]
fn a_thread_that_waits_for_a_seccomp_supervisor_that_does_not_answer_is_refused() {
    let daemon = Daemon::start();
    let mut target = hostile(&["notifies"]);
    let outcome = checkpoint(&daemon, target.pid()).expect_status(3);
    assert_harmless(&outcome, &mut target);
}

#[test]
fn a_process_in_a_frozen_cgroup_is_refused_and_others_are_served_meanwhile() {
    let daemon = Daemon::start();
    let cgroup = Freezer::new("hostile");
    let mut target = Target::start(&cast().target, "sample-memory", &["4"]);
    cgroup.add(target.pid());
    cgroup.freeze();
    let outcome = checkpoint(&daemon, target.pid());
    outcome.expect_status(3).expect_words(&["cgroup is frozen"]);
    cgroup.thaw();
    target.wait_until_awake();
    target.assert_intact();
}

#[test]
fn an_accomplice_that_shares_its_descriptors_and_meddles_with_our_sockets_gains_nothing() {
    let daemon = Daemon::start();
    for (how, rounds) in
        [("replaces", 12), ("closes", 12), ("keeps", 12), ("answers", 12), ("takes-orders", 3)]
    {
        let mut target = hostile(&["meddles", how]);
        let (mut refused, mut sprung, mut round) = (0, 0, 0);
        // on a busy machine it may come too late for a while
        while round < rounds || sprung == 0 {
            let outcome = checkpoint_within(BOUND_OF_SUCCESSORS, &daemon, target.pid());
            if outcome.status == 0 {
                daemon.client().restore(target.pid()).expect_status(0);
                target.assert_intact();
            } else {
                refused += 1;
                assert_harmless(&outcome, &mut target);
            }
            sprung = value(&target.ask("check"), "sprung").parse().expect("a number");
            round += 1;
            assert!(round < 300, "{how}: it came too late each time");
        }
        // whoever else holds the ends of our sockets, the parasite is told when it is to leave
        assert!(how != "keeps" || refused == 0, "{refused} of {round} refused");
        println!("{how}: {refused} of {round} refused, {sprung} times");
    }
    wait::until("all workers are gone", || daemon.workers().is_empty());
}
