//! Between the broker and one worker: a SOCK_SEQPACKET socketpair, one frame a packet.
//!
//! When the broker's end closes, the worker undoes or restores, and exits.

use crate::code::Failure;
use crate::frame::Message;
use crate::report::{Guard, Sandbox, SleepReport, State, WakeReport};
use crate::subject::{Peer, TargetFacts};
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// What a worker sends, in this order: `Subjects`, `Decided`, `Confined`, `Progress`..., `Asleep`,
/// then on a wake `Progress`..., `Awake` or `SleepsOn`. `Failed` may come at any time and is the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerEvent {
    /// Who asks for what, as the worker sees it.
    Subjects {
        /// The client of the socket that came with the job.
        peer: Peer,
        /// The target.
        target: TargetFacts,
    },
    /// The authoritative decision, made on the frozen target (a denial may come before freezing).
    Decided {
        /// Name of the rule that decided.
        rule: String,
        /// Whether it allows the checkpoint.
        allowed: bool,
    },
    /// The worker has given up everything it doesn't need any more.
    Confined {
        /// How it is confined.
        sandbox: Sandbox,
        /// What will hold while the target sleeps.
        guard: Guard,
    },
    /// How far it is.
    Progress {
        /// What is being done.
        state: State,
        /// Bytes done.
        done: u64,
        /// Bytes to do, as far as known.
        total: u64,
    },
    /// The target sleeps.
    Asleep(SleepReport),
    /// A restore was ordered by a client that may not; the target sleeps on.
    RestoreDenied {
        /// Ticket of the order.
        ticket: u64,
        /// Name of the rule that decided.
        rule: String,
    },
    /// A restore was accepted.
    RestoreAllowed {
        /// Ticket of the order.
        ticket: u64,
        /// Name of the rule that decided.
        rule: String,
    },
    /// A restore did not work, and the target sleeps on as it was; it may be tried again.
    SleepsOn(Failure),
    /// The target runs again with all of its memory; last event.
    Awake(WakeReport),
    /// It did not work; last event. Unless the code is `TargetLost`, the target runs unharmed.
    Failed(Failure),
}

impl Message for WorkerEvent {
    // a peer may have 65,536 supplementary groups
    const LIMIT: usize = 512 * 1024;
}

/// What the broker sends to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerCommand {
    /// Restore, or call off the checkpoint under way, for the client whose socket comes along. The
    /// worker decides.
    Restore {
        /// Repeated in the answer.
        ticket: u64,
    },
    /// The daemon ends: undo or restore, whoever asked for it.
    Wake,
}

impl Message for WorkerCommand {
    const LIMIT: usize = 64;
}
