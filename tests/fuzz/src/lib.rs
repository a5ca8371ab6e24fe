//! Fuzz targets of the crates that do no IO, as functions: for the fuzz targets here, and for tests/tests/corpora.rs, which
//! replays their corpora. Those of broker and worker are in these crates (`fuzzing.rs`), since they read with what is
//! private there.

use memcr_policy::{AccountFiles, Names, Policy};
use memcr_protocol::client::{ClientFrame, ServerFrame};
use memcr_protocol::deposit::{Deposit, Word};
use memcr_protocol::frame::{self, Assembler, Message};
use memcr_protocol::launcher::{Job, LauncherReport, PolicyText};
use memcr_protocol::legacy;
use memcr_protocol::worker::{WorkerCommand, WorkerEvent};

/// A fuzz target: its name, and what it does with some bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All of these crates.
pub const TARGETS: &[Target] = &[
    ("client_frame", message::<ClientFrame>),
    ("server_frame", message::<ServerFrame>),
    ("job", message::<Job>),
    ("launcher_report", message::<LauncherReport>),
    ("worker_command", message::<WorkerCommand>),
    ("worker_event", message::<WorkerEvent>),
    ("deposit", message::<Deposit>),
    ("word", message::<Word>),
    ("policy_text", message::<PolicyText>),
    ("account_files", account_files),
    ("legacy_request", legacy_request),
    ("policy_file", policy_file),
];

/// Runs the target with this name.
///
/// # Panics
/// If there is none, or if what must hold doesn't.
pub fn run(name: &str, bytes: &[u8]) {
    match TARGETS.iter().find(|(known, _)| *known == name) {
        Some((_, target)) => target(bytes),
        None => panic!("there is no target {name}"),
    }
}

/// Whatever the bytes are: no panic, and what decodes is what encodes to the same bytes. Cut into pieces they
/// say the same as whole.
fn message<M: Message>(bytes: &[u8]) {
    let whole = frame::decode::<M>(bytes);
    let mut assembler = Assembler::new();
    let mut pieces = None;
    for piece in bytes.chunks(3) {
        assembler.push(piece);
        match assembler.next_message::<M>() {
            Ok(None) => {}
            outcome => {
                pieces = Some(outcome.is_ok());
                break;
            }
        }
    }
    if let Ok(message) = whole {
        let again = frame::encode(&message).expect("what was read can be written");
        assert!(frame::decode::<M>(&again).is_ok());
        assert_eq!(pieces, Some(true));
    }
}

/// What is taken is what encodes to a request that is taken the same way. No beginning of it is taken for a request
/// of its own, or for none.
fn legacy_request(bytes: &[u8]) {
    let taken = legacy::take(bytes);
    if let Ok(Some((request, length))) = &taken {
        let again = request.encode().expect("what was read can be written");
        assert_eq!(legacy::take(&again), Ok(Some((request.clone(), again.len()))));
        for cut in 0..*length {
            assert_eq!(legacy::take(&bytes[..cut]), Ok(None));
        }
    }
    if let Some(first) = bytes.first_chunk() {
        assert_eq!(legacy::is_legacy(*first), legacy::version(*first).is_some());
        assert!(!legacy::is_legacy(*first) || legacy::may_begin(&bytes[..1]));
        if let Err(legacy::LegacyError::Command(_)) = taken {
            // the first word is no command, or the one within a request of version 2
            assert!(!legacy::is_legacy(*first) || legacy::version(*first) == Some(legacy::Version::Two));
        }
    }
}

/// In whatever is in /etc/passwd only a line's first field is a name, and its third a number.
fn account_files(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let files = AccountFiles { passwd: &text, group: &text };
    for line in text.lines().take(64) {
        let mut fields = line.split(':');
        let name = fields.next().unwrap_or_default();
        if let Some(id) = files.user(name) {
            assert!(
                text.lines()
                    .any(|line| line.starts_with(&format!("{name}:")) && line.contains(&id.to_string()))
            );
            assert_eq!(files.group(name), Some(id));
        }
    }
}

/// Some names, so that rules with them are reached.
struct Accounts;

impl Names for Accounts {
    fn user(&self, name: &str) -> Option<u32> {
        (name.len() < 5).then_some(1000)
    }

    fn group(&self, name: &str) -> Option<u32> {
        self.user(name)
    }
}

/// A policy file is taken, or refused with a sentence about a place within it.
fn policy_file(bytes: &[u8]) {
    if let Err(error) = Policy::parse_bytes(bytes, &Accounts) {
        assert!(!error.to_string().is_empty());
        let lines = bytes.split(|byte| *byte == b'\n').count();
        assert!((1..=lines).contains(&error.line));
    }
}
