//! What can't be done safely is refused, with the reason, and without touching the process.

use memcr_tests::arch::NARROW_PROGRAM;
use memcr_tests::daemon::Daemon;
use memcr_tests::procfs;
use memcr_tests::target::Target;
use memcr_tests::users::{User, cast, required};
use memcr_tests::wait;
use nix::sys::ptrace;
use nix::unistd::Pid;
use rustix::process::{Pid as TargetPid, PidfdFlags, pidfd_open};
use std::process::Child;
use std::time::{Duration, Instant};

/// Expects exit status 3 with a sentence that holds these words.
#[track_caller]
fn assert_refused(daemon: &Daemon, user: &User, pid: i32, words: &[&str]) {
    daemon.client_of(user).checkpoint(pid).expect_status(3).expect_words(words);
}

#[test]
fn a_process_that_another_one_traces_is_refused() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-memory", &["4"]);
    // this very thread becomes its tracer
    ptrace::seize(Pid::from_raw(target.pid()), ptrace::Options::empty()).expect("root may trace");
    assert_refused(&daemon, &cast().client, target.pid(), &["traced"]);
    target.assert_intact();
}

#[test]
fn the_first_process_and_kernel_threads_are_refused() {
    let daemon = Daemon::start();
    assert_refused(&daemon, &cast().root, 1, &["1"]);
    let is_kernel_thread =
        |pid: &i32| procfs::Status::of(*pid).is_some_and(|status| status.field("VmSize").is_empty());
    let kernel_thread =
        procfs::processes().into_iter().skip(1).find(is_kernel_thread).expect("a kernel thread");
    assert_refused(&daemon, &cast().root, kernel_thread, &["kernel"]);
}

#[test]
fn the_daemons_own_processes_are_refused() {
    let daemon = Daemon::start();
    let target = Target::start(&cast().target, "sample-memory", &["4"]);
    let worker = daemon.put_to_sleep(&target);
    let ours = [daemon.pid(), daemon.launcher(), worker];
    for pid in ours {
        assert_refused(&daemon, &cast().root, pid, &["one of memcr's own"]);
    }
    assert_eq!(ours.map(procfs::tracer), [None; 3]);
    assert_eq!(daemon.client().state(target.pid()), "asleep");
    daemon.client().restore(target.pid()).expect_status(0);
}

#[test]
fn memory_that_another_process_shares_is_refused() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-state", &["shares-memory"]);
    let child: i32 = target.fact("child").parse().expect("a pid");
    for pid in [target.pid(), child] {
        assert_refused(&daemon, &cast().client, pid, &["shares its memory"]);
    }
    target.assert_intact();
}

#[test]
fn a_process_in_vfork_is_refused_in_bounded_time_and_runs_on() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-state", &["in-vfork"]);
    wait::until("its child is there", || !procfs::children(target.pid()).is_empty());
    let start = Instant::now();
    assert_refused(&daemon, &cast().client, target.pid(), &["vfork"]);
    // 5 seconds, and time for a busy machine
    assert!(start.elapsed() < Duration::from_secs(20), "refused after {:?}", start.elapsed());
    target.wait_until_awake();
    target.assert_intact();
}

#[test]
fn a_process_that_is_not_dumpable_is_refused() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-state", &["not-dumpable"]);
    assert_refused(&daemon, &cast().client, target.pid(), &["dumpable"]);
    target.assert_intact();
}

#[test]
fn a_process_with_a_filter_of_its_own_is_refused() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-state", &["filtered"]);
    assert_refused(&daemon, &cast().client, target.pid(), &["seccomp"]);
    target.assert_intact();
}

#[test]
fn a_process_with_an_io_uring_is_refused() {
    let daemon = Daemon::start();
    for (state, word) in [("with-registered-buffer", "pinned for the kernel"), ("with-ring", "io_uring")] {
        let mut target = Target::start(&cast().target, "sample-state", &[state]);
        assert_refused(&daemon, &cast().client, target.pid(), &[word]);
        target.assert_intact();
    }
}

#[test]
fn a_process_with_asynchronous_io_is_refused() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-state", &["with-asynchronous-io"]);
    assert_refused(&daemon, &cast().client, target.pid(), &["io_setup"]);
    target.assert_intact();
}

#[test]
fn a_program_for_a_narrower_processor_is_refused_and_runs_on() {
    // processors without such programs have nothing to refuse
    let Some(program) = NARROW_PROGRAM else { return };
    let daemon = Daemon::start();
    let path = daemon.scratch().path().join("narrow");
    std::fs::write(&path, program).expect("cannot write a program");
    memcr_tests::scratch::set_mode(&path, 0o755);
    let mut target = Target::start_command(cast().target.command(path));
    let before = procfs::Snapshot::of(target.pid());
    assert_refused(&daemon, &cast().client, target.pid(), &["word size"]);
    target.wait_until_awake();
    before.assert_same(&procfs::Snapshot::of(target.pid()), "after a refusal");
}

