//! The audit log as evidence: its chain over restarts and rotation, what `memcr audit verify` finds, work that is refused when it
//! can't be recorded.

use memcr_tests::daemon::{self, Daemon, Setup};
use memcr_tests::scratch::{Scratch, SmallDisk, set_mode};
use memcr_tests::target::Target;
use memcr_tests::users::{User, cast, required};
use memcr_tests::{audit, binaries, wait};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

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

fn append(path: &Path, text: &str) {
    let mut file = fs::File::options().append(true).open(path).expect("a log");
    file.write_all(text.as_bytes()).expect("there is room");
}

/// All records, of a log with half lines.
fn records_of(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).expect("a log");
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
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
        let (setup, log) = setup(&scratch);
        if log.exists() {
            // as a crash leaves it
            append(&log, "{\"schema\":1,\"sequence\":6,\"prev");
        }
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
        (&good["whole"], &good["records"], &good["first"], &good["half_lines"]),
        (&true.into(), &10.into(), &1.into(), &1.into()),
        "{good}"
    );
    let start = &records_of(&log)[5];
    assert_eq!(
        (&start["event"], &start["torn"], &start["log"]),
        (&"start".into(), &true.into(), &"continued".into())
    );
    let text = fs::read_to_string(&log).expect("a log");
    let lines: Vec<&str> = text.lines().filter(|line| line.ends_with('}')).collect();
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
    let mut human = Command::new(binaries::path("memcr"));
    human.args(["audit", "verify"]).arg(scratch.path().join("forged"));
    let human = String::from_utf8(human.output().expect("cannot run memcr").stderr).expect("text");
    assert!(human.contains("line 5: number 3 comes after number 4: it was put in, or moved"), "{human}");
    // in another order, and anything else between them
    assert_eq!(forged(&[&lines[..3], &[lines[4], lines[3]], &lines[5..]].concat()).1, Some(4));
    assert_eq!(forged(&[&lines[..3], &["hello"], &lines[3..]].concat()).1, Some(4));
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
    let gap = records_of(&log)
        .into_iter()
        .find(|record| record["event"] == "gap")
        .expect("it says what is missing");
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

/// A daemon whose standard error is a pipe.
struct Piped(Child);

impl Piped {
    fn start(setup: &Setup) -> Self {
        let mut command = setup.command().0;
        Self(command.stderr(Stdio::piped()).spawn().expect("cannot start a daemon"))
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("a pid is an i32")
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|end| end.is_none()) {
            daemon::send(self.pid(), Signal::SIGTERM);
            let _ = self.0.wait();
        }
    }
}

#[test]
fn a_pipe_that_nobody_reads_any_more_stops_all_work_if_records_are_required() {
    let setup = Setup::new().without_group().without_audit_log().arguments(&["--audit-required"]);
    let socket = setup.scratch().path().join("memcr.sock");
    let mut daemon = Piped::start(&setup);
    wait::until("it listens", || UnixStream::connect(&socket).is_ok());
    let owner = memcr_tests::client::Client::new(&cast().target, &socket);
    let mut asleep = Target::start(&cast().target, "sample-memory", &["4"]);
    let mut awake = Target::start(&cast().target, "sample-memory", &["4"]);
    owner.checkpoint(asleep.pid()).expect_status(0);
    // whoever read the records is gone
    let mut reader = daemon.0.stderr.take().expect("its standard error");
    let mut said = [0; 4096];
    let length = reader.read(&mut said).expect("it has said something");
    assert!(said[..length].starts_with(b"{") || said[..length].contains(&b'{'));
    drop(reader);
    for outcome in [owner.checkpoint(awake.pid()), owner.restore(asleep.pid()), owner.run(&["--list"])] {
        outcome.expect_status(4).expect_words(&["Broken pipe", "nothing is done without a record"]);
    }
    assert!(awake.is_awake() && !asleep.is_awake());
    awake.assert_intact();
    // its end needs no record
    daemon::send(daemon.pid(), Signal::SIGTERM);
    assert_eq!(daemon.0.wait().expect("it ends").code(), Some(0));
    asleep.wait_until_awake();
    asleep.assert_intact();
}

