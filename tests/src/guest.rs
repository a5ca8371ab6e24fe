//! What runs in a guest: the core of the end-to-end tests, in a world that has nothing but the kernel and our programs.

use crate::daemon::{Daemon, Setup, send};
use crate::procfs::{self, Snapshot};
use crate::scratch::SmallDisk;
use crate::tampering::assert_altered_memory_never_arrives;
use crate::target::Target;
use crate::users::cast;
use crate::{binaries, wait};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::OnceLock;

/// A case: its name, and what it does.
type Case = (&'static str, fn());

const CASES: [Case; 9] = [
    ("the kernel is looked at", the_kernel_is_looked_at),
    ("strict refuses to be less", strict_refuses_to_be_less),
    ("sleeps and wakes", sleeps_and_wakes),
    ("a denied client gets nothing", a_denied_client_gets_nothing),
    ("a full disk harms nobody", a_full_disk_harms_nobody),
    ("a sleeper survives its worker", a_sleeper_survives_its_worker),
    ("altered memory never arrives", altered_memory_never_arrives),
    ("waits are not cut short", waits_are_not_cut_short),
    ("a hundred cycles leave no difference", a_hundred_cycles_leave_no_difference),
];

/// Runs all cases, and the one that must fail if the kernel's command line asks for it; ends this process.
pub fn run_cases() -> ! {
    let asked = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let control: Case = ("the control, which must fail", || panic!("as it should"));
    let control = asked.split_whitespace().any(|word| word == "memcr.control").then_some(control);
    let mut failed = 0;
    for (name, case) in CASES.into_iter().chain(control) {
        let began = std::time::Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(case));
        failed += usize::from(outcome.is_err());
        let said = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("TEST {name}: {said} ({:.1} s)", began.elapsed().as_secs_f64());
    }
    std::process::exit(i32::from(failed > 0))
}

/// What `memcr --probe` finds, by name.
fn features() -> BTreeMap<String, bool> {
    static FEATURES: OnceLock<BTreeMap<String, bool>> = OnceLock::new();
    let probe = || {
        let output = Command::new(binaries::path("memcr")).args(["--probe", "--json"]).output();
        let output = output.expect("cannot run memcr");
        assert!(output.status.success(), "{output:?}");
        let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let feature =
            |feature: &Value| Some((feature["feature"].as_str()?.to_owned(), feature["found"].as_bool()?));
        let features: BTreeMap<_, _> =
            found["features"].as_array().expect("features").iter().filter_map(feature).collect();
        println!("PROBE page-size {}", found["page_size"]);
        for (name, found) in &features {
            println!("PROBE {name} {}", if *found { "yes" } else { "no" });
        }
        features
    };
    FEATURES.get_or_init(probe).clone()
}

/// Whether the sandbox can be complete.
fn is_complete() -> bool {
    let features = features();
    ["landlock", "seccomp", "open-fdinfo"].iter().all(|name| features[*name])
}

/// A daemon as strict as this kernel lets it be.
fn setup() -> Setup {
    // the fastest cipher on an emulated processor
    let setup = Setup::new().arguments(&["-e=chacha20-poly1305"]);
    if is_complete() { setup } else { setup.arguments(&["--sandbox", "best-effort"]) }
}

/// What was found goes to the console, where it is compared with what this kernel is expected to have; the start record
/// says the same.
fn the_kernel_is_looked_at() {
    let start = setup().start().audit().swap_remove(0);
    for (name, found) in features() {
        assert_eq!(start["features"][&name], found, "{name}");
    }
    assert_eq!(start["missing"] == serde_json::json!([]), is_complete(), "{start}");
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

fn sleeps_and_wakes() {
    let daemon = setup().arguments(&["-z"]).start();
    let mut target = sample("16");
    let before = procfs::rss_anon(target.pid());
    daemon.put_to_sleep(&target);
    let asleep = procfs::rss_anon(target.pid());
    assert!(asleep < before / 4, "{before} bytes before, {asleep} asleep");
    assert_eq!(daemon.client().listed(), [i64::from(target.pid())]);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
    daemon.wait_until_no_image();
    daemon.assert_no_worker_died();
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
    assert!(target.is_awake());
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
        wait::until("its entry disappears", || daemon.client().listed().is_empty());
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
        daemon.put_to_sleep(&target);
        daemon.client().restore(target.pid()).expect_status(0);
        let answer = target.ask("check");
        assert!(answer.starts_with("intact"), "{answer}");
    }
}

fn a_hundred_cycles_leave_no_difference() {
    let daemon = setup().start();
    let mut target = sample("8");
    assert_no_difference(&daemon, &mut target, 100);
    for step in ["attach", "dump", "free", "restore"] {
        let records = daemon.audit_of(target.pid());
        let times = records.iter().filter_map(|record| record["times"][format!("{step}_micros")].as_u64());
        println!("TIME {step}: {} ms for each of 100 sleeps", times.sum::<u64>() / 100_000);
    }
}

/// Puts a target to sleep and wakes it so many times; nothing of it may look otherwise afterwards.
///
/// # Panics
/// When something does.
pub fn assert_no_difference(daemon: &Daemon, target: &mut Target, cycles: u32) {
    target.assert_intact();
    let before = Snapshot::of(target.pid());
    for cycle in 1..=cycles {
        daemon.put_to_sleep(target);
        if cycle % 10 == 1 {
            let asleep = Snapshot::of(target.pid()).without_sleep();
            before.clone().without_sleep().assert_same(&asleep, &format!("asleep, in cycle {cycle}"));
        }
        daemon.client().restore(target.pid()).expect_status(0);
        before.assert_same(&Snapshot::of(target.pid()), &format!("after cycle {cycle}"));
        if cycle % 25 == 0 {
            target.assert_intact();
        }
    }
    daemon.wait_until_no_image();
    assert!(daemon.workers().is_empty(), "workers are left");
}

/// `setpriv --reuid=N --regid=N [--init-groups] -- PROGRAM ...`, with the groups of /etc/group.
pub fn setpriv() -> ! {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let word =
            words.iter().find_map(|word| word.strip_prefix(name)).expect("setpriv: a number is missing");
        word.parse::<u32>().expect("setpriv: not a number")
    };
    let (user, group) = (number("--reuid="), number("--regid="));
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(group));
    let groups: Vec<Gid> = groups_of(user).into_iter().chain([group]).map(Gid::from_raw).collect();
    setgroups(&groups).expect("setpriv: setgroups");
    setresgid(gid, gid, gid).expect("setpriv: setresgid");
    setresuid(uid, uid, uid).expect("setpriv: setresuid");
    let mut command = words.iter().skip_while(|word| *word != "--").skip(1);
    let program = command.next().expect("setpriv: a program is missing");
    let error = Command::new(program).args(command).exec();
    eprintln!("setpriv: {program}: {error}");
    std::process::exit(127)
}

/// Numbers of the groups that name this user as a member.
fn groups_of(user: u32) -> Vec<u32> {
    let (users, groups) =
        ["/etc/passwd", "/etc/group"].map(|path| std::fs::read_to_string(path).unwrap_or_default()).into();
    let field = |line: &str, index: usize| line.split(':').nth(index).unwrap_or_default().to_owned();
    let name = users.lines().find(|line| field(line, 2) == user.to_string()).map(|line| field(line, 0));
    let is_member = |line: &&str| {
        name.as_ref().is_some_and(|name| field(line, 3).split(',').any(|member| member == name))
    };
    groups.lines().filter(is_member).filter_map(|line| field(line, 2).parse().ok()).collect()
}
