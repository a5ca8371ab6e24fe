//! doc/deploy/systemd: the units are what systemd takes them for, their exposure is small, and memcr serves on a socket that a
//! service manager passes on.

use memcr_tests::binaries;
use memcr_tests::scratch::Scratch;
use memcr_tests::wait;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// systemd's measure, of 10; less is better.
const EXPOSURE: f64 = 1.5;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../doc/deploy/systemd")
}

/// What a program of systemd says, which must be there.
fn said(program: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(arguments).current_dir(folder()).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program} (Debian's package systemd): {error}"));
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.success(), text.concat())
}

#[test]
fn the_exposure_of_the_service_is_at_most_one_and_a_half() {
    let (_, text) = said("systemd-analyze", &["security", "--offline=yes", "--no-pager", "./memcr.service"]);
    let line = text.lines().last().unwrap_or_default();
    let figure = line.split_whitespace().find_map(|word| word.parse::<f64>().ok());
    let figure = figure.unwrap_or_else(|| panic!("no figure: {text}"));
    assert!(figure <= EXPOSURE, "{line}");
    // what it doesn't know it would leave out, and count for nothing
    assert!(!text.contains("ignoring"), "{text}");
}

#[test]
fn users_and_files_are_described_as_systemd_understands_it() {
    let scratch = Scratch::new();
    let root = format!("--root={}", scratch.path().display());
    for (file, place) in [
        ("memcr.sysusers", "usr/lib/sysusers.d/memcr.conf"),
        ("memcr.tmpfiles", "usr/lib/tmpfiles.d/memcr.conf"),
        ("policy.toml", "usr/share/memcr/policy.toml"),
    ] {
        let place = scratch.path().join(place);
        std::fs::create_dir_all(place.parent().expect("a directory")).expect("cannot make a directory");
        std::fs::copy(folder().join(file), place).expect("cannot copy");
    }
    std::fs::create_dir(scratch.path().join("etc")).expect("cannot make a directory");
    let (good, text) = said("systemd-sysusers", &[&root]);
    assert!(good, "{text}");
    let group = std::fs::read_to_string(scratch.path().join("etc/group")).expect("it makes groups");
    assert!(group.contains("memcr-clients:x:") && group.contains(":memcr\n"), "{group}");
    let (good, text) = said("systemd-tmpfiles", &[&root, "--create"]);
    assert!(good, "{text}");
    let policy = scratch.path().join("etc/memcr/policy.toml");
    let found = std::fs::read_to_string(policy).expect("it copies the policy");
    assert!(found.contains("version = 1"));
}

/// memcr as a service manager starts it once a client connects.
struct Activated {
    manager: Child,
    path: PathBuf,
}

impl Activated {
    fn start(scratch: &Scratch, arguments: &[&str]) -> Self {
        let path = scratch.path().join("activated.sock");
        let mut command = Command::new("systemd-socket-activate");
        command.arg("--listen").arg(&path).arg("--").arg(binaries::path("memcr")).args(arguments);
        let log = std::fs::File::create(scratch.path().join("log")).expect("cannot make a log");
        let manager = command
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("systemd-socket-activate (package systemd)");
        wait::until("the service manager listens", || listens_at(&path));
        Self { manager, path }
    }
}

/// Whether a socket of this path listens (its flag in /proc/net/unix is __SO_ACCEPTCON).
fn listens_at(path: &Path) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/unix").expect("a list of sockets");
    let path = path.display().to_string();
    sockets.lines().any(|line| line.ends_with(&path) && line.contains(" 00010000 "))
}

impl Drop for Activated {
    fn drop(&mut self) {
        let _ = self.manager.kill();
        let _ = self.manager.wait();
    }
}

#[test]
fn memcr_serves_on_a_socket_that_was_passed_and_leaves_its_name_alone() {
    let scratch = Scratch::new();
    let path = scratch.path().join("activated.sock");
    let images = scratch.path().display().to_string();
    let mut activated = Activated::start(&scratch, &["-l", path.to_str().expect("UTF-8"), "-d", &images]);
    let mut target =
        Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().expect("cannot start sleep");
    let pid = target.id().to_string();
    for (action, word) in [("-c", "sleeps:"), ("-r", "runs:")] {
        let output = Command::new(binaries::path("memcr-client"))
            .arg("-l")
            .arg(&path)
            .args(["-p", &pid, action])
            .output();
        let output = output.expect("cannot run the client");
        let text =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        let log = std::fs::read_to_string(scratch.path().join("log")).unwrap_or_default();
        assert!(output.status.success() && text.contains(word), "{text}\n{log}");
    }
    let _ = target.kill();
    let _ = target.wait();
    // who started it has become it
    let daemon = nix::unistd::Pid::from_raw(activated.manager.id().try_into().expect("a pid"));
    nix::sys::signal::kill(daemon, nix::sys::signal::Signal::SIGTERM).expect("it runs");
    assert!(activated.manager.wait().expect("it ends").success());
    assert!(activated.path.exists(), "the name is the service manager's");
}

#[test]
fn a_socket_at_another_path_than_was_given_is_refused() {
    let scratch = Scratch::new();
    let images = scratch.path().display().to_string();
    let mut activated = Activated::start(&scratch, &["-l", "/run/elsewhere.sock", "-d", &images]);
    let mut client = UnixStream::connect(&activated.path).expect("it listens");
    let _ = client.write_all(&[0; 4]);
    assert_eq!(activated.manager.wait().expect("it ends").code(), Some(1));
    let log = std::fs::read_to_string(scratch.path().join("log")).expect("a log");
    assert!(log.contains("and -l says /run/elsewhere.sock"), "{log}");
}
