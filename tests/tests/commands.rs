//! The commands as people use them: one shot, arguments, sockets that are in the way.

use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::procfs;
use memcr_tests::scratch::Scratch;
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::{binaries, wait};
use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

fn memcr(words: &[&str]) -> Command {
    let mut command = Command::new(binaries::path("memcr"));
    command.args(words).env_clear().current_dir("/").stdin(Stdio::null());
    command
}

fn run(words: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = memcr(words).output().expect("cannot run memcr");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

#[test]
fn one_shot_waits_for_enter_and_shows_the_memory_before_asleep_and_after() {
    let mut target = Target::start(&cast().target, "sample-memory", &["64"]);
    let scratch = Scratch::new();
    let images = scratch.directory_of(&cast().daemon, "images");
    let mut command = memcr(&["-p", &target.pid().to_string(), "--user", cast().daemon.name, "-d"]);
    command.arg(&images).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("cannot run memcr");
    let mut said = String::new();
    let mut output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
    while !said.contains("press enter to restore") {
        let length = output.read_line(&mut said).expect("memcr says nothing");
        assert!(length > 0, "memcr ended having said: {said}");
    }
    assert!(procfs::tracer(target.pid()).is_some(), "it doesn't sleep");
    assert!(procfs::rss_anon(target.pid()) < 8 << 20);
    child.stdin.take().expect("its input is a pipe").write_all(b"\n").expect("memcr doesn't listen");
    std::io::Read::read_to_string(&mut output, &mut said).expect("memcr says nothing");
    assert_eq!(child.wait().expect("memcr ends").code(), Some(0), "{said}");
    let said = said.to_lowercase();
    assert!(["before", "asleep", "after"].iter().all(|word| said.contains(word)), "{said}");
    target.assert_intact();
}

#[test]
fn what_the_kernel_has_is_shown_as_a_table_and_as_json_and_is_in_the_start_record() {
    let (status, table, errors) = run(&["--probe"]);
    assert_eq!(status, 0, "{errors}");
    let (status, json, errors) = run(&["--probe", "--json"]);
    assert_eq!(status, 0, "{errors}");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["page_size"], procfs::page_size());
    let features = json["features"].as_array().expect("features");
    let start = Daemon::start().start_record();
    for feature in features {
        let name = feature["feature"].as_str().expect("a name");
        let line = table.lines().find(|line| line.starts_with(&format!("{name} "))).expect("a line for each");
        assert_eq!(line.contains("not found"), feature["found"] == false, "{line}");
        assert_eq!(line.contains("instead: "), feature["found"] == false, "{line}");
        assert_eq!(start["features"][name], feature["found"], "{name}");
    }
    assert_eq!(start["features"].as_object().map(serde_json::Map::len), Some(features.len()));
    // the tests need a kernel that has all of the sandbox
    assert!(["seccomp", "landlock", "open-fdinfo"].iter().all(|name| start["features"][name] == true));
    assert_eq!(run(&["--json"]).0, 1);
    assert_eq!(run(&["--probe", "-l", "/nowhere"]).0, 1);
}

#[test]
fn one_shot_without_waiting_wakes_at_once() {
    let mut target = Target::start(&cast().target, "sample-memory", &["16"]);
    let scratch = Scratch::new();
    let (status, said, errors) =
        run(&["-n", "-p", &target.pid().to_string(), "-d", &scratch.path().to_string_lossy()]);
    assert_eq!(status, 0, "{said}{errors}");
    assert!(target.is_awake());
    target.assert_intact();
}

#[test]
fn one_shot_restores_when_it_is_interrupted_or_killed() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let mut target = Target::start(&cast().target, "sample-memory", &["16"]);
        let scratch = Scratch::new();
        let mut command = memcr(&["-p", &target.pid().to_string(), "-d", &scratch.path().to_string_lossy()]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cannot run memcr");
        wait::until("it sleeps", || procfs::rss_anon(target.pid()) < 4 << 20);
        memcr_tests::daemon::send(i32::try_from(child.id()).expect("a pid"), signal);
        child.wait().expect("memcr ends");
        wait::until("it is awake", || target.is_awake());
        target.assert_intact();
    }
}