#[test]
fn a_process_that_is_not_there_is_refused() {
    let daemon = Daemon::start();
    for words in [["-c"], ["-r"]] {
        let outcome = daemon.client().run(&[words[0], "-p", "2147483647"]);
        outcome.expect_status(3).expect_words(&["no process"]);
    }
}

#[test]
fn asleep_twice_and_awake_twice_are_refused() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-memory", &["4"]);
    daemon.client().restore(target.pid()).expect_status(3).expect_words(&["asleep"]);
    daemon.put_to_sleep(&target);
    daemon.client().checkpoint(target.pid()).expect_status(3).expect_words(&["asleep"]);
    daemon.client().restore(target.pid()).expect_status(0);
    daemon.client().restore(target.pid()).expect_status(3).expect_words(&["asleep"]);
    target.assert_intact();
}

#[test]
fn a_process_that_sleeps_at_another_daemon_is_refused() {
    let (one, other) = (Daemon::start(), Daemon::start());
    let mut target = Target::start(&cast().target, "sample-memory", &["4"]);
    one.put_to_sleep(&target);
    assert_refused(&other, &cast().client, target.pid(), &["traced"]);
    one.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
}

#[test]
fn a_restore_is_told_when_somebody_else_may_keep_the_process_asleep() {
    let (one, other) = (Daemon::start(), Daemon::start());
    let mut target = Target::start(&cast().target, "sample-memory", &["4"]);
    let worker = one.put_to_sleep(&target);
    let refusal = other.client().restore(target.pid()).expect_status(3);
    refusal.expect_words(&[&format!("process {worker} traces it")]);
    one.client().restore(target.pid()).expect_status(0);
    other.client().restore(target.pid()).expect_status(3).expect_words(&["is not asleep"]);
    target.assert_intact();
    // what /proc tells of a first thread that has ended says nothing of the others
    let mut target = Target::start(&cast().target, "sample-state", &["without-main-thread", "4"]);
    wait::until("the main thread has ended", || {
        procfs::Status::of_thread(target.pid(), target.pid()).is_some_and(|status| status.state() == 'Z')
    });
    other.client().restore(target.pid()).expect_status(3).expect_words(&["is not asleep"]);
    one.client().checkpoint(target.pid()).expect_status(0);
    let refusal = other.client().restore(target.pid()).expect_status(3);
    assert!(!refusal.errors.contains("is not asleep\n"), "{}", refusal.errors);
    one.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
}

#[test]
fn a_pidfd_of_a_dead_process_never_means_the_new_owner_of_its_number() {
    let daemon = Daemon::start();
    let sleep = required("/usr/bin/sleep", "coreutils");
    let dead = Sleep(cast().target.command(sleep).arg("1000").spawn().expect("cannot start sleep"));
    let number = dead.pid();
    let pidfd =
        pidfd_open(TargetPid::from_raw(number).expect("a pid"), PidfdFlags::empty()).expect("a pidfd");
    drop(dead);

    let _reborn = take_number(number);
    let mut connection = memcrclient::Connection::connect(&daemon.socket()).expect("root may connect");
    let refusal = connection.checkpoint(&pidfd, Default::default(), |_| {}).expect_err("it is dead");
    assert!(
        matches!(&refusal, memcrclient::Error::Failed(failure) if failure.code == memcrclient::Code::NoSuchProcess),
        "{refusal}"
    );
    assert_eq!(procfs::tracer(number), None);
    assert!(daemon.client().listed().is_empty());
}

#[test]
fn a_sleeper_that_died_is_not_mistaken_for_the_new_owner_of_its_number() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-memory", &["4"]);
    let number = target.pid();
    daemon.put_to_sleep(&target);
    target.signal(nix::sys::signal::Signal::SIGKILL);
    target.wait_for_end();
    let _reborn = take_number(number);
    wait::until("the daemon notices", || daemon.client().state(number) == "running");
    daemon.client().restore(number).expect_status(3);
    daemon.client().checkpoint(number).expect_status(0);
    daemon.client().restore(number).expect_status(0);
}

/// A process that does nothing; killed when dropped.
struct Sleep(Child);

impl Sleep {
    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("a pid is an i32")
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process with this number, which nobody has.
fn take_number(number: i32) -> Sleep {
    wait::until_some("the number is taken again", wait::BOUND, || {
        let mut command = cast().target.command("/usr/bin/sleep");
        std::fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string())
            .expect("ns_last_pid can be set");
        let sleep = Sleep(command.arg("1000").spawn().expect("cannot start sleep"));
        Some(sleep).filter(|sleep| sleep.pid() == number)
    })
}
