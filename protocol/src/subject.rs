//! Who asks, and for which process: the facts that a decision is made from.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// The client at the other end of a socket, as the kernel names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// By what it is known, and so what counts of the rest.
    pub kind: PeerKind,
    /// Of a process its effective user id at connect(), of a socket the user who made it.
    pub uid: u32,
    /// Effective group id: of a process at connect(), of a socket's process now; [`NO_ID`] if there is none.
    pub gid: u32,
    /// Supplementary groups at that time, without `gid` unless the process has it there too.
    pub groups: Vec<u32>,
    /// Process id in our pid namespace; 0 if it isn't visible there, or none was found.
    pub pid: i32,
    /// Path of its executable; `None` if it couldn't be read (it has exited, say), or nobody looked.
    pub executable: Option<String>,
    /// Path of its cgroup, as [`TargetFacts::cgroup`]; likewise.
    pub cgroup: Option<String>,
    /// The namespaces it is in; likewise.
    pub namespaces: Option<Namespaces>,
}

/// Which namespaces a process is in, by the inode numbers of /proc/PID/ns: equal for the same namespace only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// The pid namespace.
    pub pid: u64,
    /// The user namespace.
    pub user: u64,
}

/// By what a client is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerKind {
    /// Its process, which connected a UNIX socket (SO_PEERCRED).
    Process,
    /// The user of its socket, at the other end of a TCP connection within this machine (sock_diag(7)). Nothing
    /// else is certain: a process that has the socket, and its groups, are for the records only.
    Socket,
    /// Nothing: it comes from elsewhere over TCP. Its ids mean nothing.
    Anonymous,
}

/// What stands for no user or group (`(uid_t) -1`).
pub const NO_ID: u32 = u32::MAX;

impl Peer {
    /// A client of which nobody can say who it is.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { kind: PeerKind::Anonymous, ..Self::by_socket(NO_ID) }
    }

    /// The client whose TCP socket is this user's.
    #[must_use]
    pub fn by_socket(uid: u32) -> Self {
        Self {
            kind: PeerKind::Socket,
            uid,
            gid: NO_ID,
            groups: Vec::new(),
            pid: 0,
            executable: None,
            cgroup: None,
            namespaces: None,
        }
    }

    /// Whether `group` is its effective or one of its supplementary groups; `None` if that is not known for
    /// certain.
    #[must_use]
    pub fn is_in_group(&self, group: u32) -> Option<bool> {
        self.is_in(|own| own == group)
    }

    /// The same for any of the groups that `is_meant`.
    #[must_use]
    pub fn is_in(&self, is_meant: impl Fn(u32) -> bool) -> Option<bool> {
        match self.kind {
            PeerKind::Process => Some(is_meant(self.gid) || self.groups.iter().any(|group| is_meant(*group))),
            PeerKind::Socket => None,
            PeerKind::Anonymous => Some(false),
        }
    }
}

/// What is known of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFacts {
    /// Process id in our pid namespace.
    pub pid: i32,
    /// Start time in clock ticks since boot: with the pid it names one process for good.
    pub start_time: u64,
    /// Real, effective and saved user id.
    pub uids: [u32; 3],
    /// Real, effective and saved group id.
    pub gids: [u32; 3],
    /// Path of its executable; a deleted one ends in ` (deleted)`; empty if it couldn't be read.
    pub executable: String,
    /// Path of its cgroup: in the version 2 hierarchy, unless it is the root there; else in systemd's
    /// own, else in the first one listed. Empty if it couldn't be read.
    pub cgroup: String,
    /// The namespaces it is in; `None` if they couldn't be read, or nobody looked.
    pub namespaces: Option<Namespaces>,
    /// SHA-256 of the contents of its executable; `None` if nobody needed it, or it couldn't be read.
    pub sha256: Option<[u8; 32]>,
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Put a process to sleep.
    Checkpoint,
    /// Wake it.
    Restore,
    /// See that it sleeps, in a list.
    List,
    /// Ask for its state.
    Status,
}

impl Action {
    /// The name used in policy files, logs and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Restore => "restore",
            Self::List => "list",
            Self::Status => "status",
        }
    }
}
