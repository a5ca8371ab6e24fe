//! The command lines of production, as they stand, each in a mount and a network namespace of its own: clients
//! of both versions of the original's protocol put a process to sleep and wake it.

use memcr_tests::binaries;
use memcr_tests::scratch::Scratch;
use memcr_tests::users::cast;
use std::process::{Command, Stdio};

/// One request, in bytes of its own: LOCATION VERSION COMMAND PID [DIRECTORY COMPRESSION]; prints the answer.
const WIRE: &str = r#"
import os, socket, struct, sys
location, version, command, pid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
body = struct.pack("=Ii", command, pid)
if version == 2:
    if len(sys.argv) > 5:
        body += struct.pack("=I", 200) + sys.argv[5].encode() + b"\0"
        body += struct.pack("=II", 201, int(sys.argv[6]))
    body = struct.pack("=Ii", 102, len(body)) + body
if location.isdigit():
    client = socket.create_connection(("127.0.0.1", int(location)))
else:
    client = socket.socket(socket.AF_UNIX)
    client.connect(location)
if "HIDDEN" in os.environ:
    # no process of the socket's user has it any more
    os.seteuid(65000)
client.settimeout(30)
client.sendall(body)
print(struct.unpack("=i", client.recv(4))[0])
"#;

/// A machine of its own, as far as it is concerned, and a target of some user.
const MACHINE: &str = r#"
set -eu
programs=$1
cd "$2"
export PATH=$programs:/usr/sbin:/usr/bin:/sbin:/bin
ip link set lo up
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs tmpfs /media
mkdir -p /tmp/memcr /media/apps/memcr
chmod 0777 /tmp/memcr /media/apps/memcr
mkfifo in out
"#;

/// Waits for the daemon.
const READY: &str = r#"
target=
trap 'kill $daemon $target 2>/dev/null; wait $daemon; cat log >&2' EXIT
answers() {
    case $location in
    *[!0-9]*) test -S "$location" ;;
    *) grep -qi ":$(printf '%04x' "$location") 0*:0000 0A" /proc/net/tcp ;;
    esac
}
for try in $(seq 300); do answers && break; sleep 0.1; done
"#;

/// A full sleep by each version.
const SLEEPS: &str = r#"
setpriv $owner -- sample-memory 64 7 <in >out &
target=$!
exec 3>in 4<out
read ready <&4
resident() { awk '/^RssAnon/ { print $2 }' /proc/$target/status; }
sleep_and_wake() {
    version=$1
    shift
    echo "v$version checkpoint: $(setpriv $client -- python3 wire.py "$location" $version 100 $target "$@")"
    echo "again: $(setpriv $client -- python3 wire.py "$location" $version 100 $target)"
    test "$(resident)" -lt 8192 && echo "asleep"
    echo "images: $(find /tmp /media -name 'pages-*.img' | sed "s/$target/PID/")"
    echo "v$version restore: $(setpriv $client -- python3 wire.py "$location" $version 101 $target)"
    echo "again: $(setpriv $client -- python3 wire.py "$location" $version 101 $target)"
    echo check >&3
    read answer <&4
    echo "${answer% *}"
}
sleep_and_wake 1
sleep_and_wake 2 /tmp/memcr 2
"#;

/// A client in a pid namespace of its own, with a target there that has a small number.
const INSIDE: &str = r#"
unshare --pid --fork --kill-child setpriv $client -- sh -c '
    setpriv $1 -- sample-memory 64 7 <in >out &
    echo "number: $(test $! -lt 10 && echo small)"
    echo "hidden: $(HIDDEN=1 python3 wire.py $0 1 100 $!)"
    echo "checkpoint: $(python3 wire.py $0 1 100 $!)"
    echo "hidden: $(HIDDEN=1 python3 wire.py $0 1 101 $!)"
    echo "restore: $(python3 wire.py $0 1 101 $!)"
    wait
' "$location" "$owner" &
target=$!
exec 3>in 4<out
read ready <&4
echo check >&3
read answer <&4
echo "${answer% *}"
exec 3>&-
wait $target
"#;

/// One command line.
struct Line<'a> {
    /// What the shell runs.
    command: &'a str,
    /// Where clients connect.
    location: &'a str,
    /// Who the target is, and who the client, as words for setpriv.
    owner: String,
    client: String,
}

impl Line<'_> {
    /// What came of it, and the daemon's log.
    fn run(&self) -> (String, String) {
        self.run_with(SLEEPS)
    }

    /// The same with other clients than the usual.
    fn run_with(&self, clients: &str) -> (String, String) {
        let scratch = Scratch::new();
        scratch.file("wire.py", WIRE);
        memcr_tests::scratch::set_mode(scratch.path(), 0o755);
        let Self { command, location, owner, client } = self;
        let names = format!("location='{location}'\nowner='{owner}'\nclient='{client}'\n");
        let script = [MACHINE, &names, command, " >log 2>&1 &\ndaemon=$!\n", READY, clients].concat();
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--net", "--propagation", "private", "bash", "-c", &script, "bash"]);
        let output = unshare.arg(binaries::directory()).arg(scratch.path()).stdin(Stdio::null()).output();
        let output = output.expect("cannot run unshare");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (said, errors) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{}:\n{said}\n{errors}", self.command);
        (said, errors)
    }

    /// Both versions, and where the images were meanwhile.
    #[track_caller]
    fn expect_both(&self, images: [&str; 2]) -> String {
        let (said, log) = self.run();
        let expected = |version: u8, image: &str| {
            format!(
                "v{version} checkpoint: 0\nagain: -2\nasleep\nimages: {image}\nv{version} restore: 0\nagain: -2\nintact\n"
            )
        };
        let expected = [expected(1, images[0]), expected(2, images[1])].concat();
        assert_eq!(said, expected, "{}:\n{log}", self.command);
        assert!(!log.contains("worker-replaced"), "{}:\n{log}", self.command);
        log
    }
}

