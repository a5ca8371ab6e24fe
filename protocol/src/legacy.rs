//! What clients of the original memcr send: fixed fields in the byte order of the machine, no length before
//! them. Served on the same socket as [`crate::frame`]s, from which the first four bytes tell it.
//!
//! Version 1 is `u32` command, `i32` pid. Version 2 is `u32` 102, `i32` length, and as many bytes: command and
//! pid, then options in any order: `u32` 200 and an image directory that ends with a zero byte, `u32` 201 and a
//! `u32` that names the compression. The answer to either is one `i32`, see [`Reply`].

use crate::client::CheckpointOptions;
use crate::code::Code;
use crate::image::Compression;
use alloc::string::String;
use alloc::vec::Vec;
use thiserror::Error;

const CHECKPOINT: u32 = 100;
const RESTORE: u32 = 101;
const EXTENDED: u32 = 102;
const DIRECTORY: u32 = 200;
const COMPRESSION: u32 = 201;

/// Longest image directory of an option, in bytes, without its zero byte.
pub const DIRECTORY_LIMIT: usize = 1024;

/// Longest body of version 2, in bytes: each option once.
pub const BODY_LIMIT: usize = 8 + 4 + DIRECTORY_LIMIT + 1 + 8;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Put the process to sleep.
    Checkpoint,
    /// Wake it.
    Restore,
}

/// A request of either version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub command: Command,
    /// The process, by its number in the client's pid namespace; any number may come.
    pub pid: i32,
    /// Options of version 2; they mean nothing for a restore.
    pub options: CheckpointOptions,
}

/// Why bytes are no request. The connection is of no further use then.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LegacyError {
    /// The first number is no command.
    #[error("{0} is no command: 100, 101 and 102 are")]
    Command(u32),
    /// The length of version 2 is too short for command and pid, negative, or too long.
    #[error("a request of version 2 can't have {0} bytes: 8 to {BODY_LIMIT} are allowed")]
    Length(i32),
    /// An option that isn't known, or comes twice.
    #[error("option {0} is not known, or comes twice")]
    Option(u32),
    /// An option is cut off, or the directory does not end.
    #[error("an option is cut off")]
    CutOff,
    /// The directory is too long, or no text.
    #[error("the image directory is longer than {DIRECTORY_LIMIT} bytes, or no UTF-8 text")]
    Directory,
    /// The compression is not known.
    #[error("compression {0} is not known: 0 (none), 1 (lz4) and 2 (zstd) are")]
    Compression(u32),
}

/// The two forms of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Command and pid.
    One,
    /// With options.
    Two,
}

/// The version of a request that begins with these bytes; `None` if none does.
#[must_use]
pub fn version(first: [u8; 4]) -> Option<Version> {
    match u32::from_ne_bytes(first) {
        CHECKPOINT | RESTORE => Some(Version::One),
        EXTENDED => Some(Version::Two),
        _ => None,
    }
}

/// Whether a connection that begins with these bytes is of a client of the original. A frame of ours begins
/// with the length of a hello, which is shorter.
#[must_use]
pub fn is_legacy(first: [u8; 4]) -> bool {
    version(first).is_some()
}

/// Whether these few bytes, after which nothing more comes, are the beginning of a request.
#[must_use]
pub fn may_begin(bytes: &[u8]) -> bool {
    [CHECKPOINT, RESTORE, EXTENDED].iter().any(|word| word.to_ne_bytes().starts_with(bytes))
        && !bytes.is_empty()
}

/// The request at the beginning of `bytes` and how many bytes it takes; `None` until more bytes come.
///
/// # Errors
/// Any [`LegacyError`], as soon as the bytes that are there show it.
pub fn take(bytes: &[u8]) -> Result<Option<(Request, usize)>, LegacyError> {
    let mut rest = bytes;
    let Some(word) = take_word(&mut rest) else { return Ok(None) };
    if let Some(command) = command(word) {
        let pid = take_word(&mut rest).map(signed);
        let request = pid.map(|pid| (Request { command, pid, options: CheckpointOptions::default() }, 8));
        return Ok(request);
    }
    if word != EXTENDED {
        return Err(LegacyError::Command(word));
    }
    let Some(said) = take_word(&mut rest).map(signed) else { return Ok(None) };
    let length = usize::try_from(said).ok().filter(|length| (8..=BODY_LIMIT).contains(length));
    let length = length.ok_or(LegacyError::Length(said))?;
    match rest.get(..length) {
        None => Ok(None),
        Some(body) => Ok(Some((request(body)?, 8 + length))),
    }
}

fn request(mut body: &[u8]) -> Result<Request, LegacyError> {
    let word = take_word(&mut body).ok_or(LegacyError::CutOff)?;
    let command = command(word).ok_or(LegacyError::Command(word))?;
    let pid = signed(take_word(&mut body).ok_or(LegacyError::CutOff)?);
    let mut options = CheckpointOptions::default();
    while !body.is_empty() {
        match take_word(&mut body).ok_or(LegacyError::CutOff)? {
            DIRECTORY if options.directory.is_none() => {
                options.directory = Some(take_directory(&mut body)?);
            }
            COMPRESSION if options.compression.is_none() => {
                let number = take_word(&mut body).ok_or(LegacyError::CutOff)?;
                options.compression = Some(compression(number)?);
            }
            other => return Err(LegacyError::Option(other)),
        }
    }
    Ok(Request { command, pid, options })
}

