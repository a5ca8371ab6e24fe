//! Why the daemon can't start or go on: operation, object, cause.

use crate::startup::paths::Place;
use crate::sys::spawn::SpawnError;
use memcr_policy::PolicyError;
use nix::errno::Errno;
use std::io;
use std::net::SocketAddr;
use thiserror::Error;

/// Any failure of the broker itself. Failures of single requests are
/// [`memcr_protocol::code::Failure`]s instead.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// A system call failed.
    #[error("{operation} {object}: {cause}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// What the kernel said.
        cause: Errno,
    },
    /// Something that the command line names can't be used.
    #[error("{operation} the {place}: {cause}; {advice}")]
    Place {
        /// What was tried.
        operation: &'static str,
        /// What it is for, its path and its option.
        place: String,
        /// What the kernel said.
        cause: Errno,
        /// What to do about it.
        advice: &'static str,
    },
    /// A path leads over a symbolic link that a stranger could have planted.
    #[error(
        "{path}: {link} is a symbolic link of user {owner}; only links of root and of the user who starts memcr are followed: name the place that it leads to"
    )]
    ForeignLink {
        /// Path as it was given.
        path: String,
        /// The component that is a link.
        link: String,
        /// Owner of the link.
        owner: u32,
    },
    /// A path leads over too many symbolic links.
    #[error("{path}: too many symbolic links; name the place that they lead to")]
    TooManyLinks {
        /// Path as it was given.
        path: String,
    },
    /// A path is not what it should be.
    #[error("{path}: {reason}")]
    Unsuitable {
        /// Path as it was given.
        path: String,
        /// What is wrong with it, and what to do about it.
        reason: String,
    },
    /// A TCP port can't be listened on.
    #[error("listen on {address} (-l): {cause}; {advice}")]
    Port {
        /// The address, with the port.
        address: SocketAddr,
        /// What the kernel said.
        cause: Errno,
        /// What to do about it.
        advice: &'static str,
    },
    /// Something answers at the path of the listening socket.
    #[error("{path}: another daemon listens there; name another path, or end that daemon")]
    InUse {
        /// Path as it was given.
        path: String,
    },
    /// What a service manager passed can't be used.
    #[error("socket of the service manager (LISTEN_FDS): {0}")]
    Activation(String),
    /// The user, group or way of starting can't be used.
    #[error("{0}")]
    Identity(String),
    /// The policy file has an error.
    #[error("{path}: {cause}")]
    Policy {
        /// Path as it was given.
        path: String,
        /// Where and what.
        cause: PolicyError,
    },
    /// The launcher could not be started.
    #[error("start {program}: {cause}")]
    Spawn {
        /// Its path.
        program: String,
        /// Which step failed, and why.
        cause: SpawnFailure,
    },
    /// The launcher started but does not do its work.
    #[error("launcher {program}: {reason}")]
    Launcher {
        /// Its path.
        program: String,
        /// What happened.
        reason: String,
    },
    /// The sandbox can't be complete, and must be.
    #[error("{0}")]
    Sandbox(String),
    /// A mistake in this program.
    #[error(
        "a fault of its own (above) ends the daemon; every process that sleeps is woken by its worker. Please report it"
    )]
    Fault,
    /// The process could not be confined.
    #[error("confine the broker: {step}: {cause}")]
    Confine {
        /// What failed.
        step: &'static str,
        /// Why.
        cause: String,
    },
}

impl BrokerError {
    /// Exit status of a command that ends with this: 1 if the command line, or what it names, has to be
    /// changed; else 4, for nothing was done.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Port { cause: Errno::EADDRINUSE, .. }
            | Self::System { .. }
            | Self::InUse { .. }
            | Self::Spawn { .. }
            | Self::Launcher { .. }
            | Self::Sandbox(_)
            | Self::Fault
            | Self::Confine { .. } => 4,
            Self::Port { .. }
            | Self::Place { .. }
            | Self::ForeignLink { .. }
            | Self::TooManyLinks { .. }
            | Self::Unsuitable { .. }
            | Self::Activation(_)
            | Self::Identity(_)
            | Self::Policy { .. } => 1,
        }
    }
}

/// Why the launcher did not come to run.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct SpawnFailure(SpawnError);

impl From<SpawnError> for SpawnFailure {
    fn from(cause: SpawnError) -> Self {
        Self(cause)
    }
}

/// Says what a failing system call was for.
pub(crate) trait Attempt<T> {
    /// The operation and its object, for the message.
    fn attempt(self, operation: &'static str, object: impl std::fmt::Display) -> Result<T, BrokerError>;

    /// The same for something that the command line names.
    fn attempt_at(self, operation: &'static str, place: Place<'_>) -> Result<T, BrokerError>;
}

impl<T> Attempt<T> for Result<T, Errno> {
    fn attempt(self, operation: &'static str, object: impl std::fmt::Display) -> Result<T, BrokerError> {
        self.map_err(|cause| BrokerError::System { operation, object: object.to_string(), cause })
    }

    fn attempt_at(self, operation: &'static str, place: Place<'_>) -> Result<T, BrokerError> {
        self.map_err(|cause| BrokerError::Place {
            operation,
            place: place.to_string(),
            cause,
            advice: advice(cause),
        })
    }
}

fn advice(cause: Errno) -> &'static str {
    match cause {
        Errno::ENOENT => "it is not there, or its directory is not: make that, or name another path",
        Errno::ENOTDIR => "a part of the path is no directory: name another path",
        Errno::EACCES | Errno::EPERM => {
            "the user who starts memcr may not: change the permissions, or name another path"
        }
        Errno::EROFS => "the file system is read-only: name another path",
        Errno::ENAMETOOLONG => "name a shorter path",
        _ => "name another path",
    }
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, operation: &'static str, object: impl std::fmt::Display) -> Result<T, BrokerError> {
        self.map_err(errno).attempt(operation, object)
    }

    fn attempt_at(self, operation: &'static str, place: Place<'_>) -> Result<T, BrokerError> {
        self.map_err(errno).attempt_at(operation, place)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn errno(cause: io::Error) -> Errno {
    Errno::from_raw(cause.raw_os_error().unwrap_or(libc::EIO))
}