#[test]
fn one_shot_tells_by_its_exit_status_what_went_wrong() {
    assert_eq!(run(&[]).0, 1);
    assert_eq!(run(&["-p", "0"]).0, 1);
    assert_eq!(run(&["-p", "-1"]).0, 1);
    assert_eq!(run(&["-n", "-p", "1"]).0, 3);
    assert_eq!(run(&["-n", "-p", "2147483647"]).0, 3);
    for (option, place) in [
        ("-d", "image directory /no/such/place (-d)"),
        ("--audit-log", "audit log /no/such/place (--audit-log)"),
        ("--policy", "policy file /no/such/place (--policy)"),
        ("--worker", "program /no/such/place (--worker)"),
    ] {
        let (status, _, said) = run(&["-n", "-p", "1", option, "/no/such/place"]);
        assert!(status == 1 && said.contains(place), "{said}");
    }
    for word in ["-h", "-V", "--help", "--version"] {
        let (status, said, _) = run(&[word]);
        assert!(status == 0 && said.contains("memcr"), "{word}: {said}");
    }
}

#[test]
fn a_file_that_is_no_socket_is_never_removed() {
    let setup = Setup::new();
    let path = setup.scratch().file("memcr.sock", "precious");
    let (mut command, _) = setup.command();
    let output = command.output().expect("cannot run memcr");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&*path.to_string_lossy()), "{said}");
    assert_eq!(std::fs::read_to_string(path).expect("the file is still there"), "precious");
}

#[test]
fn a_socket_that_a_dead_daemon_left_is_replaced_and_one_that_is_alive_is_not() {
    let scratch = Scratch::new();
    let images = scratch.directory_of(&cast().daemon, "images");
    let path = scratch.path().join("memcr.sock");
    let words =
        ["-l", &path.to_string_lossy(), "-d", &images.to_string_lossy(), "--user", cast().daemon.name];
    // the second one finds what the first, killed, left behind
    for _ in 0..2 {
        let mut daemon = memcr(&words).stderr(Stdio::null()).spawn().expect("cannot run memcr");
        let client = memcr_tests::client::Client::new(&cast().root, &path);
        wait::until("it answers", || client.run(&["--list"]).status == 0);
        let (status, _, said) = run(&words);
        assert_eq!(status, 4, "{said}");
        assert_eq!(client.run(&["--list"]).status, 0, "the second daemon took the socket of the first");
        daemon.kill().and_then(|()| daemon.wait()).expect("cannot kill memcr");
    }
}

#[test]
fn the_client_shows_a_table_and_does_both_at_once() {
    let daemon = Daemon::start();
    let mut target = Target::start(&cast().target, "sample-memory", &["8"]);
    let pid = target.pid().to_string();
    let both = daemon.client().run(&["-c", "-r", "-p", &pid]).expect_status(0);
    assert!(both.output.contains("sleeps") && both.output.contains("runs"), "{}", both.output);
    assert_eq!(both.errors, "", "progress is shown though nobody looks");
    daemon.put_to_sleep(&target);
    let table = daemon.client().run(&["--list"]).expect_status(0).output;
    let row = table.lines().find(|line| line.starts_with(&pid)).unwrap_or_else(|| panic!("no row: {table}"));
    assert!(row.contains("asleep") && row.contains("sample-memory") && row.contains("full"), "{row}");
    daemon.client().run(&["-r", "-p", &pid]).expect_status(0);
    target.assert_intact();
}

#[test]
fn a_daemon_without_the_capability_says_what_to_do() {
    let scratch = Scratch::new();
    let place = scratch.directory_of(&cast().stranger, "own");
    let mut command = cast().stranger.command(binaries::path("memcr"));
    let output =
        command.arg("-l").arg(place.join("s")).arg("-d").arg(&place).output().expect("cannot run memcr");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.to_lowercase().contains("cap_sys_ptrace"), "{said}");
    assert!(!said.contains("can be put to sleep"), "it says first that it would do: {said}");
}

#[test]
fn one_shot_on_a_terminal_leaves_its_records_there_one_on_a_line() {
    let mut target = Target::start(&cast().target, "sample-memory", &["16"]);
    let scratch = Scratch::new();
    let words = format!("-n -p {} -d {}", target.pid(), scratch.path().display());
    // a terminal of its own
    let script = memcr_tests::users::required("/usr/bin/script", "bsdutils");
    let mut command = Command::new(script);
    command.args(["-qefc", &format!("{} {words}", binaries::path("memcr").display()), "/dev/null"]);
    let output = command.stdin(Stdio::null()).output().expect("cannot run script");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("is awake"), "{said}");
    let lines = said.lines().filter_map(|line| line.rsplit("\x1b[K").next());
    let records: Vec<serde_json::Value> =
        lines.filter_map(|line| serde_json::from_str(line.trim_end()).ok()).collect();
    let of = |action: &str| records.iter().filter(|record| record["action"] == action).count();
    assert_eq!((of("checkpoint"), of("restore")), (1, 1), "{said}");
    target.assert_intact();
}
