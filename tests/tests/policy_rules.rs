//! What the policy can ask about client and target beyond ids, and what a rule can limit, judged by the worker: also at a restore, when
//! it can open nothing and asks the launcher.

use memcr_tests::binaries;
use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::namespace::PidNamespace;
use memcr_tests::scratch::{Scratch, set_mode};
use memcr_tests::target::Target;
use memcr_tests::users::{User, cast};
use std::path::{Path, PathBuf};
use std::process::Command;

fn start(rules: &str) -> Daemon {
    Setup::new().without_group().policy(&format!("version = 1\n{rules}")).start()
}

fn sample(user: &User) -> Target {
    Target::start(user, "sample-memory", &["4"])
}

/// One rule that allows all with these conditions.
fn allows(name: &str, conditions: &str) -> String {
    let actions = "['checkpoint', 'restore', 'list', 'status']";
    format!("[[rule]]\nname = '{name}'\neffect = 'allow'\nactions = {actions}\n{conditions}\n")
}

/// A copy of the client by another name.
fn other_client(scratch: &Scratch) -> PathBuf {
    let path = scratch.path().join("other-client");
    std::fs::copy(binaries::path("memcr-client"), &path).expect("cannot copy");
    set_mode(&path, 0o755);
    path
}

/// Runs a client program as a user; its exit status.
fn ask(program: &Path, user: &User, daemon: &Daemon, words: &[&str]) -> i32 {
    let mut command = user.command(program);
    let output = command.arg("-l").arg(daemon.socket()).args(words).output().expect("cannot run a client");
    output.status.code().expect("it exits")
}

#[test]
fn a_client_is_known_by_its_program_at_checkpoint_and_at_restore() {
    let scratch = Scratch::new();
    let (usual, other) = (binaries::path("memcr-client"), other_client(&scratch));
    let daemon = start(&allows("by program", &format!("client = {{ executable = '{}' }}", usual.display())));
    let mut target = sample(&cast().target);
    let pid = target.pid().to_string();
    let user = &cast().stranger;
    assert_eq!(ask(&other, user, &daemon, &["-p", &pid, "-c"]), 2);
    assert_eq!(ask(&usual, user, &daemon, &["-p", &pid, "-c"]), 0);
    // the worker is confined by now, and has to ask
    assert_eq!(ask(&other, user, &daemon, &["-p", &pid, "-r"]), 2);
    assert!(!target.is_awake());
    assert_eq!(ask(&usual, user, &daemon, &["-p", &pid, "-r"]), 0);
    target.assert_intact();
    daemon.assert_no_worker_died();
}

#[test]
fn a_client_whose_program_is_denied_is_denied_though_its_user_may() {
    let scratch = Scratch::new();
    let (usual, other) = (binaries::path("memcr-client"), other_client(&scratch));
    let deny = format!(
        "[[rule]]\nname = 'not this one'\neffect = 'deny'\nactions = ['restore']\nclient = {{ executable = '{}' }}\n",
        other.display()
    );
    let daemon = start(&(deny + &allows("all", "")));
    let mut target = sample(&cast().target);
    let pid = target.pid().to_string();
    assert_eq!(ask(&other, &cast().stranger, &daemon, &["-p", &pid, "-c"]), 0);
    assert_eq!(ask(&other, &cast().stranger, &daemon, &["-p", &pid, "-r"]), 2);
    assert_eq!(ask(&usual, &cast().stranger, &daemon, &["-p", &pid, "-r"]), 0);
    target.assert_intact();
}

#[test]
fn a_target_must_be_in_the_pid_namespace_of_its_client_if_a_rule_says_so() {
    let daemon = start(&allows("own namespace", "target = { pid_namespace = 'same' }"));
    let inside = PidNamespace::new();
    let mut command = cast().target.command(binaries::path("sample-memory"));
    command.arg("4");
    let mut there = inside.start(command);
    let mut here = sample(&cast().target);
    let client = daemon.client_of(&cast().stranger);
    client.checkpoint(there.pid()).expect_status(2);
    client.checkpoint(here.pid()).expect_status(0);
    client.restore(here.pid()).expect_status(0);
    here.assert_intact();
    there.assert_intact();
    // one of that namespace may
    let script = format!(
        "{client} -l {socket} -p $1 -c && {client} -l {socket} -p $1 -r",
        client = binaries::path("memcr-client").display(),
        socket = daemon.socket().display()
    );
    let number = memcr_tests::wire::number_inside(there.pid()).to_string();
    let mut command = cast().stranger.command("/bin/sh");
    command.args(["-c", &format!("({script}) >/dev/null; echo ready status=$?; read line"), "sh", &number]);
    let client = inside.start(command);
    assert_eq!(client.fact("status"), "0");
    there.assert_intact();
}