fn command(word: u32) -> Option<Command> {
    match word {
        CHECKPOINT => Some(Command::Checkpoint),
        RESTORE => Some(Command::Restore),
        _ => None,
    }
}

fn compression(number: u32) -> Result<Compression, LegacyError> {
    match number {
        0 => Ok(Compression::None),
        1 => Ok(Compression::Lz4),
        2 => Ok(Compression::Zstd),
        other => Err(LegacyError::Compression(other)),
    }
}

fn take_word(bytes: &mut &[u8]) -> Option<u32> {
    let (word, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_ne_bytes(*word))
}

fn signed(word: u32) -> i32 {
    i32::from_ne_bytes(word.to_ne_bytes())
}

fn take_directory(bytes: &mut &[u8]) -> Result<String, LegacyError> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(LegacyError::CutOff)?;
    let (name, rest) = bytes.split_at(end);
    *bytes = rest.get(1..).unwrap_or_default();
    let name = core::str::from_utf8(name).ok().filter(|name| name.len() <= DIRECTORY_LIMIT);
    name.map(String::from).ok_or(LegacyError::Directory)
}

impl Command {
    fn word(self) -> u32 {
        match self {
            Self::Checkpoint => CHECKPOINT,
            Self::Restore => RESTORE,
        }
    }
}

impl Request {
    /// Its bytes: version 1, or version 2 if there are options.
    ///
    /// # Errors
    /// [`LegacyError::Directory`] when the directory is too long, or holds a zero byte.
    pub fn encode(&self) -> Result<Vec<u8>, LegacyError> {
        let mut body = Vec::new();
        body.extend(self.command.word().to_ne_bytes());
        body.extend(self.pid.to_ne_bytes());
        if self.options == CheckpointOptions::default() {
            return Ok(body);
        }
        if let Some(directory) = &self.options.directory {
            if directory.len() > DIRECTORY_LIMIT || directory.contains('\0') {
                return Err(LegacyError::Directory);
            }
            body.extend(DIRECTORY.to_ne_bytes());
            body.extend(directory.bytes());
            body.push(0);
        }
        if let Some(compression) = self.options.compression {
            let number: u32 = match compression {
                Compression::None => 0,
                Compression::Lz4 => 1,
                Compression::Zstd => 2,
            };
            body.extend(COMPRESSION.to_ne_bytes());
            body.extend(number.to_ne_bytes());
        }
        let length = i32::try_from(body.len()).unwrap_or(i32::MAX);
        let mut whole = Vec::new();
        whole.extend(EXTENDED.to_ne_bytes());
        whole.extend(length.to_ne_bytes());
        whole.append(&mut body);
        Ok(whole)
    }
}

/// What a client of the original is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// 0: done.
    Ok,
    /// -1: not done.
    Failed,
    /// -2: a checkpoint of a process that is asleep already, or a restore of one that is not.
    InvalidPid,
}

