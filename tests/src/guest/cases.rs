//! The cases.

use super::features::{features, is_complete};
use super::without_device::WithoutDevice;
use crate::arch::NARROW_PROGRAM;
use crate::daemon::{Daemon, Setup, send};
use crate::procfs::{self, Snapshot};
use crate::scratch::{SmallDisk, set_mode};
use crate::tampering::assert_altered_memory_never_arrives;
use crate::target::Target;
use crate::users::cast;
use crate::{lone, wait};
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};

/// A case: its name, and what it does.
type Case = (&'static str, fn());

const CASES: [Case; 17] = [
    ("the kernel is looked at", the_kernel_is_looked_at),
    ("strict refuses to be less", strict_refuses_to_be_less),
    ("guarded sleeps and wakes", guarded_sleeps_and_wakes),
    ("without the full guard it dies with its worker", without_the_full_guard_it_dies_with_its_worker),
    ("a program of another word size is refused", a_program_of_another_word_size_is_refused),
    ("registers are kept", registers_are_kept),
    ("restartable sequences are kept", restartable_sequences_are_kept),
    ("a denied client gets nothing", a_denied_client_gets_nothing),
    ("a full disk harms nobody", a_full_disk_harms_nobody),
    ("a sleeper survives its worker", a_sleeper_survives_its_worker),
    ("altered memory never arrives", altered_memory_never_arrives),
    ("waits are not cut short", waits_are_not_cut_short),
    ("waits of a lone thread end in time", waits_of_a_lone_thread_end_in_time),
    ("signals that came asleep end waits", signals_that_came_asleep_end_waits),
    ("a stopped process stays stopped", a_stopped_process_stays_stopped),
    ("lone threads survive workers that die at work", lone_threads_survive_workers_that_die_at_work),
    ("a hundred cycles leave no difference", a_hundred_cycles_leave_no_difference),
];

/// Runs all cases, and the one that must fail if the kernel's command line asks for it (`memcr.control`); or those with a word in their
/// names (`memcr.only=WORD`). Ends this process.
pub fn run_cases() -> ! {
    let asked = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let only = asked.split_whitespace().find_map(|word| word.strip_prefix("memcr.only=")).unwrap_or_default();
    let control: Case = ("the control, which must fail", || panic!("as it should"));
    let control = asked.split_whitespace().any(|word| word == "memcr.control").then_some(control);
    let mut failed = 0;
    for (name, case) in CASES.into_iter().chain(control).filter(|(name, _)| name.contains(only)) {
        let began = std::time::Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(case));
        failed += usize::from(outcome.is_err());
        let said = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("TEST {name}: {said} ({:.1} s)", began.elapsed().as_secs_f64());
    }
    std::process::exit(i32::from(failed > 0))
}

/// A daemon as strict as this kernel lets it be.
fn setup() -> Setup {
    // the fastest cipher on an emulated processor
    let setup = Setup::new().arguments(&["-e", "chacha20-poly1305"]);
    if is_complete() { setup } else { setup.arguments(&["--sandbox", "best-effort"]) }
}

/// What was found goes to the console, where it is compared with what this kernel is expected to have; the start record
/// says the same.
fn the_kernel_is_looked_at() {
    let daemon = setup().start();
    let start = daemon.start_record();
    for (name, found) in features() {
        assert_eq!(start["features"][&name], found, "{name}");
    }
    for fact in ["sandbox", "guard"] {
        println!("PROBE {fact} {}", start[fact].as_str().expect("a text"));
    }
    println!("PROBE vdso {}", if has_vdso() { "yes" } else { "no" });
    assert_eq!(start["missing"] == serde_json::json!([]), is_complete(), "{start}");
}

/// Whether the kernel gives code of its own to programs. Without it a system call instruction is looked for in theirs.
fn has_vdso() -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("mappings");
    maps.lines().any(|line| line.ends_with("[vdso]"))
}

fn strict_refuses_to_be_less() {
    match Setup::new().try_start() {
        Ok(_) => assert!(is_complete(), "strict runs with less"),
        Err(said) => {
            assert!(!is_complete(), "{said}");
            assert!(said.contains("--sandbox best-effort"), "{said}");
        }
    }
}

