//! `--sandbox`: what happens where the kernel lacks a part of what confines memcr. System calls are taken away
//! from it, as on a kernel that never had them.

use memcr_tests::binaries;
use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::procfs::Status;
use memcr_tests::scratch::Scratch;
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use serde_json::{Value, json};
use std::process::{Command, Stdio};

/// Of landlock.
const LANDLOCK: &str = "landlock_create_ruleset";
/// Of seccomp.
const SECCOMP: &str = "seccomp";

/// Puts a process to sleep and wakes it; gives the record of the first.
fn sleep_and_wake(daemon: &Daemon) -> Value {
    let mut target = Target::start(&cast().target, "sample-memory", &["8"]);
    daemon.put_to_sleep(&target);
    daemon.client().restore(target.pid()).expect_status(0);
    target.assert_intact();
    daemon.audit_of(target.pid()).swap_remove(0)
}

fn best_effort() -> Setup {
    Setup::new().arguments(&["--sandbox", "best-effort"])
}

#[test]
fn where_everything_is_there_it_is_strict_without_being_told_so_and_says_that_nothing_is_missing() {
    for setup in [Setup::new(), Setup::new().arguments(&["--sandbox", "strict"])] {
        let daemon = setup.start();
        let start = daemon.start_record();
        assert_eq!((&start["sandbox"], &start["missing"]), (&json!("strict"), &json!([])));
        let sandbox = &sleep_and_wake(&daemon)["sandbox"];
        assert_eq!(sandbox["landlock_full"], true, "{sandbox}");
        assert!(daemon.log().contains("sandbox: strict"), "{}", daemon.log());
    }
}

#[test]
fn where_something_is_missing_it_does_not_start_and_says_what_and_how_to_run_without() {
    for (call, named) in [(LANDLOCK, "landlock"), (SECCOMP, "seccomp")] {
        for words in [&[][..], &["--sandbox", "strict"]] {
            let (status, said) = Setup::new().without_call(call).arguments(words).start_and_fail();
            assert_eq!(status, 4, "{said}");
            assert!(said.contains(named) && said.contains("--sandbox best-effort"), "{said}");
        }
    }
}

#[test]
fn by_best_effort_it_runs_without_landlock_and_says_so_in_log_and_audit() {
    let daemon = best_effort().without_call(LANDLOCK).start();
    let start = daemon.start_record();
    assert_eq!(
        (&start["sandbox"], &start["missing"], &start["landlock"]),
        (&json!("best-effort"), &json!(["landlock"]), &json!("none"))
    );
    assert!(
        daemon.log().contains("the sandbox is not complete: the kernel has no landlock"),
        "{}",
        daemon.log()
    );
    let sandbox = &sleep_and_wake(&daemon)["sandbox"];
    assert_eq!(
        sandbox,
        &json!({"landlock_abi": 0, "landlock_full": false, "seccomp": true, "capabilities_empty": true})
    );
}

#[test]
fn by_best_effort_it_runs_without_seccomp_and_says_so_in_log_and_audit() {
    let daemon = best_effort().without_call(SECCOMP).start();
    let start = daemon.start_record();
    assert_eq!(
        (&start["sandbox"], &start["missing"], &start["seccomp"]),
        (&json!("best-effort"), &json!(["seccomp"]), &json!(false))
    );
    assert!(
        daemon.log().contains("the sandbox is not complete: the kernel has no seccomp"),
        "{}",
        daemon.log()
    );
    // the one that takes the call away
    let filters = |pid| Status::of(pid).expect("a status").number("Seccomp_filters");
    let own = filters(std::process::id() as i32);
    assert_eq!((filters(daemon.pid()), filters(daemon.launcher())), (own + 1, own + 1));
    let sandbox = &sleep_and_wake(&daemon)["sandbox"];
    assert_eq!((&sandbox["seccomp"], &sandbox["landlock_full"]), (&json!(false), &json!(true)));
}

#[test]
fn what_only_launcher_and_workers_lack_counts_too() {
    for (call, named) in [(LANDLOCK, "landlock"), (SECCOMP, "seccomp")] {
        let (status, said) = Setup::new().worker_without_call(call).start_and_fail();
        assert_eq!(status, 4, "{said}");
        assert!(said.contains("launcher ") && said.contains(named), "{said}");
        assert!(said.contains("--sandbox best-effort"), "{said}");
        let daemon = best_effort().worker_without_call(call).start();
        let start = daemon.start_record();
        assert_eq!((&start["missing"], &start["landlock"]), (&json!([named]), &json!("full")));
        sleep_and_wake(&daemon);
    }
}

#[test]
fn a_worker_that_can_not_be_confined_undoes_and_reports_it() {
    for setup in [Setup::new(), best_effort()] {
        let daemon = setup.worker_without_call("landlock_restrict_self").start();
        let mut target = Target::start(&cast().target, "sample-memory", &["8"]);
        let done = daemon.client().checkpoint(target.pid());
        done.expect_status(4);
        let record = daemon.audit_of(target.pid()).swap_remove(0);
        assert_eq!(
            (&record["outcome"], &record["code"]),
            (&json!("failed"), &json!("unsupported")),
            "{record}"
        );
        assert!(record["message"].as_str().expect("a message").contains("landlock"), "{record}");
        target.assert_intact();
        daemon.wait_until_no_image();
    }
}

#[test]
fn one_shot_obeys_the_flag_as_well() {
    let scratch = Scratch::new();
    let mut target = Target::start(&cast().target, "sample-memory", &["8"]);
    let mut shoot = |words: &[&str]| {
        let mut command = Command::new(binaries::path("without-call"));
        command.arg(LANDLOCK).arg(binaries::path("memcr"));
        command.args(["-n", "-p", &target.pid().to_string(), "--user", cast().daemon.name, "-d"]);
        command.arg(scratch.path()).args(words).stdin(Stdio::null());
        let output = command.output().expect("cannot run memcr");
        target.assert_intact();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, said) = shoot(&[]);
    assert_eq!(status, Some(4), "{said}");
    assert!(said.contains("--sandbox best-effort"), "{said}");
    let (status, said) = shoot(&["--sandbox", "best-effort"]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("the sandbox is not complete"), "{said}");
}
