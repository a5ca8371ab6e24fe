//! Every flag of the original, short and long, on a real process: one row each.

use memcr_tests::binaries;
use memcr_tests::scratch::Scratch;
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use std::process::{Command, Stdio};

/// A command line and what must be said. PID, DIR and OTHER stand for a target and two directories.
struct Row {
    line: &'static str,
    /// Exit status.
    status: i32,
    /// What is on standard output or standard error; a `!` before it: what is not.
    said: &'static [&'static str],
}

const fn row(line: &'static str, status: i32, said: &'static [&'static str]) -> Row {
    Row { line, status, said }
}

const FLAGS: &[Row] = &[
    row("-h", 0, &["--listen", "--pid", "--dir", "--parasite-socket-dir", "--parasite-socket-gid"]),
    row("--help", 0, &["--parasite-socket-netns", "--listen-gid", "--no-wait", "--proc-mem", "--rss-file"]),
    row(
        "--help",
        0,
        &["--compress", "--checksum", "--encrypt", "--timeout", "--no-encrypt", "--listen-address"],
    ),
    row("-V", 0, &["memcr ", "Linux "]),
    row("--version", 0, &["memcr ", "Linux "]),
    row("", 1, &["Usage: memcr"]),
    row("-d DIR", 1, &["Usage: memcr"]),
    row("-p PID -n -d DIR", 0, &["is asleep", "is awake", "!checksum: ", "\"aes-256-gcm\""]),
    row("--pid PID --no-wait --dir DIR", 0, &["is asleep", "is awake"]),
    row("-np PID -d DIR;OTHER", 0, &["is awake"]),
    row("-n -p 0 -d DIR", 1, &["greater than 0"]),
    row("-n -p -1 -d DIR", 1, &["greater than 0"]),
    row("-n -p 1 -d DIR", 3, &["process 1"]),
    row("-n -p 99999999 -d DIR", 3, &["no process 99999999"]),
    row("-n -p PID -d DIR -m", 0, &["is awake"]),
    row("-n -p PID -d DIR --proc-mem", 0, &["is awake"]),
    row("-n -p PID -d DIR -f", 0, &["is awake", "dropped"]),
    row("-n -p PID -d DIR --rss-file", 0, &["is awake", "dropped"]),
    row("-n -p PID -d DIR -z", 0, &["is awake", "\"lz4\""]),
    row("-n -p PID -d DIR -z lz4", 0, &["is awake", "\"lz4\""]),
    row("-n -p PID -d DIR -zLZ4", 0, &["is awake", "\"lz4\""]),
    row("-n -p PID -d DIR -z zstd", 0, &["is awake", "\"zstd\""]),
    row("-n -p PID -d DIR --compress=zstd", 0, &["is awake", "\"zstd\""]),
    row("-n -p PID -d DIR -z gzip", 1, &["the algorithms are"]),
    row("-n -p PID -d DIR -c", 0, &["is awake", "checksum: "]),
    row("-n -p PID -d DIR --checksum", 0, &["is awake", "checksum: "]),
    row("-zcnp PID -d DIR", 0, &["is awake", "checksum: ", "\"lz4\""]),
    row("-n -p PID -d DIR -e", 0, &["is awake", "\"aes-256-gcm\"", "!is used instead"]),
    row(
        "-n -p PID -d DIR -e aes-128-cbc",
        0,
        &["is awake", "aes-128-gcm is used instead", "\"aes-128-gcm\""],
    ),
    row("-n -p PID -d DIR -e aes-192-cbc", 0, &["is awake", "aes-256-gcm is used instead"]),
    row("-n -p PID -d DIR --encrypt AES-256-CBC", 0, &["is awake", "aes-256-gcm is used instead"]),
    row("-n -p PID -d DIR -e aes-128-gcm", 0, &["is awake", "\"aes-128-gcm\"", "!is used instead"]),
    row("-n -p PID -d DIR -e chacha20-poly1305", 0, &["is awake", "\"chacha20-poly1305\""]),
    row("-n -p PID -d DIR -e rot13", 1, &["the ciphers are"]),
    row(
        "-n -p PID -d DIR --no-encrypt",
        0,
        &["is awake", "whoever can read an image", "\"cipher\":\"none\""],
    ),
    row("-n -p PID -d DIR -t 20", 0, &["is awake"]),
    row("-n -p PID -d DIR --timeout 20", 0, &["is awake"]),
    row("-n -p PID -d DIR -t x", 1, &["--timeout"]),
    row("-n -p PID -d DIR -N", 0, &["is awake"]),
    row("-n -p PID -d DIR --parasite-socket-netns", 0, &["is awake"]),
    row("-n -p PID -d DIR -S OTHER", 0, &["is awake"]),
    row("-n -p PID -d DIR --parasite-socket-dir OTHER", 0, &["is awake"]),
    row("-n -p PID -d DIR -S OTHER -G TARGET_GID", 0, &["is awake"]),
    row("-n -p PID -d DIR -S here", 1, &["from the root on"]),
    row("-n -p PID -d DIR -G TARGET_GID", 0, &["is awake", "-G has no effect without -S"]),
    row("-n -p PID -d DIR -g 1000", 0, &["is awake", "-g has no effect"]),
    row("-l DIR", 1, &["is not a socket"]),
    row("-l 127.0.0.1:9000", 1, &["give the port alone"]),
    row("-l 9000 --listen-address 0.0.0.0 -d DIR", 1, &["anonymous"]),
];

#[test]
fn each_does_what_it_says() {
    let scratch = Scratch::new();
    let images = scratch.directory_of(&cast().daemon, "images");
    let other = scratch.directory_of(&cast().target, "other");
    memcr_tests::scratch::set_mode(&other, 0o777);
    let mut target = Target::start(&cast().target, "sample-memory", &["8"]);
    let pid = target.pid().to_string();
    let mut wrong = Vec::new();
    for Row { line, status, said } in FLAGS {
        let words = line.split(' ').filter(|word| !word.is_empty()).map(|word| {
            let group = cast().target.gid.to_string();
            let word = word.replace("TARGET_GID", &group).replace("PID", &pid);
            word.replace("DIR", &images.to_string_lossy()).replace("OTHER", &other.to_string_lossy())
        });
        let mut command = Command::new(binaries::path("memcr"));
        command.args(words).env_clear().current_dir("/").stdin(Stdio::null());
        if line.contains("-p") {
            command.args(["--user", cast().daemon.name]);
        }
        let output = command.output().expect("cannot run memcr");
        let all = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let holds = |words: &&&str| match words.strip_prefix('!') {
            Some(words) => !all.contains(words),
            None => all.contains(**words),
        };
        let is_right = output.status.code() == Some(*status) && said.iter().all(|words| holds(&words));
        if !is_right {
            wrong.push(format!("memcr {line}: {:?}, wanted {status} and {said:?}:\n{all}", output.status));
        }
        target.assert_intact();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
