//! SIGHUP: the policy file is read anew, at once for everybody or not at all.

use memcr_policy::SIZE_LIMIT;
use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::scratch::set_mode;
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::{audit, wait};
use nix::sys::signal::Signal;
use std::path::PathBuf;

const ALL: &str = "version = 1\n[[rule]]\nname = 'all'\neffect = 'allow'\nactions = ['checkpoint', 'restore', 'list', 'status']\n";
/// About as many as there is room for.
const RULES: usize = 800;
const NOBODY: &str = "version = 1\n";

fn start() -> (Daemon, PathBuf) {
    let setup = Setup::new().without_group().policy(ALL);
    let file = setup.scratch().path().join("policy.toml");
    (setup.start(), file)
}

/// Has the daemon read it anew; the record of that.
fn hang_up(daemon: &Daemon) -> serde_json::Value {
    let outcomes = |daemon: &Daemon| -> Vec<_> {
        let is_it = |record: &serde_json::Value| {
            record["event"].as_str().is_some_and(|event| event.starts_with("policy-"))
        };
        daemon.audit().into_iter().filter(is_it).collect()
    };
    let before = outcomes(daemon).len();
    daemon.signal(Signal::SIGHUP);
    wait::until("the policy was read anew, or not", || outcomes(daemon).len() > before);
    outcomes(daemon).remove(before)
}

fn sample() -> Target {
    Target::start(&cast().target, "sample-memory", &["4"])
}

#[test]
fn a_new_policy_counts_at_once_for_new_requests_and_for_those_who_sleep_already() {
    let (daemon, file) = start();
    let client = daemon.client_of(&cast().stranger);
    let (mut asleep, mut awake) = (sample(), sample());
    client.checkpoint(asleep.pid()).expect_status(0);
    std::fs::write(&file, NOBODY).expect("cannot write");
    let record = hang_up(&daemon);
    assert_eq!((&record["event"], &record["rules"]), (&"policy-reloaded".into(), &0.into()));
    // the sleeper's worker was forked under the old one
    client.restore(asleep.pid()).expect_status(2).expect_words(&["default: deny"]);
    client.checkpoint(awake.pid()).expect_status(2);
    assert!(client.listed().is_empty());
    awake.assert_intact();
    // a name that it looks up is there
    let user = format!("client = {{ user = '{}' }}\n", cast().stranger.name);
    std::fs::write(&file, format!("{ALL}{user}")).expect("cannot write");
    assert_eq!(hang_up(&daemon)["rules"], 1);
    daemon.client_of(&cast().nobody).restore(asleep.pid()).expect_status(2);
    client.restore(asleep.pid()).expect_status(0);
    asleep.assert_intact();
    client.checkpoint(awake.pid()).expect_status(0);
    client.restore(awake.pid()).expect_status(0);
    awake.assert_intact();
    daemon.assert_no_worker_died();
}

#[test]
fn a_file_that_is_broken_or_that_others_may_write_to_keeps_the_old_policy_and_says_so() {
    let (daemon, file) = start();
    let client = daemon.client_of(&cast().stranger);
    let mut target = sample();
    let mut refused = |what: &str, words: &str| {
        let record = hang_up(&daemon);
        assert_eq!(record["event"], "policy-kept", "{what}: {record}");
        let reason = record["reason"].as_str().expect("a reason");
        assert!(reason.contains(words), "{what}: {reason}");
        assert!(daemon.log().contains(words), "{what}");
        client.checkpoint(target.pid()).expect_status(0);
        client.restore(target.pid()).expect_status(0);
        target.assert_intact();
    };
    std::fs::write(&file, "version = 1\nnonsense = true\n").expect("cannot write");
    refused("broken", "line 2, column 1");
    std::fs::write(&file, NOBODY).expect("cannot write");
    set_mode(&file, 0o666);
    refused("open", "writable by its owner only");
    set_mode(&file, 0o600);
    refused("hidden", "may not read it");
    std::fs::remove_file(&file).expect("cannot remove");
    refused("missing", "No such file");
    std::os::unix::fs::symlink("/etc/passwd", &file).expect("cannot make a link");
    refused("link", "symbolic link");
    std::fs::remove_file(&file).expect("cannot remove");
    std::fs::write(&file, NOBODY).expect("cannot write");
    set_mode(&file, 0o644);
    std::os::unix::fs::chown(&file, Some(cast().stranger.uid), None).expect("cannot give away");
    refused("a stranger's", "of root or of user 0");
}

#[test]
fn a_storm_of_hangups_while_requests_run_harms_nobody_and_the_last_file_counts() {
    let (mut daemon, file) = start();
    let client = daemon.client_of(&cast().stranger);
    let mut targets: Vec<_> = (0..3).map(|_| sample()).collect();
    for round in 0..60 {
        let text = if round % 2 == 0 { format!("{ALL}# {round}\n") } else { ALL.to_owned() };
        // in one step, as an administrator should
        let new = file.with_extension("new");
        std::fs::write(&new, text).expect("cannot write");
        std::fs::rename(&new, &file).expect("cannot rename");
        daemon.signal(Signal::SIGHUP);
        let target = &mut targets[round % 3];
        client.checkpoint(target.pid()).expect_status(0);
        daemon.signal(Signal::SIGHUP);
        client.restore(target.pid()).expect_status(0);
        target.assert_intact();
    }
    std::fs::write(&file, NOBODY).expect("cannot write");
    hang_up(&daemon);
    wait::until("the last file counts", || client.checkpoint(targets[0].pid()).status == 2);
    daemon.assert_no_worker_died();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_for_end().code(), Some(0));
}

#[test]
fn without_a_policy_file_a_hangup_changes_nothing() {
    let daemon = Setup::new().without_group().start();
    let mut target = sample();
    daemon.client_of(&cast().target).checkpoint(target.pid()).expect_status(0);
    daemon.signal(Signal::SIGHUP);
    wait::until("it says so", || daemon.log().contains("no policy file (--policy) to be read anew"));
    assert!(!target.is_awake());
    daemon.client_of(&cast().target).restore(target.pid()).expect_status(0);
    target.assert_intact();
    assert!(
        audit::read(&daemon.scratch().path().join("audit.log"))
            .iter()
            .all(|record| record["event"] != "stop")
    );
}

#[test]
fn the_largest_policy_that_there_may_be_is_read_anew() {
    let (daemon, file) = start();
    let rule =
        |number: usize| format!("[[rule]]\nname = 'rule {number}'\neffect = 'deny'\nactions = ['list']\n");
    let rules: String = (0..RULES).map(rule).collect();
    let text = format!("version = 1\n{rules}#");
    let comment = "x".repeat(SIZE_LIMIT - text.len());
    std::fs::write(&file, text + &comment).expect("cannot write");
    let record = hang_up(&daemon);
    assert_eq!((&record["event"], &record["rules"]), (&"policy-reloaded".into(), &RULES.into()));
    let mut target = sample();
    daemon
        .client_of(&cast().stranger)
        .checkpoint(target.pid())
        .expect_status(2)
        .expect_words(&["default: deny"]);
    target.assert_intact();
}
