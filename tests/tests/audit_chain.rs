//! The audit log as evidence: its chain over restarts and rotation, what `memcr audit verify` finds, work that is refused when it
//! can't be recorded, and names that try to deceive a reader.

use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::scratch::{Scratch, SmallDisk};
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::{audit, binaries, wait};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A daemon whose log is `audit.log` in a directory of its user's.
fn setup(scratch: &Scratch) -> (Setup, PathBuf) {
    let path = scratch.path().join("log");
    let path =
        if path.exists() { path } else { scratch.directory_of(&cast().daemon, "log") }.join("audit.log");
    let word = path.to_str().expect("UTF-8").to_owned();
    (Setup::new().without_group().without_audit_log().arguments(&["--audit-log", &word]), path)
}

/// What `memcr audit verify` says as JSON, and whether its exit status agrees.
fn verify(words: &[&OsStr]) -> Value {
    let mut command = Command::new(binaries::path("memcr"));
    let output = command.args(["audit", "verify", "--json"]).args(words).output().expect("cannot run memcr");
    let said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(output.status.code(), Some(if said["whole"] == true { 0 } else { 1 }));
    said
}

fn stop(mut daemon: Daemon) {
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_for_end().code(), Some(0));
}

fn wait_for(log: &Path, event: &str) {
    wait::until(&format!("{event} is on record"), || {
        audit::read(log).iter().any(|record| record["event"] == event)
    });
}

/// Takes all the room there is.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).expect("cannot make a file");
    while file.write_all(&[0; 512]).is_ok() {}
}

fn sleeping_target(daemon: &Daemon) -> Target {
    let target = Target::start(&cast().target, "sample-memory", &["4"]);
    daemon.client_of(&cast().target).checkpoint(target.pid()).expect_status(0);
    target
}

#[test]
fn the_chain_goes_on_over_a_restart_and_whatever_is_done_to_the_log_is_found() {
    let scratch = Scratch::new();
    for _ in 0..2 {
        let (setup, _) = setup(&scratch);
        let daemon = setup.start();
        let owner = daemon.client_of(&cast().target);
        let mut target = sleeping_target(&daemon);
        owner.listed();
        owner.restore(target.pid()).expect_status(0);
        target.assert_intact();
        stop(daemon);
    }
    let (_, log) = setup(&scratch);
    let good = verify(&[log.as_os_str()]);
    assert_eq!(
        (&good["whole"], &good["records"], &good["first"]),
        (&true.into(), &10.into(), &1.into()),
        "{good}"
    );
    let text = fs::read_to_string(&log).expect("a log");
    let lines: Vec<&str> = text.lines().collect();
    let forged = |lines: &[&str]| {
        let path = scratch.file("forged", &format!("{}\n", lines.join("\n")));
        let said = verify(&[path.as_os_str()]);
        (said["whole"] == true, said["problems"][0]["line"].as_u64(), said["hash"].clone())
    };
    let other_user = lines[1].replace("\"uid\":", "\"uid\":9");
    assert_ne!(other_user, lines[1]);
    let mut changed = lines.clone();
    changed[1] = &other_user;
    assert!(!forged(&changed).0);
    assert_eq!(forged(&changed).1, Some(3), "the next line shows it");
    let removed = [&lines[..4], &lines[5..]].concat();
    assert_eq!(forged(&removed).1, Some(5));
    let put_in = [&lines[..4], &lines[2..]].concat();
    assert_eq!(forged(&put_in).1, Some(5));
    // what is cut off at the end shows only to who knows the last hash
    let (whole, _, hash) = forged(&lines[..7]);
    assert!(whole && hash != good["hash"]);
    let path = scratch.path().join("forged");
    let expected = good["hash"].as_str().expect("a hash");
    let said = verify(&["--expect".as_ref(), expected.as_ref(), path.as_os_str()]);
    assert_eq!(said["whole"], false, "{said}");
}

#[test]
fn a_rotated_log_is_opened_anew_by_a_confined_daemon_and_both_files_are_one_chain() {
    let scratch = Scratch::new();
    let (setup, log) = setup(&scratch);
    let daemon = setup.start();
    let mut target = sleeping_target(&daemon);
    let old = log.with_extension("log.1");
    fs::rename(&log, &old).expect("cannot rename");
    daemon.signal(Signal::SIGUSR1);
    wait::until("the log is there again", || log.exists());
    daemon.client_of(&cast().target).restore(target.pid()).expect_status(0);
    target.assert_intact();
    let records = audit::read(&log);
    assert_eq!((&records[0]["event"], &records[0]["failure"]), (&"log-reopened".into(), &Value::Null));
    assert!(audit::read(&old).iter().all(|record| record["action"] != "restore"));
    stop(daemon);
    let said = verify(&[old.as_os_str(), log.as_os_str()]);
    assert_eq!((&said["whole"], &said["records"]), (&true.into(), &5.into()), "{said}");
    assert_eq!(verify(&[log.as_os_str(), old.as_os_str()])["whole"], false);
}