#[test]
fn on_standard_error_the_chain_holds_between_lines_of_the_operational_log() {
    let mut daemon = Setup::new().without_group().without_audit_log().start();
    let mut target = sleeping_target(&daemon);
    daemon.client_of(&cast().target).restore(target.pid()).expect_status(0);
    target.assert_intact();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_for_end().code(), Some(0));
    let log = daemon.scratch().path().join("daemon.log");
    let said = verify(&["--mixed".as_ref(), log.as_os_str()]);
    assert_eq!((&said["whole"], &said["records"]), (&true.into(), &4.into()), "{said}");
    assert_eq!(verify(&[log.as_os_str()])["problems"][0]["reason"], "this is no record");
}

#[test]
fn two_daemons_do_not_share_a_log() {
    let scratch = Scratch::new();
    let (first, log) = setup(&scratch);
    let daemon = first.start();
    let (status, said) = setup(&scratch).0.start_and_fail();
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("another memcr writes to it"), "{said}");
    stop(daemon);
    assert_eq!(verify(&[log.as_os_str()])["records"], 2);
    stop(setup(&scratch).0.start());
    assert_eq!((&verify(&[log.as_os_str()])["whole"], audit::read(&log).len()), (&true.into(), 4));
}

/// doc/deploy/logrotate for a log and a daemon of a test.
fn logrotate_file(log: &Path, daemon: &Daemon, directory_is_roots: bool) -> String {
    let User { name, .. } = cast().daemon;
    let group =
        nix::unistd::Group::from_gid(cast().daemon.gid.into()).expect("groups").expect("a group").name;
    let kill = format!("kill -USR1 {}", daemon.pid());
    let su = if directory_is_roots { String::new() } else { format!("su {name} {group}") };
    let mut text = include_str!("../../doc/deploy/logrotate").to_owned();
    for (there, here) in [
        ("/var/log/memcr/audit.log", log.to_str().expect("UTF-8")),
        ("su memcr memcr", &su),
        ("create 0600 memcr memcr", &format!("create 0600 {name} {group}")),
        ("systemctl kill --kill-whom=main --signal=SIGUSR1 memcr.service", &kill),
    ] {
        assert!(text.contains(there), "doc/deploy/logrotate has no {there}");
        text = text.replace(there, here);
    }
    text
}

#[test]
fn the_file_for_logrotate_rotates_a_log_whose_chain_is_whole_afterwards() {
    for directory_is_roots in [false, true] {
        let scratch = Scratch::new();
        let (setup, log) = setup(&scratch);
        let directory = log.parent().expect("a directory");
        if directory_is_roots {
            chown(directory, Some(0), Some(0)).expect("cannot chown");
            set_mode(directory, 0o755);
        }
        let daemon = setup.start();
        let warned = daemon.log().contains("only if whoever renames it makes the new one");
        assert_eq!(warned, directory_is_roots, "{}", daemon.log());
        let owner = daemon.client_of(&cast().target);
        let rules = scratch.file("logrotate", &logrotate_file(&log, &daemon, directory_is_roots));
        let mut target = sleeping_target(&daemon);
        for _ in 0..2 {
            let mut command = Command::new(required("/usr/sbin/logrotate", "logrotate"));
            command.arg("--force").arg("--state").arg(scratch.path().join("state")).arg(&rules);
            let output = command.output().expect("cannot run logrotate");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            wait_for(&log, "log-reopened");
            owner.listed();
        }
        owner.restore(target.pid()).expect_status(0);
        target.assert_intact();
        stop(daemon);
        let files = ["log.2", "log.1", "log"].map(|extension| log.with_extension(extension));
        let said = verify(&files.each_ref().map(|file| file.as_os_str()));
        assert_eq!((&said["whole"], &said["records"]), (&true.into(), &8.into()), "{said}");
    }
}
