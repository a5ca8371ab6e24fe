//! Why a request was not done, as the caller of the library learns it.

use crate::Location;
use memcr_protocol::code::{Code, Failure};
use memcr_protocol::frame::FrameError;
use memcr_protocol::legacy::{Command, LegacyError};
use std::io;
use std::time::Duration;
use thiserror::Error;

/// Why a request was not done.
#[derive(Debug, Error)]
pub enum Error {
    /// Nothing can be there.
    #[error("cannot connect to \"{text}\": {why}; give a path, a port, or an address with a port")]
    Location {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The daemon could not be connected to.
    #[error("cannot connect to {location}: {cause}; {}", connect_advice(cause))]
    Connect {
        /// Where it should listen.
        location: Location,
        /// What the system says.
        cause: io::Error,
    },
    /// No process has this number.
    #[error("there is no process {pid}")]
    NoSuchProcess {
        /// The number.
        pid: i32,
    },
    /// The number can't be a process's, or is a thread's.
    #[error("{pid} is not a process; give the number of a process (not of one of its threads)")]
    NotAProcess {
        /// The number.
        pid: i32,
    },
    /// The pidfd of a process could not be opened.
    #[error("cannot open a pidfd of process {pid}: {cause}; memcr needs Linux 5.4 or later")]
    OpenTarget {
        /// The process.
        pid: i32,
        /// What the system says.
        cause: io::Error,
    },
    /// The daemon said nothing for too long.
    #[error("the daemon said nothing for {} s; it may still be at it: ask with --status", patience.as_secs())]
    Silent {
        /// How long was waited.
        patience: Duration,
    },
    /// The daemon closed the connection.
    #[error("the daemon closed the connection; it may have been stopped, which wakes every sleeping process")]
    Closed,
    /// The connection broke.
    #[error("cannot {operation} the daemon: {cause}; try again")]
    Transfer {
        /// What was done: `send to`, `receive from` or `reconnect to`.
        operation: &'static str,
        /// What the system says.
        cause: io::Error,
    },
    /// What came is no frame of this protocol.
    #[error("the daemon's answer is not understood: {0}; is it a memcr daemon of this version?")]
    Frame(#[from] FrameError),
    /// The daemon speaks another version of the protocol.
    #[error(
        "the daemon speaks version {theirs} of the protocol, this client {ours}; use those of one release"
    )]
    Version {
        /// The daemon's version.
        theirs: u16,
        /// This client's version.
        ours: u16,
    },
    /// A frame that doesn't belong there.
    #[error("the daemon answered with {0}; is it a memcr daemon of this version?")]
    Unexpected(&'static str),
    /// The daemon refused the request, or failed to do it.
    #[error("{0}")]
    Failed(Failure),
    /// The daemon answered over TCP that it was not done, which is all that is said there.
    #[error(
        "the daemon didn't {}: over TCP it doesn't say why; ask through its UNIX socket, or read its log",
        deed(*command, *pid)
    )]
    NotDone {
        /// What was asked for.
        command: Command,
        /// The process.
        pid: i32,
    },
    /// The original's protocol has no such request.
    #[error(
        "{request} needs the daemon's UNIX socket: over TCP only the original's protocol works, which has no such request"
    )]
    OnlyUnix {
        /// What was asked for.
        request: &'static str,
    },
    /// The request can't be put into the original's protocol.
    #[error("cannot ask over TCP: {0}")]
    Legacy(#[from] LegacyError),
}

impl Error {
    /// Exit status of a command that ends with this error: 1 wrong usage, 2 refused by policy, 3 refused by the
    /// target's state, 4 not done (or not known to be done), 5 target lost.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Failed(failure) => failure.code.exit_status(),
            Self::NoSuchProcess { .. } | Self::NotAProcess { .. } => 3,
            Self::Location { .. } | Self::OnlyUnix { .. } | Self::Legacy(_) => 1,
            Self::Connect { .. }
            | Self::OpenTarget { .. }
            | Self::Silent { .. }
            | Self::Closed
            | Self::Transfer { .. }
            | Self::Frame(_)
            | Self::Version { .. }
            | Self::Unexpected(_)
            | Self::NotDone { .. } => 4,
        }
    }

    /// The stable name of the failure, for programs: the daemon's code where it sent one.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Failed(failure) => failure.code.name(),
            Self::NoSuchProcess { .. } | Self::NotAProcess { .. } => Code::NoSuchProcess.name(),
            Self::Location { .. } | Self::Legacy(_) => "invalid-argument",
            Self::Connect { .. } => "not-connected",
            Self::Silent { .. } => "silent",
            Self::Closed | Self::Transfer { .. } => "disconnected",
            Self::Frame(_) | Self::Version { .. } | Self::Unexpected(_) => Code::Protocol.name(),
            Self::OpenTarget { .. } | Self::OnlyUnix { .. } => Code::Unsupported.name(),
            Self::NotDone { .. } => "not-done",
        }
    }
}

fn deed(command: Command, pid: i32) -> String {
    match command {
        Command::Checkpoint => format!("put process {pid} to sleep"),
        Command::Restore => format!("wake process {pid}"),
    }
}

fn connect_advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "no daemon listens there: start one with memcr -l"
        }
        io::ErrorKind::PermissionDenied => {
            "you may not open that socket: join the group that the daemon was given by -g"
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            "nobody answers there, or the daemon is too busy: try again"
        }
        _ => "a daemon listens where its -l says",
    }
}