#[test]
fn a_target_in_another_user_namespace_is_none_for_a_rule_that_asks_for_the_same() {
    let daemon = start(&allows("own namespace", "target = { user_namespace = 'same' }"));
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--"]).arg(binaries::path("sample-memory")).arg("4");
    let mut there = Target::start_command(command);
    let mut here = sample(&cast().target);
    let client = daemon.client_of(&cast().stranger);
    client.checkpoint(there.pid()).expect_status(2);
    client.checkpoint(here.pid()).expect_status(0);
    client.restore(here.pid()).expect_status(0);
    here.assert_intact();
    there.assert_intact();
}

#[test]
fn a_client_in_a_user_namespace_of_its_own_is_judged_by_its_number_on_this_machine() {
    let uid = cast().stranger.uid;
    let daemon = start(&allows("by range", &format!("client = {{ uid = '{uid}-{uid}' }}")));
    let mut target = sample(&cast().target);
    // it sees itself as root there
    let mut command = cast().stranger.command("/usr/bin/unshare");
    command
        .args(["--user", "--map-root-user", "--net", "--ipc", "--mount"])
        .arg(binaries::path("memcr-client"));
    command.arg("-l").arg(daemon.socket()).args(["-p", &target.pid().to_string(), "-c"]);
    assert!(command.status().expect("cannot run unshare").success());
    daemon.client_of(&cast().nobody).restore(target.pid()).expect_status(2);
    daemon.client_of(&cast().stranger).restore(target.pid()).expect_status(0);
    target.assert_intact();
    let record = daemon.audit_of(target.pid()).remove(0);
    assert_eq!(record["client"]["uid"], uid, "{record}");
}

#[test]
fn a_rule_lets_so_many_sleep_at_once_and_so_large_ones() {
    let daemon = start(&allows("few and small", "limits = { asleep = 2, size = '16M' }"));
    let client = daemon.client_of(&cast().stranger);
    let mut targets: Vec<_> = (0..3).map(|_| sample(&cast().target)).collect();
    let mut large = Target::start(&cast().target, "sample-memory", &["32"]);
    client.checkpoint(large.pid()).expect_status(4).expect_words(&["bytes of memory", "few and small"]);
    large.assert_intact();
    for target in &targets[..2] {
        client.checkpoint(target.pid()).expect_status(0);
    }
    client.checkpoint(targets[2].pid()).expect_status(4).expect_words(&["2 processes sleep", "wake one"]);
    targets[2].assert_intact();
    // a place is free again once one is awake
    client.restore(targets[0].pid()).expect_status(0);
    client.checkpoint(targets[2].pid()).expect_status(0);
    for target in &mut targets[1..] {
        client.restore(target.pid()).expect_status(0);
        target.assert_intact();
    }
    let codes: Vec<_> = daemon
        .audit()
        .into_iter()
        .filter(|record| record["outcome"] == "failed")
        .map(|record| record["code"].clone())
        .collect();
    assert_eq!(codes, ["limit", "limit"]);
}

/// As sha256sum(1) shows it.
fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().expect("cannot run sha256sum");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.split_whitespace().next().expect("a hash").to_owned()
}

#[test]
fn a_target_is_known_by_the_contents_of_its_program_whatever_its_path() {
    let scratch = Scratch::new();
    let genuine = binaries::path("sample-memory");
    let daemon = start(&allows("this version", &format!("target = {{ sha256 = '{}' }}", sha256(&genuine))));
    let client = daemon.client_of(&cast().stranger);
    // the same contents at another path, and another program at that
    let copy = |name: &str, appended: &[u8]| {
        let path = scratch.path().join(name);
        let bytes = std::fs::read(&genuine).expect("cannot read");
        std::fs::write(&path, [&bytes, appended].concat()).expect("cannot write");
        set_mode(&path, 0o755);
        let mut command = cast().target.command(&path);
        command.arg("4");
        Target::start_command(command)
    };
    let (mut same, mut other) = (copy("same", b""), copy("other", b"x"));
    client.checkpoint(other.pid()).expect_status(2);
    other.assert_intact();
    client.checkpoint(same.pid()).expect_status(0);
    // what was known of it then is known at the restore
    client.restore(same.pid()).expect_status(0);
    same.assert_intact();
    daemon.assert_no_worker_died();
}