fn user(uid: u32, gid: u32, groups: &str) -> String {
    format!("--reuid={uid} --regid={gid} {groups}")
}

fn root() -> String {
    "--reuid=0".into()
}

#[test]
fn a_port_for_root_with_compression_and_checksums() {
    let target = cast().target;
    let owner = user(target.uid, target.gid, "--clear-groups");
    let line = Line { command: "memcr -zc -l 9000", location: "9000", owner, client: root() };
    let log = line.expect_both(["/tmp/pages-PID.img", "/tmp/pages-PID.img"]);
    assert!(log.contains("127.0.0.1:9000"), "{log}");
    // /tmp/memcr is none of its image directories
    assert!(log.contains("/tmp/memcr"), "{log}");
}

#[test]
fn a_socket_for_a_group_with_the_parasites_socket_in_a_directory() {
    let (target, client) = (cast().target, cast().client);
    let line = Line {
        command: "memcr -zc -l /tmp/memcr/memcr.sock -g 1000 -S /tmp/memcr -G 1000",
        location: "/tmp/memcr/memcr.sock",
        owner: user(target.uid, target.gid, "--groups=1000"),
        client: user(client.uid, client.gid, "--groups=1000"),
    };
    line.expect_both(["/tmp/pages-PID.img", "/tmp/pages-PID.img"]);
}

#[test]
fn two_directories_and_every_option_with_a_preloaded_library() {
    let target = cast().target;
    let line = Line {
        command: "LD_PRELOAD=/usr/lib/libencrypt.so memcr -d \"/media/apps/memcr;/tmp/memcr\" -N \
                  -l /tmp/memcrcom -c -f -z -e -t 20",
        location: "/tmp/memcrcom",
        owner: user(target.uid, target.gid, "--clear-groups"),
        client: root(),
    };
    let log = line.expect_both(["/media/apps/memcr/pages-PID.img", "/tmp/memcr/pages-PID.img"]);
    assert!(log.contains("LD_PRELOAD is set"), "{log}");
}

#[test]
fn an_ordinary_user_with_a_file_capability_and_a_target_of_another() {
    let (daemon, target, client) = (cast().daemon, cast().target, cast().client);
    let group = cast().socket_group;
    let command = format!(
        "cp $programs/memcr $programs/memcr-worker .\nsetcap 'cap_sys_ptrace=ep' ./memcr\n\
         setpriv --reuid={} --regid={} --groups={group} -- ./memcr -l /tmp/memcr.sock -g {group}",
        daemon.uid, daemon.gid
    );
    let line = Line {
        command: &command,
        location: "/tmp/memcr.sock",
        owner: user(target.uid, target.gid, "--clear-groups"),
        client: user(client.uid, client.gid, &format!("--groups={group}")),
    };
    line.expect_both(["/tmp/pages-PID.img", "/tmp/pages-PID.img"]);
}

#[test]
fn over_a_port_a_user_may_act_on_its_own_process_and_on_no_other() {
    let (target, stranger) = (cast().target, cast().stranger);
    let owner = user(target.uid, target.gid, "--clear-groups");
    let line =
        |client: String| Line { command: "memcr -l 9000", location: "9000", owner: owner.clone(), client };
    line(owner.clone()).expect_both(["/tmp/pages-PID.img", "/tmp/pages-PID.img"]);
    let (said, log) = line(user(stranger.uid, stranger.gid, "--clear-groups")).run();
    let denied = |version| {
        format!("v{version} checkpoint: -1\nagain: -1\nimages: \nv{version} restore: -1\nagain: -1\nintact\n")
    };
    assert_eq!(said, [denied(1), denied(2)].concat(), "{log}");
    assert!(log.contains("\"outcome\":\"denied\""), "{log}");
}

#[test]
fn over_a_port_a_number_is_that_in_the_clients_own_pid_namespace_and_none_if_it_hides() {
    let target = cast().target;
    let owner = user(target.uid, target.gid, "--clear-groups");
    let line = Line { command: "memcr -l 9000", location: "9000", owner, client: root() };
    let (said, log) = line.run_with(INSIDE);
    let mut lines: Vec<&str> = said.lines().collect();
    // when the target answers is its own affair
    lines.retain(|line| *line != "intact");
    let expected = ["number: small", "hidden: -1", "checkpoint: 0", "hidden: -1", "restore: 0"];
    assert_eq!((lines, said.contains("intact")), (expected.to_vec(), true), "{log}");
}
