//! Between the broker and the launcher: a SOCK_SEQPACKET socketpair, one frame a packet.
//!
//! The launcher answers each job by its ticket. What it accepts is fixed: [`Job::Setup`] once and
//! first, then any of the others.

use crate::frame::Message;
use crate::image::{Compression, ImageSettings};
use crate::parasite::MAX_PATH;
use crate::sandbox::{Lack, Strictness};
use crate::subject::Peer;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
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
        /// How images are written.
        image: ImageSettings,
        /// Whether clean pages of mapped files are dropped as well (`-f`).
        drop_file_pages: bool,
        /// How workers talk to their parasites.
        transport: Transport,
        /// Whether anything may run where the sandbox can't be complete.
        sandbox: Strictness,
    },
    /// Name the peer of a client's socket. With that socket.
    Identify {
        /// Repeated in the report.
        ticket: u64,
    },
    /// Find the process that has this number in the pid namespace of a client. With that client's socket.
    FindTarget {
        /// Repeated in the report.
        ticket: u64,
        /// The number that the client gave.
        pid: i32,
    },
    /// Name the program of a process. With its pidfd.
    NameProgram {
        /// Repeated in the report.
        ticket: u64,
    },
    /// Read the policy file anew, and judge by it from then on; if it can't be read, go on as before.
    Reload,
    /// Fork a worker that puts a process to sleep. With: the worker's control socket, the client's
    /// socket, the target's pidfd, the image directory.
    Sleep {
        /// Repeated in every report about this worker.
        ticket: u64,
        /// How it is to be done.
        options: SleepOptions,
    },
}

impl Job {
    /// The name used in records.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Setup { .. } => "setup",
            Self::Identify { .. } => "identify",
            Self::FindTarget { .. } => "find-target",
            Self::NameProgram { .. } => "name-program",
            Self::Reload => "reload",
            Self::Sleep { .. } => "sleep",
        }
    }
}

impl Message for Job {
    const LIMIT: usize = 6 * 1024;
}

/// How one process is put to sleep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SleepOptions {
    /// How its image is compressed.
    pub compression: Compression,
    /// Seconds after which a checkpoint that isn't done is undone (`-t`).
    pub limit_seconds: Option<u32>,
}

/// How a worker talks to its parasite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// By a socketpair that the parasite makes, of which one end is taken out of the target
    /// (pidfd_getfd(2)); by a socket with an abstract name where the kernel can't do that.
    Taken,
    /// By a socket that the parasite makes in a directory (`-S`).
    Named {
        /// The directory, as the target finds it.
        directory: Vec<u8>,
        /// Group of the socket, whose mode is 0660 then (`-G`).
        group: Option<u32>,
    },
}

impl Transport {
    /// Longest directory of [`Transport::Named`], in bytes: the name of a socket in it must fit into the address
    /// of one.
    pub const MAX_DIRECTORY: usize = MAX_PATH - "/".len() - Self::NAME_LENGTH;

    /// Longest name in it: `memcr-`, a process id, and 16 digits that nobody can foresee.
    const NAME_LENGTH: usize = "memcr-4194304-0123456789abcdef".len();
}

/// Whose sockets the privileged side takes for clients. The kernel tells of any socket who is behind it,
/// and of some that the broker has that is root: a captured broker must not pass these off as a client's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Clients {
    /// Those that were accepted at the socket with this address: the path, or a zero byte and a name.
    AcceptedAt(Vec<u8>),
    /// Those that were accepted at one of these TCP addresses. Their peers are named by sock_diag(7).
    AcceptedOverTcp(Vec<SocketAddr>),
    /// The one whose socket comes with the set-up, for the one process whose pidfd comes after it.
    One,
}

/// Where a policy file's text came from, for error messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySource {
    /// Path from the root on, without links.
    pub path: String,
    /// The user besides root whose file it may be.
    pub owner: u32,
}

/// The text of a policy file, and the accounts that its names stand for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyText {
    /// The text.
    pub text: String,
    /// Its accounts.
    pub accounts: Accounts,
}

impl Message for PolicyText {
    // what one packet between our processes holds, less its frame
    const LIMIT: usize = 192 * 1024;
}

/// Numbers of users and groups by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// Users.
    pub users: Vec<(String, u32)>,
    /// Groups.
    pub groups: Vec<(String, u32)>,
}

/// What the launcher sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LauncherReport {
    /// Set up; jobs may come.
    Ready {
        /// What launcher and workers have to do without.
        missing: Vec<Lack>,
    },
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
    /// Answer to `FindTarget`. With the pidfd of the process, if there is one.
    TargetFound {
        /// Ticket of the job.
        ticket: u64,
        /// Whether there is such a process, which the client's namespace tells, and its pidfd comes along.
        found: bool,
    },
    /// Answer to `NameProgram`.
    ProgramNamed {
        /// Ticket of the job.
        ticket: u64,
        /// Path of its program; `None` if it is gone, or has none.
        executable: Option<String>,
        /// Whether it has a userfaultfd: one that was left asleep when all of memcr died looks like that. Also if
        /// nobody can tell.
        may_be_guarded: bool,
    },
    /// Answer to `Reload`: the new policy is in force, in every worker too.
    PolicyReloaded(PolicyText),
    /// Answer to `Reload`: the old policy stays in force.
    PolicyKept {
        /// Why, as a sentence.
        reason: String,
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
