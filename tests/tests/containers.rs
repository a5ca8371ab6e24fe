//! Containers: the daemon outside; a client in user, pid, network and mount namespaces of its own, into which
//! only the daemon's socket is mounted; the target in further ones of its own.

use memcr_tests::binaries;
use memcr_tests::daemon::{Daemon, Setup};
use memcr_tests::scratch::Scratch;
use memcr_tests::target::Target;
use memcr_tests::users::{User, cast, required};
use std::process::{Command, Output};

/// What runs in the client's container. The target gets namespaces of its own inside, and is named by its
/// number in the client's.
const MANAGER: &str = r#"
set -eu
mkfifo /tmp/in /tmp/out
unshare --pid --fork --kill-child --net --mount --mount-proc /memcr/sample-memory 8 1 </tmp/in >/tmp/out &
outer=$!
exec 3>/tmp/in 4</tmp/out
read ready <&4
target=$(tr -d ' ' </proc/$outer/task/$outer/children)
test "$(readlink /proc/$target/ns/net)" != "$(readlink /proc/self/ns/net)"
"#;

/// Asks the target whether its memory is what it was.
const CHECK: &str = r#"
echo check >&3
read answer <&4
echo "$answer"
"#;

/// Runs a script as `user` in a container in which nothing of the machine is but its programs and the socket.
fn in_container(daemon: &Daemon, user: &User, script: &str) -> Output {
    let bwrap = required("/usr/bin/bwrap", "bubblewrap");
    let mut command = user.command(bwrap);
    command.args(["--unshare-all", "--uid", "0", "--gid", "0", "--cap-add", "ALL", "--die-with-parent"]);
    for directory in ["/usr", "/bin", "/lib", "/lib64"] {
        command.args(["--ro-bind-try", directory, directory]);
    }
    command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/run"]);
    command.arg("--ro-bind").arg(binaries::directory()).arg("/memcr");
    command.arg("--bind").arg(daemon.socket()).arg("/run/memcr.sock");
    command.args(["--", "/bin/sh", "-c", script]).output().expect("cannot run bwrap")
}

#[track_caller]
fn expect_success(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    said
}

/// Checkpoint and restore by a client in a container, by whatever transport the daemon has.
fn sleep_and_wake(daemon: &Daemon, user: &User) {
    let client = "/memcr/memcr-client -l /run/memcr.sock -p $target";
    let script = [MANAGER, client, " -c\n", client, " --status\n", client, " -r\n", CHECK].concat();
    let said = expect_success(&in_container(daemon, user, &script));
    assert!(said.contains("asleep") && said.contains("intact"), "{said}");
    let requests: Vec<_> = daemon.audit().into_iter().filter(|record| record["event"] == "request").collect();
    let done: Vec<_> = requests.iter().filter(|record| record["outcome"] == "ok").collect();
    assert_eq!(done.len(), 3, "{requests:?}");
    for record in done {
        // judged by the ids of the host, under which the whole container runs
        assert_eq!(record["client"]["uid"], user.uid, "{record}");
        assert_eq!(record["target"]["uid"], user.uid, "{record}");
        assert!(record["target"]["pid"].as_i64().expect("a number") > 100, "{record}");
    }
}

#[test]
fn a_client_in_its_own_namespaces_puts_a_target_in_further_ones_to_sleep_and_wakes_it() {
    let daemon = Setup::new().without_group().start();
    sleep_and_wake(&daemon, &cast().target);
}

/// A network namespace as administrators make them; gone when dropped.
struct NamedNetwork(String);

impl NamedNetwork {
    fn new() -> Self {
        let name = format!("memcr-test-{}", std::process::id());
        ip(&["netns", "add", &name]);
        Self(name)
    }
}

impl Drop for NamedNetwork {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.0]);
    }
}

fn ip(words: &[&str]) {
    let status = Command::new(required("/usr/sbin/ip", "iproute2")).args(words).status();
    assert!(status.is_ok_and(|status| status.success()), "ip {words:?} fails");
}

#[test]
fn a_process_in_a_named_network_sleeps_and_wakes_by_every_transport() {
    let network = NamedNetwork::new();
    let scratch = Scratch::new();
    let sockets = scratch.directory_of(&cast().target, "sockets");
    memcr_tests::scratch::set_mode(&sockets, 0o755);
    let sockets = sockets.to_string_lossy();
    for words in [&[][..], &["-N"], &["-N", "-S", &sockets]] {
        let daemon = Setup::new().arguments(words).start();
        let mut command = Command::new("/usr/sbin/ip");
        command.args(["netns", "exec", &network.0, "setpriv"]);
        command.args([format!("--reuid={}", cast().target.uid), format!("--regid={}", cast().target.gid)]);
        command.args(["--clear-groups", "--"]).arg(binaries::path("sample-memory")).arg("8");
        let mut target = Target::start_command(command);
        let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
        let theirs = std::fs::read_link(format!("/proc/{}/ns/net", target.pid())).expect("a namespace");
        assert_ne!(own, theirs);
        daemon.put_to_sleep(&target);
        daemon.client().restore(target.pid()).expect_status(0);
        target.assert_intact();
        daemon.assert_no_worker_died();
    }
}

#[test]
fn root_in_a_container_is_not_root() {
    let daemon = Setup::new().without_group().start();
    // the daemon's own view: another user's process, of which the container's root knows nothing
    let mut target = Target::start(&cast().stranger, "sample-memory", &["4"]);
    let script = "/memcr/memcr-client -l /run/memcr.sock --list";
    daemon.put_to_sleep_as(&cast().root, &target);
    let said = expect_success(&in_container(&daemon, &cast().target, script));
    assert!(said.contains("nothing sleeps"), "{said}");
    daemon.client_of(&cast().root).restore(target.pid()).expect_status(0);
    target.assert_intact();
}
