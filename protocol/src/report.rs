//! What an operation did: figures for clients, for the audit log and for people.

use crate::image::Checksum;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// Which promise holds while a target sleeps, should our processes die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Guard {
    /// A full userfaultfd: whoever touches a freed page waits for its content.
    Full,
    /// PTRACE_O_EXITKILL: the target dies with its worker rather than run on wrong memory.
    ExitKill,
}

impl Guard {
    /// The name used in logs and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ExitKill => "exit-kill",
        }
    }
}

/// How a worker is confined; what is missing is `false` or zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Landlock ABI of the kernel; 0 if there is none.
    pub landlock_abi: u32,
    /// Whether landlock enforces everything that was asked for.
    pub landlock_full: bool,
    /// Whether a seccomp filter is in force.
    pub seccomp: bool,
    /// Whether the permitted capability set is empty.
    pub capabilities_empty: bool,
}

/// Figures of one process put to sleep. Sizes are bytes, times microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SleepReport {
    /// Anonymous resident memory before.
    pub rss_before: u64,
    /// Anonymous resident memory asleep.
    pub rss_asleep: u64,
    /// Memory taken away, zero pages included.
    pub dumped: u64,
    /// Memory taken away that was all zero and takes no image bytes.
    pub zero: u64,
    /// Pages taken away.
    pub pages: u64,
    /// Size of the image.
    pub image: u64,
    /// Memory of mapped files that was dropped besides (`-f`); it comes back from the files.
    pub file_dropped: u64,
    /// Checksum of the memory, if the daemon makes them.
    pub checksum: Option<Checksum>,
    /// Threads frozen.
    pub threads: u32,
    /// What holds while it sleeps.
    pub guard: Guard,
    /// From the request to all threads frozen.
    pub attach_micros: u64,
    /// Writing the image.
    pub dump_micros: u64,
    /// Guarding and freeing the pages.
    pub free_micros: u64,
}

/// Figures of one process woken. Sizes are bytes, times microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WakeReport {
    /// Memory given back, zero pages included.
    pub restored: u64,
    /// Pages given back.
    pub pages: u64,
    /// Checksum of the memory that was given back, if the image has one; it was compared before.
    pub checksum: Option<Checksum>,
    /// Anonymous resident memory after.
    pub rss_after: u64,
    /// From the order to the target running on.
    pub restore_micros: u64,
}

/// What is going on with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It runs; nothing is known of it.
    Running,
    /// Its threads are being frozen.
    Attaching,
    /// Its memory is being written.
    Dumping,
    /// It sleeps.
    Asleep,
    /// Its memory is being put back.
    Restoring,
}

impl State {
    /// The name used in tables, logs and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Attaching => "attaching",
            Self::Dumping => "dumping",
            Self::Asleep => "asleep",
            Self::Restoring => "restoring",
        }
    }
}

/// One target in a list or a status answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Process id in the daemon's pid namespace.
    pub pid: i32,
    /// Effective user id of the target.
    pub uid: u32,
    /// Path of its executable.
    pub executable: String,
    /// What is going on with it.
    pub state: State,
    /// Seconds since this state began.
    pub since_seconds: u64,
    /// Figures, once it sleeps.
    pub sleep: Option<SleepReport>,
}