fn sample(mib: &str) -> Target {
    Target::start(&cast().target, "sample-memory", &[mib, "7", "3"])
}

/// Whether this kernel lets any target have a guard that outlives its worker.
fn has_full_guard() -> bool {
    ["userfaultfd-device", "userfaultfd-for-all"].iter().any(|name| features()[*name])
}

fn guarded_sleeps_and_wakes() {
    assert!(has_full_guard(), "no sleeper would survive its worker here");
    let daemon = setup().arguments(&["-z"]).start();
    let mut target = sample("16");
    let before = procfs::rss_anon(target.pid());
    let report = daemon.client().checkpoint(target.pid()).expect_status(0);
    assert_eq!(report.json()["report"]["guard"], "full");
    let asleep = procfs::rss_anon(target.pid());
    assert!(asleep < before / 4, "{before} bytes before, {asleep} asleep");
    assert_eq!(daemon.client().listed(), [i64::from(target.pid())]);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
    daemon.wait_until_no_image();
    daemon.assert_no_worker_died();
}

/// Where there is no guard at all then, nobody can sleep.
fn without_the_full_guard_it_dies_with_its_worker() {
    let _without = WithoutDevice::begin();
    let daemon = setup().start();
    assert_eq!(daemon.start_record()["guard"], "exit-kill");
    let mut target = sample("8");
    let report = daemon.client().checkpoint(target.pid());
    if !features()["userfaultfd-user-mode-only"] {
        report.expect_status(3).expect_words(&["userfaultfd"]);
        target.assert_intact();
        return;
    }
    assert_eq!(report.expect_status(0).json()["report"]["guard"], "exit-kill");
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
    let worker = daemon.put_to_sleep(&target);
    send(worker, Signal::SIGKILL);
    assert_eq!(target.wait_for_end().signal(), Some(Signal::SIGKILL as i32));
    daemon.wait_until_no_image();
}

