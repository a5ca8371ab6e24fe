//! What `-z`, `-c`, `-e` and `--no-encrypt` do: each combination through whole sleeps.

use memcr_tests::client::Outcome;
use memcr_tests::daemon::{Daemon, Setup, send};
use memcr_tests::scratch::Scratch;
use memcr_tests::tampering::{assert_altered_memory_never_arrives, open_image};
use memcr_tests::target::Target;
use memcr_tests::users::cast;
use memcr_tests::{binaries, content, wait};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::Read;
use std::process::{Command, Stdio};

/// What ask for each cipher, and its number in the header of an image.
const CIPHERS: [(&[&str], u8); 5] = [
    (&["--no-encrypt"], 0),
    (&["-e", "aes-128-gcm"], 1),
    (&["-e", "aes-256-gcm"], 2),
    (&["-e", "chacha20-poly1305"], 3),
    (&[], 2),
];

/// The seed of the target's memory.
const SEED: u64 = 5;

fn sample() -> Target {
    Target::start(&cast().target, "sample-memory", &["16", &SEED.to_string(), "2"])
}

fn checksum(outcome: &Outcome) -> Value {
    outcome.json()["report"]["checksum"].clone()
}

/// The last record of a request about the target.
fn record(daemon: &Daemon, target: &Target, action: &str) -> Value {
    let mut records = daemon.audit_of(target.pid()).into_iter();
    records.rfind(|record| record["action"] == action).expect("its record")
}

/// Some text of the target's memory, long enough to be there only if nothing was done to it.
fn text() -> Vec<u8> {
    let mut memory = vec![0; 2 * content::CHUNK];
    content::fill(&mut memory, SEED);
    let text = &memory[content::CHUNK + 20_000..][..1000];
    assert!(text.is_ascii(), "the second chunk is text");
    text.to_vec()
}

/// Puts the target to sleep and wakes it with each cipher, with checksums and without, and looks at what is
/// said and what is in the image. Gives the size of each image.
fn try_all(target: &mut Target, compression: &[&str], compression_code: u8) -> Vec<u64> {
    let text = text();
    let mut sizes = Vec::new();
    for (cipher, cipher_code) in CIPHERS {
        for checksums in [&[][..], &["-c"]] {
            let words = [compression, cipher, checksums].concat();
            let daemon = Setup::new().arguments(&words).start();
            let asleep = daemon.client().checkpoint(target.pid()).expect_status(0);
            let mut image = Vec::new();
            open_image(&daemon, target).read_to_end(&mut image).expect("root may read the image");
            let expected = [2, 0, 80, 0, cipher_code, compression_code, u8::from(!checksums.is_empty()), 0];
            assert_eq!(image[8..16], expected, "{words:?}");
            let is_clear = cipher_code == 0 && compression_code == 0;
            let is_there = image.windows(text.len()).any(|window| window == text);
            assert_eq!(is_there, is_clear, "{words:?}");
            assert_eq!(asleep.figure("image"), image.len() as u64);
            sizes.push(image.len() as u64);

            let awake = daemon.client().restore(target.pid()).expect_status(0);
            target.assert_intact();
            assert_eq!(checksum(&asleep), checksum(&awake), "{words:?}");
            assert_checksum_is_shown(&daemon, target, &checksum(&asleep), !checksums.is_empty());
            daemon.wait_until_no_image();
            daemon.assert_no_worker_died();
        }
    }
    sizes
}

/// Expects a checksum in records and log, or nowhere.
fn assert_checksum_is_shown(daemon: &Daemon, target: &Target, checksum: &Value, expected: bool) {
    for action in ["checkpoint", "restore"] {
        let record = record(daemon, target, action);
        assert_eq!(&record["checksum"], checksum, "{record}");
        assert!(record.get("checksum").is_some() && record["outcome"] == "ok", "{record}");
    }
    let record = record(daemon, target, "checkpoint");
    assert!(record["sandbox"]["seccomp"] == true && record["sandbox"]["landlock_full"] == true, "{record}");
    if expected {
        let digits = checksum.as_str().expect("it is text");
        assert!(digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "{digits}");
        assert_eq!(daemon.log().matches(&format!("checksum {digits}")).count(), 2, "{}", daemon.log());
    } else {
        assert!(checksum.is_null(), "{checksum}");
        assert!(!daemon.log().contains("checksum"), "{}", daemon.log());
    }
}

