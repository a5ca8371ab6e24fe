//! Numbers that C programs can rely on.

use crate::{Code, Compression, Error, Guard, State};
use std::ffi::CStr;

/// Outcome of a function. Numbers and names stay as they are; later versions may have more of them.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemcrCode {
    /// Done.
    Ok = 0,
    /// Daemon and library don't understand each other.
    Protocol = 1,
    /// The daemon's policy denies it.
    Denied = 2,
    /// There is no such process.
    NoSuchProcess = 3,
    /// The process is asleep already.
    AlreadyAsleep = 4,
    /// The process is not asleep.
    NotAsleep = 5,
    /// Another operation on the same process is under way.
    Busy = 6,
    /// The process is in a state in which this can't be done safely.
    TargetRefused = 7,
    /// The image could not be written; the process runs on unharmed.
    Storage = 8,
    /// It took too long; undone.
    Timeout = 9,
    /// It was called off by another request; undone.
    Aborted = 10,
    /// The process is gone: it died by itself, or its image could not be read back.
    TargetLost = 11,
    /// The system, this version or this protocol lacks something that is needed.
    Unsupported = 12,
    /// A limit of the daemon was reached.
    Limit = 13,
    /// A fault of memcr itself; undone.
    Internal = 14,
    /// There is too little memory to give the process's back; it sleeps on.
    OutOfMemory = 15,
    /// A null pointer, a structure of an impossible size, a location that can be none.
    InvalidArgument = 100,
    /// Nobody listens at that location, or it may not be connected to.
    NotConnected = 101,
    /// The connection broke: it isn't known whether the request was done.
    Disconnected = 102,
    /// The daemon said nothing for too long: it isn't known whether the request was done.
    Silent = 103,
    /// Not done; over TCP the daemon doesn't say why.
    NotDone = 104,
}

/// How the memory in an image is compressed.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemcrCompression {
    /// As the daemon does by default.
    Default = 0,
    /// Not at all.
    None = 1,
    /// LZ4: fast.
    Lz4 = 2,
    /// Zstandard: smaller.
    Zstd = 3,
}

/// What is going on with a process.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemcrState {
    /// It runs; nothing is known of it.
    Running = 0,
    /// Its threads are being frozen.
    Attaching = 1,
    /// Its memory is being written.
    Dumping = 2,
    /// It sleeps.
    Asleep = 3,
    /// Its memory is being put back.
    Restoring = 4,
}

/// What happens to a sleeping process should memcr's processes be killed.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemcrGuard {
    /// It isn't known: nothing was reported.
    Unknown = 0,
    /// It waits for its memory.
    Full = 1,
    /// It dies rather than run on wrong memory.
    ExitKill = 2,
}

impl MemcrCode {
    /// All of them.
    pub(super) const ALL: [Self; 21] = [
        Self::Ok,
        Self::Protocol,
        Self::Denied,
        Self::NoSuchProcess,
        Self::AlreadyAsleep,
        Self::NotAsleep,
        Self::Busy,
        Self::TargetRefused,
        Self::Storage,
        Self::Timeout,
        Self::Aborted,
        Self::TargetLost,
        Self::Unsupported,
        Self::Limit,
        Self::Internal,
        Self::OutOfMemory,
        Self::InvalidArgument,
        Self::NotConnected,
        Self::Disconnected,
        Self::Silent,
        Self::NotDone,
    ];

    /// The name used in logs and in JSON.
    #[must_use]
    pub fn name(self) -> &'static CStr {
        match self {
            Self::Ok => c"ok",
            Self::Protocol => c"protocol",
            Self::Denied => c"denied",
            Self::NoSuchProcess => c"no-such-process",
            Self::AlreadyAsleep => c"already-asleep",
            Self::NotAsleep => c"not-asleep",
            Self::Busy => c"busy",
            Self::TargetRefused => c"target-refused",
            Self::Storage => c"storage",
            Self::Timeout => c"timeout",
            Self::Aborted => c"aborted",
            Self::TargetLost => c"target-lost",
            Self::Unsupported => c"unsupported",
            Self::Limit => c"limit",
            Self::Internal => c"internal",
            Self::OutOfMemory => c"out-of-memory",
            Self::InvalidArgument => c"invalid-argument",
            Self::NotConnected => c"not-connected",
            Self::Disconnected => c"disconnected",
            Self::Silent => c"silent",
            Self::NotDone => c"not-done",
        }
    }
}