/// Programs of 32 bits, which a kernel of 64 bits may run.
fn a_program_of_another_word_size_is_refused() {
    let Some(program) = NARROW_PROGRAM else { return };
    let daemon = setup().start();
    let path = daemon.scratch().path().join("narrow");
    std::fs::write(&path, program).expect("cannot write a program");
    set_mode(&path, 0o755);
    let tried = Command::new(&path).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let runs = tried.as_ref().map_or_else(|error| error.raw_os_error() != Some(libc::ENOEXEC), |_| true);
    if let Ok(mut child) = tried {
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
    println!("PROBE programs-of-32-bits {}", if runs { "yes" } else { "no" });
    if !runs {
        return;
    }
    let mut target = Target::start_command(cast().target.command(path));
    daemon.client().checkpoint(target.pid()).expect_status(3).expect_words(&["word size"]);
    target.wait_until_awake();
}

/// Threads that never wait, all of whose work is in registers: one that works for memcr, and some that don't.
fn registers_are_kept() {
    let daemon = setup().start();
    for (sample, arguments, times) in [("sample-lone", "2", 8), ("sample-threads", "3", 3)] {
        let mut target = Target::start(&cast().target, sample, &[arguments]);
        for _ in 0..times {
            lone::sleep_once(&daemon, &target, || {});
            target.assert_intact();
        }
    }
}

/// The kernel writes to their area whenever the thread goes on. Where it doesn't tell where that is, one that is not where C libraries
/// have it is found out.
fn restartable_sequences_are_kept() {
    let daemon = setup().start();
    let mut target = lone::with_sequences("4");
    let report = daemon.client().checkpoint(target.pid());
    if features()["rseq-configuration"] {
        report.expect_status(0);
        daemon.client().restore(target.pid()).expect_status(0);
    } else {
        report.expect_status(3).expect_words(&["restartable sequences", "Linux 5.13"]);
    }
    target.assert_intact();
}

fn a_denied_client_gets_nothing() {
    let daemon = setup().without_group().start();
    let mut target = sample("4");
    daemon.client_of(&cast().stranger).checkpoint(target.pid()).expect_status(2);
    assert!(target.is_awake());
    target.assert_intact();
    assert!(daemon.audit_of(target.pid()).iter().any(|record| record["outcome"] == "denied"));
}

fn a_full_disk_harms_nobody() {
    let setup = setup();
    let disk = SmallDisk::at(setup.scratch().directory_of(&cast().daemon, "small"), &cast().daemon, "2m");
    let daemon = setup.images(disk.path()).start();
    let mut target = sample("16");
    daemon.client().checkpoint(target.pid()).expect_status(4).expect_words(&["no space left"]);
    target.wait_until_awake();
    target.assert_intact();
    daemon.wait_until_no_image();
}

fn a_sleeper_survives_its_worker() {
    let daemon = setup().start();
    let mut target = sample("8");
    for _ in 0..3 {
        let worker = daemon.put_to_sleep(&target);
        send(worker, Signal::SIGKILL);
        target.wait_until_awake();
        target.assert_intact();
        wait::until("its entry disappears, and the worker that woke it", || lone::is_idle(&daemon));
    }
    daemon.wait_until_no_image();
}

fn altered_memory_never_arrives() {
    assert_altered_memory_never_arrives(&setup().start());
}

/// All threads wait in calls that have a time limit, and find out how they ended.
fn waits_are_not_cut_short() {
    let daemon = setup().start();
    let mut target = Target::start(&cast().target, "sample-waits", &["1000"]);
    for _ in 0..4 {
        lone::sleep_once(&daemon, &target, || {});
        let answer = target.ask("check");
        assert!(answer.starts_with("intact"), "{answer}");
    }
}

fn waits_of_a_lone_thread_end_in_time() {
    lone::assert_waits_end_in_time(&setup().start());
}

fn signals_that_came_asleep_end_waits() {
    let daemon = setup().start();
    lone::assert_signals_end_waits(&daemon);
    lone::assert_one_signal_ends_one_wait(&daemon);
}

fn a_stopped_process_stays_stopped() {
    let daemon = setup().start();
    lone::assert_stopped_stays_stopped(&daemon);
    lone::assert_stopped_does_nothing(&daemon);
}

/// A checkpoint takes about a third of a second on an emulated processor.
fn lone_threads_survive_workers_that_die_at_work() {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    lone::assert_lone_threads_survive_workers(
        &setup().start(),
        6,
        500,
        seed.map_or(1, |time| time.as_nanos() as u64),
    );
}

/// Of memory that compresses well, since emulated processors take long for each byte that is encrypted; what doesn't is
/// for other cases.
fn a_hundred_cycles_leave_no_difference() {
    let daemon = setup().arguments(&["-z"]).start();
    let mut target = Target::start(&cast().target, "sample-memory", &["8", "7", "3", "plain"]);
    assert_no_difference(&daemon, &mut target, 100);
    for step in ["attach", "dump", "free", "restore"] {
        let records = daemon.audit_of(target.pid());
        let times = records.iter().filter_map(|record| record["times"][format!("{step}_micros")].as_u64());
        println!("TIME {step}: {} ms for each of 100 sleeps", times.sum::<u64>() / 100_000);
    }
}

/// Puts a target to sleep and wakes it so many times, asked by one client (it takes long to start programs on emulated processors);
/// nothing of it may look otherwise afterwards.
///
/// # Panics
/// When something does.
pub fn assert_no_difference(daemon: &Daemon, target: &mut Target, cycles: u32) {
    let mut client = memcrclient::Connection::connect(&daemon.socket()).expect("root may connect");
    let pidfd = memcrclient::open_target(target.pid()).expect("it is there");
    target.assert_intact();
    let before = Snapshot::of(target.pid());
    for cycle in 1..=cycles {
        client.checkpoint(&pidfd, Default::default(), |_| {}).expect("it sleeps");
        if cycle % 10 == 1 {
            let asleep = Snapshot::of(target.pid()).without_sleep();
            before.clone().without_sleep().assert_same(&asleep, &format!("asleep, in cycle {cycle}"));
        }
        client.restore(&pidfd, |_| {}).expect("it wakes");
        // a thread that has entered its call again is traced until its worker ends
        wait::until("its worker has ended", || daemon.workers().is_empty());
        before.assert_same(&Snapshot::of(target.pid()), &format!("after cycle {cycle}"));
        if cycle % 25 == 0 {
            target.assert_intact();
        }
    }
    daemon.wait_until_no_image();
    assert!(daemon.workers().is_empty(), "workers are left");
}