#[test]
fn every_cipher_compression_and_checksum_gives_all_memory_back() {
    let mut target = sample();
    let stored = try_all(&mut target, &[], 0);
    let named = try_all(&mut target, &["-z", "none"], 0);
    let lz4 = try_all(&mut target, &["-z"], 1);
    let zstd = try_all(&mut target, &["-z", "zstd"], 2);
    let largest = |sizes: &[u64]| sizes.iter().copied().max().unwrap_or_default();
    let smallest = |sizes: &[u64]| sizes.iter().copied().min().unwrap_or_default();
    assert!(largest(&lz4) < smallest(&stored) / 10 * 9, "{lz4:?} {stored:?}");
    assert!(largest(&lz4) < smallest(&named) / 10 * 9, "{lz4:?} {named:?}");
    assert!(largest(&zstd) < smallest(&lz4) / 10 * 9, "{zstd:?} {lz4:?}");
}

#[test]
fn a_flipped_byte_reaches_no_target_whatever_the_cipher() {
    for (cipher, _) in CIPHERS {
        assert_altered_memory_never_arrives(&Setup::new().arguments(cipher).start());
    }
}

#[test]
fn a_flipped_byte_of_compressed_memory_in_the_clear_reaches_no_target() {
    for compression in ["lz4", "zstd"] {
        let words = ["--no-encrypt", "-c", "-z", compression];
        assert_altered_memory_never_arrives(&Setup::new().arguments(&words).start());
    }
}

#[test]
fn the_image_of_a_worker_that_died_is_read_by_its_successor_as_it_was_written() {
    let mut target = sample();
    for words in [&["--no-encrypt", "-c"][..], &["-e", "chacha20-poly1305", "-zc"], &["-czzstd"]] {
        let daemon = Setup::new().arguments(words).start();
        let asleep = daemon.client().checkpoint(target.pid()).expect_status(0);
        send(daemon.workers()[0], Signal::SIGKILL);
        target.wait_until_awake();
        target.assert_intact();
        let woken = wait::until_some("the wake is on record", wait::BOUND, || {
            daemon.audit_of(target.pid()).into_iter().find(|record| record["event"] == "woken")
        });
        assert_eq!(woken["checksum"], checksum(&asleep), "{words:?}");
        assert!(woken["checksum"].is_string(), "{woken}");
        daemon.wait_until_no_image();
    }
}

#[test]
fn a_wake_by_the_daemon_itself_has_the_checksum_too() {
    let mut target = sample();
    let mut daemon = Setup::new().arguments(&["-zc"]).start();
    let asleep = daemon.client().checkpoint(target.pid()).expect_status(0);
    daemon.signal(Signal::SIGTERM);
    daemon.wait_for_end();
    target.wait_until_awake();
    target.assert_intact();
    let records = daemon.audit_of(target.pid());
    let woken = records.iter().find(|record| record["event"] == "woken").expect("its record");
    assert!(woken["checksum"].is_string() && woken["checksum"] == checksum(&asleep), "{woken}");
}

/// The lines about a checksum of one shot with these words.
fn one_shot(target: &Target, words: &[&str]) -> Vec<String> {
    let scratch = Scratch::new();
    let images = scratch.directory_of(&cast().daemon, "images");
    let mut command = Command::new(binaries::path("memcr"));
    command.env_clear().current_dir("/").stdin(Stdio::null()).stderr(Stdio::null());
    command.args(["-n", "-p", &target.pid().to_string(), "--user", cast().daemon.name, "-d"]).arg(images);
    let output = command.args(words).output().expect("cannot run memcr");
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).expect("text");
    said.lines().filter(|line| line.starts_with("checksum: ")).map(str::to_owned).collect()
}

#[test]
fn one_shot_shows_the_checksum_at_checkpoint_and_restore() {
    let mut target = sample();
    for words in [&["-c"][..], &["-zc"], &["-c", "--no-encrypt", "-z", "zstd"]] {
        let lines = one_shot(&target, words);
        assert!(lines.len() == 2 && lines[0] == lines[1] && lines[0].len() == 10 + 32, "{lines:?}");
        target.assert_intact();
    }
    assert!(one_shot(&target, &["-z"]).is_empty());
    target.assert_intact();
}