impl From<Code> for MemcrCode {
    fn from(code: Code) -> Self {
        match code {
            Code::Protocol => Self::Protocol,
            Code::Denied => Self::Denied,
            Code::NoSuchProcess => Self::NoSuchProcess,
            Code::AlreadyAsleep => Self::AlreadyAsleep,
            Code::NotAsleep => Self::NotAsleep,
            Code::Busy => Self::Busy,
            Code::TargetRefused => Self::TargetRefused,
            Code::Storage => Self::Storage,
            Code::Timeout => Self::Timeout,
            Code::Aborted => Self::Aborted,
            Code::TargetLost => Self::TargetLost,
            Code::Unsupported => Self::Unsupported,
            Code::Limit => Self::Limit,
            Code::Internal => Self::Internal,
            Code::OutOfMemory => Self::OutOfMemory,
        }
    }
}

impl From<&Error> for MemcrCode {
    fn from(error: &Error) -> Self {
        match error {
            Error::Failed(failure) => failure.code.into(),
            Error::Location { .. } | Error::Legacy(_) => Self::InvalidArgument,
            Error::Connect { .. } => Self::NotConnected,
            Error::NoSuchProcess { .. } | Error::NotAProcess { .. } => Self::NoSuchProcess,
            Error::OpenTarget { .. } | Error::OnlyUnix { .. } => Self::Unsupported,
            Error::Silent { .. } => Self::Silent,
            Error::Closed | Error::Transfer { .. } => Self::Disconnected,
            Error::Frame(_) | Error::Version { .. } | Error::Unexpected(_) => Self::Protocol,
            Error::NotDone { .. } => Self::NotDone,
        }
    }
}

impl MemcrCompression {
    /// What a number from C means, if anything: `Some(None)` is the daemon's default.
    pub(super) fn of(number: i32) -> Option<Option<Compression>> {
        const DEFAULT: i32 = MemcrCompression::Default as i32;
        const NONE: i32 = MemcrCompression::None as i32;
        const LZ4: i32 = MemcrCompression::Lz4 as i32;
        const ZSTD: i32 = MemcrCompression::Zstd as i32;
        match number {
            DEFAULT => Some(None),
            NONE => Some(Some(Compression::None)),
            LZ4 => Some(Some(Compression::Lz4)),
            ZSTD => Some(Some(Compression::Zstd)),
            _ => None,
        }
    }
}

impl From<State> for MemcrState {
    fn from(state: State) -> Self {
        match state {
            State::Running => Self::Running,
            State::Attaching => Self::Attaching,
            State::Dumping => Self::Dumping,
            State::Asleep => Self::Asleep,
            State::Restoring => Self::Restoring,
        }
    }
}

impl From<Guard> for MemcrGuard {
    fn from(guard: Guard) -> Self {
        match guard {
            Guard::Full => Self::Full,
            Guard::ExitKill => Self::ExitKill,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memcr_protocol::legacy::{Command, LegacyError};

    #[test]
    fn codes_of_the_daemon_keep_their_numbers_and_names() {
        let codes = [
            Code::Protocol,
            Code::Denied,
            Code::NoSuchProcess,
            Code::AlreadyAsleep,
            Code::NotAsleep,
            Code::Busy,
            Code::TargetRefused,
            Code::Storage,
            Code::Timeout,
            Code::Aborted,
            Code::TargetLost,
            Code::Unsupported,
            Code::Limit,
            Code::Internal,
            Code::OutOfMemory,
        ];
        for (code, number) in codes.into_iter().zip(1..) {
            let ours = MemcrCode::from(code);
            assert_eq!((ours as i32, i32::from(code as u16)), (number, number));
            assert_eq!(ours.name().to_str().unwrap(), code.name());
        }
    }

    #[test]
    fn errors_of_the_library_have_the_same_names_in_rust_and_in_c() {
        for error in [
            Error::Location { text: String::new(), why: "" },
            Error::NoSuchProcess { pid: 7 },
            Error::NotAProcess { pid: 0 },
            Error::Silent { patience: std::time::Duration::ZERO },
            Error::Closed,
            Error::Unexpected(""),
            Error::NotDone { command: Command::Restore, pid: 7 },
            Error::OnlyUnix { request: "" },
            Error::Legacy(LegacyError::Directory),
        ] {
            assert_eq!(MemcrCode::from(&error).name().to_str().unwrap(), error.name());
        }
    }

    #[test]
    fn all_codes_are_listed_once() {
        let mut numbers = MemcrCode::ALL.map(|code| code as i32).to_vec();
        numbers.dedup();
        assert_eq!(numbers, (0..=15).chain(100..=104).collect::<Vec<_>>());
    }
}
