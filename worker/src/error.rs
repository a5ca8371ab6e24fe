//! What can go wrong with a job, and how it is told to the outside.

use crate::image::ImageError;
use memcr_protocol::code::{Code, Failure};
use nix::errno::Errno;
use thiserror::Error;

/// Why a job failed.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// A system call failed.
    #[error("{operation} {object}: {}", .cause.desc())]
    System {
        /// What was tried.
        operation: &'static str,
        /// On what.
        object: String,
        /// Error number.
        cause: Errno,
    },
    /// The policy says no.
    #[error("the policy does not allow this client to {action} process {pid} (rule: {rule})")]
    Denied { action: &'static str, pid: i32, rule: String },
    /// The policy allows it within limits.
    #[error("process {pid} can't be put to sleep: {reason} (rule: {rule})")]
    OverLimit { pid: i32, rule: String, reason: String },
    /// There is no such process, or not any more.
    #[error("process {pid} does not exist or has exited")]
    NoSuchProcess { pid: i32 },
    /// The target can't be put to sleep safely.
    #[error("process {pid} can't be put to sleep: {reason}")]
    Refused { pid: i32, reason: String },
    /// There is no memory to restore into.
    #[error(
        "too little memory to wake process {pid}: it sleeps on, unharmed; free memory or raise the limit of its \
         cgroup, then try again"
    )]
    OutOfMemory { pid: i32 },
    /// The image can't be written.
    #[error("writing the image of process {pid}: {cause}; the process runs on unharmed")]
    Storage { pid: i32, cause: String },
    /// The image can't be read just now.
    #[error("reading the image of process {pid} back: {cause}; it sleeps on, try again")]
    NotReadYet { pid: i32, cause: ImageError },
    /// The image can't be read back.
    #[error("reading the image of process {pid} back: {cause}; the process was killed")]
    Unreadable { pid: i32, cause: ImageError },
    /// The target died.
    #[error("process {pid} died {when}")]
    Lost { pid: i32, when: &'static str },
    /// A thread of it died.
    #[error(
        "process {pid} lost a thread while memcr worked in it: its seccomp filter killed that for a call of memcr's, and \
         the rule should not permit `seccomp`. The process is broken: start it anew"
    )]
    ThreadKilled { pid: i32 },
    /// A signal ends it.
    #[error(
        "process {pid} got {signal} while it slept, which ends it: it was let go to die, and its memory was not \
         given back"
    )]
    Doomed { pid: i32, signal: String },
    /// Called off.
    #[error("the checkpoint of process {pid} was called off; the process runs on unharmed")]
    Aborted { pid: i32 },
    /// Something of ours is left in the target, or its memory is in the image: a successor's task.
    #[error("{0}; a successor takes over")]
    Unsettled(Box<Self>),
    /// It took too long.
    #[error("process {pid}: {what} did not finish in {seconds} seconds; undone")]
    Timeout { pid: i32, what: &'static str, seconds: u64 },
    /// The system can't do it.
    #[error("{0}")]
    Unsupported(String),
    /// A mistake of ours, found by a panic.
    #[error("{0} met a fault of its own; the log of the daemon has more. Please report it")]
    Fault(&'static str),
    /// Another part of memcr broke an agreement.
    #[error("{0}")]
    Protocol(String),
    /// The broker broke one with the launcher, which is put on record.
    #[error("{reason}")]
    Violation {
        /// Name of the job, if it could be made out.
        job: Option<&'static str>,
        /// What was wrong with it.
        reason: String,
    },
}

impl Error {
    /// Why an image could not be read back, twice: for good, unless the reason is not the image.
    pub(crate) fn unreadable(pid: i32, cause: ImageError) -> Self {
        if cause.is_of_the_moment() {
            Self::NotReadYet { pid, cause }
        } else {
            Self::Unreadable { pid, cause }
        }
    }

    /// For `map_err`: what can't be ended here.
    pub(crate) fn unsettled(self) -> Self {
        Self::Unsettled(Box::new(self))
    }

    /// For `map_err`: an agreement that was broken in this job of the broker.
    pub(crate) fn in_job(self, job: &'static str) -> Self {
        match self {
            Self::Protocol(reason) => Self::Violation { job: Some(job), reason },
            other => other,
        }
    }

    /// For `map_err`: names the operation and its object.
    pub(crate) fn system(operation: &'static str, object: impl ToString) -> impl FnOnce(Errno) -> Self {
        move |cause| Self::System { operation, object: object.to_string(), cause }
    }

    /// Whether a sleep that can't be ended for this reason never can: its target is dead, or its image is
    /// not to be trusted.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Unreadable { .. })
    }

    fn code(&self) -> Code {
        match self {
            Self::Unsettled(error) => error.code(),
            Self::System { cause: Errno::ESRCH, .. } | Self::NoSuchProcess { .. } => Code::NoSuchProcess,
            Self::System { .. } | Self::NotReadYet { .. } | Self::Fault(_) => Code::Internal,
            Self::Denied { .. } => Code::Denied,
            Self::OverLimit { .. } => Code::Limit,
            Self::Refused { .. } => Code::TargetRefused,
            Self::OutOfMemory { .. } => Code::OutOfMemory,
            Self::Storage { .. } => Code::Storage,
            Self::Unreadable { .. } | Self::Lost { .. } | Self::ThreadKilled { .. } | Self::Doomed { .. } => {
                Code::TargetLost
            }
            Self::Aborted { .. } => Code::Aborted,
            Self::Timeout { .. } => Code::Timeout,
            Self::Unsupported(_) => Code::Unsupported,
            Self::Protocol(_) | Self::Violation { .. } => Code::Protocol,
        }
    }

    /// What the broker is told.
    pub(crate) fn failure(&self) -> Failure {
        Failure::new(self.code(), self.to_string())
    }
}

/// Result of this crate.
pub(crate) type Result<T> = std::result::Result<T, Error>;