#[test]
fn a_log_that_cannot_be_opened_anew_is_written_on_and_says_so() {
    let scratch = Scratch::new();
    let (setup, log) = setup(&scratch);
    let daemon = setup.start();
    let old = log.with_extension("log.1");
    fs::rename(&log, &old).expect("cannot rename");
    std::os::unix::fs::symlink("/etc/passwd", &log).expect("cannot make a link");
    daemon.signal(Signal::SIGUSR1);
    wait_for(&old, "log-reopened");
    let failure = audit::read(&old).last().expect("a record")["failure"].clone();
    assert!(failure.as_str().is_some_and(|failure| failure.contains("symbolic link")), "{failure}");
    stop(daemon);
    assert_eq!(verify(&[old.as_os_str()])["whole"], true);
}

#[test]
fn nothing_is_done_without_a_record_if_that_is_required_and_targets_are_unharmed() {
    let scratch = Scratch::new();
    let place = scratch.directory_of(&cast().daemon, "disk");
    let disk = SmallDisk::at(place, &cast().daemon, "64k");
    let log = disk.path().join("audit.log");
    let words = ["--audit-required", "--audit-log", log.to_str().expect("UTF-8")];
    let daemon = Setup::new().without_group().without_audit_log().arguments(&words).start();
    let owner = daemon.client_of(&cast().target);
    let mut asleep = sleeping_target(&daemon);
    let begun: Vec<_> = audit::read(&log).into_iter().map(|record| record["event"].clone()).collect();
    assert_eq!(begun, ["start", "request-begun", "request"]);
    // no room: not even for what is written of a request that is refused
    let filler = disk.path().join("filler");
    fill(&filler);
    while owner.run(&["--list"]).status == 0 {}
    let mut awake = Target::start(&cast().target, "sample-memory", &["4"]);
    for (target, action) in [(&awake, "-c"), (&asleep, "-r")] {
        let outcome = owner.run(&["-p", &target.pid().to_string(), action]).expect_status(4);
        outcome.expect_words(&["nothing is done without a record"]);
    }
    assert!(awake.is_awake() && !asleep.is_awake());
    awake.assert_intact();
    // room again
    fs::remove_file(&filler).expect("cannot remove");
    owner.restore(asleep.pid()).expect_status(0);
    asleep.assert_intact();
    // there may be half a line where the room ended
    let text = fs::read_to_string(&log).expect("a log");
    let mut records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let gap = records.find(|record| record["event"] == "gap").expect("it says what is missing");
    assert!(gap["missed"].as_u64() > Some(0), "{gap}");
    // whatever the disk is like, the end wakes everybody
    owner.checkpoint(asleep.pid()).expect_status(0);
    fill(&filler);
    while owner.run(&["--list"]).status == 0 {}
    stop(daemon);
    asleep.assert_intact();
    assert_eq!(verify(&[log.as_os_str()])["whole"], true);
}

#[test]
fn a_daemon_that_must_record_and_cannot_does_not_start() {
    let words = ["--audit-required", "--audit-log", "/dev/full"];
    let (status, said) = Setup::new().without_audit_log().arguments(&words).start_and_fail();
    assert_eq!(status, 4, "{said}");
    assert!(said.contains("--audit-required") && said.contains("No space left"), "{said}");
}

#[test]
fn a_name_that_would_deceive_a_reader_is_escaped_and_can_be_read_back() {
    let scratch = Scratch::new();
    let (setup, log) = setup(&scratch);
    let daemon = setup.start();
    let odd: &[u8] = b"x\n{\"event\":\"stop\"}\x1b[2J\x7f\xff\xe2\x80\xaegpj";
    let program = scratch.path().join(OsStr::from_bytes(odd));
    fs::copy(binaries::path("sample-memory"), &program).expect("cannot copy");
    let mut command = cast().target.command(&program);
    command.arg("4");
    let mut target = Target::start_command(command);
    daemon.client_of(&cast().target).checkpoint(target.pid()).expect_status(0);
    daemon.client_of(&cast().target).restore(target.pid()).expect_status(0);
    target.assert_intact();
    stop(daemon);
    let bytes = fs::read(&log).expect("a log");
    let text = String::from_utf8(bytes).expect("all of it is text");
    assert!(
        text.chars()
            .all(|character| character == '\n' || !(character.is_control() || character == '\u{202e}'))
    );
    assert_eq!(text.lines().count(), 4, "{text}");
    let name = audit::read(&log)[1]["target"]["executable"].as_str().expect("a name").to_owned();
    assert!(name.ends_with("x\n{\"event\":\"stop\"}\u{1b}[2J\u{7f}\\xff\u{202e}gpj"), "{name:?}");
}
