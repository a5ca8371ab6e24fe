//! Outcomes that programs can rely on: a stable code, a sentence, an exit status.

use alloc::string::String;
use serde::{Deserialize, Serialize};

/// Why a request was not done. The numbers are stable; new ones are added at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u16)]
pub enum Code {
    /// The request itself is wrong: a broken frame, an unknown version, a missing pidfd.
    Protocol = 1,
    /// The policy denies it.
    Denied = 2,
    /// There is no such process.
    NoSuchProcess = 3,
    /// The process is asleep already.
    AlreadyAsleep = 4,
    /// The process is not asleep.
    NotAsleep = 5,
    /// Another operation on the same process is under way.
    Busy = 6,
    /// The target is in a state in which this can't be done safely.
    TargetRefused = 7,
    /// The image could not be written; the target was resumed unharmed.
    Storage = 8,
    /// It took too long; undone.
    Timeout = 9,
    /// It was called off by another request; undone.
    Aborted = 10,
    /// The target is gone: it died by itself, or its image could not be read back.
    TargetLost = 11,
    /// The system lacks something that is needed.
    Unsupported = 12,
    /// A limit of the daemon was reached.
    Limit = 13,
    /// A fault of memcr itself; undone.
    Internal = 14,
    /// There is too little memory to give the target's back; it sleeps on.
    OutOfMemory = 15,
}

impl Code {
    /// Exit status of the command-line programs: 2 refused by policy, 3 refused by the target's
    /// state, 4 failed and undone, 5 target lost.
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Denied => 2,
            Self::NoSuchProcess
            | Self::AlreadyAsleep
            | Self::NotAsleep
            | Self::Busy
            | Self::TargetRefused => 3,
            Self::Protocol
            | Self::Storage
            | Self::Timeout
            | Self::Aborted
            | Self::Unsupported
            | Self::Limit
            | Self::Internal
            | Self::OutOfMemory => 4,
            Self::TargetLost => 5,
        }
    }

    /// The name used in logs and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::Denied => "denied",
            Self::NoSuchProcess => "no-such-process",
            Self::AlreadyAsleep => "already-asleep",
            Self::NotAsleep => "not-asleep",
            Self::Busy => "busy",
            Self::TargetRefused => "target-refused",
            Self::Storage => "storage",
            Self::Timeout => "timeout",
            Self::Aborted => "aborted",
            Self::TargetLost => "target-lost",
            Self::Unsupported => "unsupported",
            Self::Limit => "limit",
            Self::Internal => "internal",
            Self::OutOfMemory => "out-of-memory",
        }
    }
}

/// A failure as its receiver gets it: a [`Code`] for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure.
    pub code: Code,
    /// What failed, on what, why, and what to do about it; lower case, no full stop.
    pub message: String,
}

/// Longest sentence of a [`Failure`], in bytes.
pub const MESSAGE_LIMIT: usize = 1024;

impl Failure {
    /// A failure whose sentence is cut to [`MESSAGE_LIMIT`] bytes at a character boundary.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let mut message = message.into();
        let mut end = message.len().min(MESSAGE_LIMIT);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        Self { code, message }
    }
}

impl core::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(&self.message)
    }
}
