//! Who asks, and for which process: the facts that a decision is made from.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// The process at the other end of a client's socket, as the kernel names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Effective user id at connect().
    pub uid: u32,
    /// Effective group id at connect().
    pub gid: u32,
    /// Supplementary groups at connect(), without `gid` unless the process has it there too.
    pub groups: Vec<u32>,
    /// Process id in our pid namespace; 0 if it isn't visible there.
    pub pid: i32,
    /// Path of its executable; `None` if it couldn't be read (it has exited, say).
    pub executable: Option<String>,
    /// Whether nobody can say who it is: a client from another machine. Its ids mean nothing.
    pub anonymous: bool,
}

impl Peer {
    /// Whether `group` is its effective or one of its supplementary groups.
    #[must_use]
    pub fn is_in_group(&self, group: u32) -> bool {
        self.gid == group || self.groups.contains(&group)
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
