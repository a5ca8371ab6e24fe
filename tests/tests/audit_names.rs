//! Names of programs and cgroups that try to deceive who reads the audit log.

use memcr_tests::cgroup::NamedCgroup;
use memcr_tests::daemon::Setup;
use memcr_tests::scratch::Scratch;
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::{audit, binaries};
use nix::sys::signal::Signal;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory with a name, and the same again in it, until the path of a program in it is nearly as long as it may be.
fn deep(scratch: &Scratch, name: &[u8]) -> PathBuf {
    let mut path = scratch.path().to_owned();
    while path.as_os_str().len() + name.len() < 4000 {
        path.push(OsStr::from_bytes(name));
    }
    fs::create_dir_all(&path).expect("cannot make directories");
    path
}

/// The bytes of a name in a record, as doc/audit.md says.
fn bytes_of(text: &str) -> Vec<u8> {
    let (text, mut bytes) = (text.as_bytes(), Vec::new());
    let mut at = 0;
    while at < text.len() {
        let escaped = text.get(at..at + 4).and_then(|four| {
            let digits = std::str::from_utf8(four.strip_prefix(b"\\x")?).ok()?;
            let byte = u8::from_str_radix(digits, 16).ok()?;
            (digits == digits.to_lowercase() && (byte >= 0x80 || byte == b'\\')).then_some(byte)
        });
        bytes.push(escaped.unwrap_or(text[at]));
        at += if escaped.is_some() { 4 } else { 1 };
    }
    bytes
}

#[test]
fn names_that_would_deceive_a_reader_are_escaped_and_can_be_read_back() {
    let scratch = Scratch::new();
    let mut daemon = Setup::new().without_group().start();
    let odd: &[u8] = b"x\n{\"event\":\"stop\"}\x1b[2J\x7f\xff\\xff\\x2d\xe2\x80\xaegpj\xe2\x80\xa8";
    let copy = |program: &str, path: &Path| {
        fs::copy(binaries::path(program), path).expect("cannot copy");
        path.to_owned()
    };
    let long = deep(&scratch, &[0xff; 250]);
    let programs = [
        copy("sample-memory", &scratch.path().join(OsStr::from_bytes(odd))),
        copy("sample-memory", &long.join("m")),
    ];
    let client = copy("memcr-client", &scratch.path().join(OsStr::from_bytes(&[b"client ", odd].concat())));
    let cgroup = NamedCgroup::new("\u{1b}[2J\u{202e}gpj\u{2028}");
    for program in &programs {
        let mut command = cast().target.command(program);
        command.arg("4");
        let mut target = Target::start_command(command);
        cgroup.add(target.pid());
        for action in ["-c", "-r"] {
            let mut asking = cast().target.command(&client);
            asking.arg("-l").arg(daemon.socket()).args(["-p", &target.pid().to_string(), action]);
            let output = asking.output().expect("cannot run a client");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        target.assert_intact();
    }
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_for_end().code(), Some(0));
    let log = daemon.scratch().path().join("audit.log");
    let text = String::from_utf8(fs::read(&log).expect("a log")).expect("all of it is text");
    let is_deceiving = |character: char| {
        character != '\n' && (character.is_control() || matches!(character, '\u{202e}' | '\u{2028}'))
    };
    assert!(!text.contains(is_deceiving), "{text}");
    assert_eq!(text.lines().count(), 6, "{text}");
    let records = audit::read(&log);
    for (index, program) in [(1, &programs[0]), (2, &programs[0]), (3, &programs[1]), (4, &programs[1])] {
        let record = &records[index];
        let name = |of: &str, what: &str| bytes_of(record[of][what].as_str().expect("a name"));
        assert_eq!(name("target", "executable"), program.as_os_str().as_bytes(), "{record}");
        assert_eq!(name("client", "executable"), client.as_os_str().as_bytes(), "{record}");
        assert!(name("target", "cgroup").ends_with("\u{1b}[2J\u{202e}gpj\u{2028}".as_bytes()), "{record}");
    }
    let status = Command::new(binaries::path("memcr")).args(["audit", "verify"]).arg(&log).status();
    assert!(status.is_ok_and(|status| status.success()));
}