impl Reply {
    /// The answer for an outcome. Clients read -2 on a restore as success: it is given only for a process
    /// that is known not to be asleep.
    #[must_use]
    pub fn of(command: Command, outcome: Result<(), Code>) -> Self {
        match (command, outcome) {
            (_, Ok(())) => Self::Ok,
            (Command::Checkpoint, Err(Code::AlreadyAsleep)) | (Command::Restore, Err(Code::NotAsleep)) => {
                Self::InvalidPid
            }
            (Command::Checkpoint | Command::Restore, Err(_)) => Self::Failed,
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(self) -> [u8; 4] {
        let number: i32 = match self {
            Self::Ok => 0,
            Self::Failed => -1,
            Self::InvalidPid => -2,
        };
        number.to_ne_bytes()
    }

    /// The answer that these bytes are; any other number is a failure.
    #[must_use]
    pub fn decode(bytes: [u8; 4]) -> Self {
        match i32::from_ne_bytes(bytes) {
            0 => Self::Ok,
            -2 => Self::InvalidPid,
            _ => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{ClientFrame, VERSION};
    use crate::frame;
    use alloc::vec;
    use proptest::prelude::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn extended(body: &[u8]) -> Vec<u8> {
        [&words(&[102, body.len() as u32])[..], body].concat()
    }

    fn request(command: Command, pid: i32) -> Request {
        Request { command, pid, options: CheckpointOptions::default() }
    }

    #[test]
    fn version_1_is_a_command_and_a_pid() {
        assert_eq!(take(&words(&[100, 7])), Ok(Some((request(Command::Checkpoint, 7), 8))));
        assert_eq!(take(&words(&[101, 7, 100])), Ok(Some((request(Command::Restore, 7), 8))));
        assert_eq!(take(&words(&[100, u32::MAX])), Ok(Some((request(Command::Checkpoint, -1), 8))));
        for length in 0..8 {
            assert_eq!(take(&words(&[100, 7])[..length]), Ok(None));
        }
    }

    #[test]
    fn version_2_has_options_in_any_order() {
        let options =
            CheckpointOptions { directory: Some("/a".into()), compression: Some(Compression::Zstd) };
        let expected = Request { command: Command::Checkpoint, pid: 7, options };
        let directory = [&words(&[200])[..], b"/a\0"].concat();
        let (first, second) = (words(&[201, 2]), directory);
        for options in [[&first[..], &second].concat(), [&second[..], &first].concat()] {
            let bytes = extended(&[&words(&[100, 7])[..], &options].concat());
            assert_eq!(take(&bytes), Ok(Some((expected.clone(), bytes.len()))));
            for length in 0..bytes.len() {
                assert_eq!(take(&bytes[..length]), Ok(None));
            }
        }
        let bare = extended(&words(&[101, 7]));
        assert_eq!(take(&bare), Ok(Some((request(Command::Restore, 7), 16))));
    }

    #[test]
    fn what_is_no_request_says_why() {
        let body = |more: &[u8]| extended(&[&words(&[100, 7])[..], more].concat());
        let long = [&words(&[200])[..], &vec![b'a'; DIRECTORY_LIMIT + 1], b"\0"].concat();
        for (bytes, error) in [
            (words(&[103]), LegacyError::Command(103)),
            (words(&[102, 7]), LegacyError::Length(7)),
            (words(&[102, u32::MAX]), LegacyError::Length(-1)),
            (words(&[102, BODY_LIMIT as u32 + 1]), LegacyError::Length(BODY_LIMIT as i32 + 1)),
            (extended(&words(&[102, 7])), LegacyError::Command(102)),
            (body(&[200]), LegacyError::CutOff),
            (body(&words(&[200])), LegacyError::CutOff),
            (body(&words(&[200, 0x6161_6161])), LegacyError::CutOff),
            (body(&words(&[201])), LegacyError::CutOff),
            (body(&words(&[201, 3])), LegacyError::Compression(3)),
            (body(&words(&[201, 1, 201, 1])), LegacyError::Option(201)),
            (body(&words(&[202, 1])), LegacyError::Option(202)),
            (body(&long), LegacyError::Directory),
            (body(&[&words(&[200])[..], b"\xff\0"].concat()), LegacyError::Directory),
        ] {
            assert_eq!(take(&bytes), Err(error));
        }
    }

    #[test]
    fn a_hello_of_ours_is_not_taken_for_a_command() {
        let hello = frame::encode(&ClientFrame::Hello { version: VERSION }).unwrap();
        assert!(!is_legacy(*hello.first_chunk().unwrap()));
        for word in [100_u32, 101, 102] {
            assert!(is_legacy(word.to_ne_bytes()));
        }
    }

    #[test]
    fn the_first_bytes_tell_the_version() {
        for (word, expected) in [
            (99_u32, None),
            (100, Some(Version::One)),
            (101, Some(Version::One)),
            (102, Some(Version::Two)),
            (103, None),
        ] {
            assert_eq!(version(word.to_ne_bytes()), expected);
            assert!(!may_begin(&[]));
            for length in 1..4 {
                // 99 and 103 differ from the others in the byte that is not zero
                let whole = word.to_ne_bytes();
                let all_zero = whole[..length] == [0, 0, 0][..length];
                assert_eq!(may_begin(&whole[..length]), expected.is_some() || all_zero);
            }
        }
    }

    #[test]
    fn minus_two_is_said_only_of_what_is_known() {
        use Code::{AlreadyAsleep, Busy, Denied, NoSuchProcess, NotAsleep, TargetLost};
        for code in [AlreadyAsleep, Busy, Denied, NoSuchProcess, NotAsleep, TargetLost] {
            let checkpoint = Reply::of(Command::Checkpoint, Err(code)) == Reply::InvalidPid;
            let restore = Reply::of(Command::Restore, Err(code)) == Reply::InvalidPid;
            assert_eq!((checkpoint, restore), (code == AlreadyAsleep, code == NotAsleep), "{code:?}");
        }
        assert_eq!(Reply::of(Command::Restore, Ok(())).encode(), 0_i32.to_ne_bytes());
        assert_eq!(Reply::Failed.encode(), (-1_i32).to_ne_bytes());
        assert_eq!(Reply::InvalidPid.encode(), (-2_i32).to_ne_bytes());
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_panic_and_a_request_survives_encoding(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            first in prop_oneof![Just(100_u32), Just(101), Just(102), any::<u32>()],
        ) {
            let bytes = [&first.to_ne_bytes()[..], &bytes].concat();
            if let Ok(Some((request, length))) = take(&bytes) {
                prop_assert!(length <= bytes.len());
                let again = request.encode().unwrap();
                prop_assert_eq!(take(&again), Ok(Some((request, again.len()))));
            }
        }
    }
}
