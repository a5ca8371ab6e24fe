//! Between the broker and the launcher: a SOCK_SEQPACKET socketpair, one frame a packet.
//!
//! The launcher answers each job by its ticket. What it accepts is fixed: [`Job::Setup`] once and
//! first, then any of the others.

use crate::client::CheckpointOptions;
use crate::frame::Message;
use crate::subject::Peer;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What the broker sends. The file descriptors of a packet come in the order given here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Job {
    /// How the daemon was started. With the policy file (if `policy`), then /dev/userfaultfd (if
    /// `userfaultfd`), then what `clients` says.
    Setup {
        /// Whether a policy file comes along; else the built-in policy is in force.
        policy: Option<PolicySource>,
        /// Whether /dev/userfaultfd comes along.
        userfaultfd: bool,
        /// Group of the listening socket (`-g`), for the built-in policy.
        listen_group: Option<u32>,
        /// Whose sockets are to be taken for clients.
        clients: Clients,
    },
    /// Name the peer of a client's socket. With that socket.
    Identify {
        /// Repeated in the report.
        ticket: u64,
    },
    /// Name the program of a process. With its pidfd.
    NameProgram {
        /// Repeated in the report.
        ticket: u64,
    },
    /// Fork a worker that puts a process to sleep. With: the worker's control socket, the client's
    /// socket, the target's pidfd, the image directory.
    Sleep {
        /// Repeated in every report about this worker.
        ticket: u64,
        /// What the client asked for.
        options: CheckpointOptions,
    },
}

impl Message for Job {
    const LIMIT: usize = 6 * 1024;
}

/// Whose sockets the privileged side takes for clients. The kernel tells of any socket who is behind it,
/// and of some that the broker has that is root: a captured broker must not pass these off as a client's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Clients {
    /// Those that were accepted at the socket with this address: the path, or a zero byte and a name.
    AcceptedAt(Vec<u8>),
    /// The one whose socket comes with the set-up, for the one process whose pidfd comes after it.
    One,
}

/// Where a policy file's text came from, for error messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySource {
    /// Path as it was given.
    pub path: String,
}

/// What the launcher sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LauncherReport {
    /// Set up; jobs may come.
    Ready,
    /// It can't be set up; the launcher exits.
    SetupFailed {
        /// Why, as a sentence.
        reason: String,
    },
    /// Answer to `Identify`.
    Identified {
        /// Ticket of the job.
        ticket: u64,
        /// The peer; `None` if the kernel doesn't name one that is visible to us.
        peer: Option<Peer>,
    },
    /// Answer to `NameProgram`.
    ProgramNamed {
        /// Ticket of the job.
        ticket: u64,
        /// Path of its program; `None` if it is gone, or has none.
        executable: Option<String>,
    },
    /// A worker was forked for `Sleep`.
    Started {
        /// Ticket of the job.
        ticket: u64,
        /// Process id of the worker.
        worker: i32,
    },
    /// The worker of a `Sleep` has ended and its image is removed; nothing follows for this ticket.
    Ended {
        /// Ticket of the job.
        ticket: u64,
        /// How it ended.
        ending: Ending,
    },
    /// The worker died while its target slept; a successor restores the target.
    Succeeded {
        /// Ticket of the job.
        ticket: u64,
        /// Process id of the successor.
        worker: i32,
    },
}

impl Message for LauncherReport {
    // a peer may have 65,536 supplementary groups
    const LIMIT: usize = 512 * 1024;
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It exited by itself, having sent its last event.
    Exited,
    /// It died before anything was freed; its target runs on unharmed.
    DiedUnharmed,
    /// It died while its target slept and could not be succeeded; the target is lost or blocked on
    /// its guard, never on wrong memory.
    DiedAsleep,
    /// The worker could not be forked.
    NotStarted,
}
