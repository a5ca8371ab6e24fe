//! Why the daemon can't start or go on: operation, object, cause.

use crate::sys::spawn::SpawnError;
use memcr_policy::PolicyError;
use nix::errno::Errno;
use std::io;
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
    /// A path leads over a symbolic link that a stranger could have planted.
    #[error(
        "{path}: {link} is a symbolic link of user {owner}; only links of root and of the user who starts memcr are followed"
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
    #[error("{path}: too many symbolic links")]
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
    /// Something answers at the path of the listening socket.
    #[error("{path}: another daemon listens there")]
    InUse {
        /// Path as it was given.
        path: String,
    },
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
    /// The process could not be confined.
    #[error("confine the broker: {step}: {cause}")]
    Confine {
        /// What failed.
        step: &'static str,
        /// Why.
        cause: String,
    },
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
}

impl<T> Attempt<T> for Result<T, Errno> {
    fn attempt(self, operation: &'static str, object: impl std::fmt::Display) -> Result<T, BrokerError> {
        self.map_err(|cause| BrokerError::System { operation, object: object.to_string(), cause })
    }
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, operation: &'static str, object: impl std::fmt::Display) -> Result<T, BrokerError> {
        self.map_err(|cause| Errno::from_raw(cause.raw_os_error().unwrap_or(libc::EIO)))
            .attempt(operation, object)
    }
}
