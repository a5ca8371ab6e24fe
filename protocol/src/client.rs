//! Between a client and the broker: a UNIX stream socket, frames both ways.
//!
//! The client speaks first, with [`ClientFrame::Hello`]; then any number of requests, each with an
//! id of its own choosing that the answers repeat. The target of a request is a pidfd that the
//! client opened in its own namespaces and sent (SCM_RIGHTS) with the bytes of that frame.

use crate::code::Failure;
use crate::frame::Message;
use crate::image::Compression;
use crate::report::{Entry, SleepReport, State, WakeReport};
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// Version of this protocol. The order of fields and variants is the wire format: a change of it
/// is a new version.
pub const VERSION: u16 = 2;

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientFrame {
    /// First frame of a connection.
    Hello {
        /// Must be [`VERSION`].
        version: u16,
    },
    /// A request.
    Request {
        /// Chosen by the client; repeated in every answer.
        id: u32,
        /// What is asked for.
        request: Request,
    },
}

impl Message for ClientFrame {
    const LIMIT: usize = 4096;
}

/// What can be asked for. `Checkpoint`, `Restore` and `Status` come with one pidfd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Put the process to sleep; answered when it sleeps.
    Checkpoint(CheckpointOptions),
    /// Wake it; answered when it runs.
    Restore,
    /// All targets that this client may see: an [`Answer::Entry`] each.
    List,
    /// The state of one process: an [`Answer::Entry`].
    Status,
}

/// How to put a process to sleep.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointOptions {
    /// One of the daemon's image directories, as it was given to the daemon; its first if `None`.
    pub directory: Option<String>,
    /// How its image is compressed; as the daemon does by default if `None`.
    pub compression: Option<Compression>,
}

/// What the broker sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerFrame {
    /// Answer to a hello: both versions agree.
    Hello {
        /// The daemon's [`VERSION`].
        version: u16,
        /// Name and version of the daemon.
        server: String,
    },
    /// An answer to the request of this id. The last one is `Done` or `Failed`.
    Answer {
        /// The request's id; 0 if the failure is the connection's.
        id: u32,
        /// The answer.
        answer: Answer,
    },
}

impl Message for ServerFrame {
    const LIMIT: usize = 16 * 1024;
}

/// One answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// How far it is; sent now and then.
    Progress {
        /// What is being done.
        state: State,
        /// Bytes done.
        done: u64,
        /// Bytes to do, as far as known.
        total: u64,
    },
    /// One target, for `List` and `Status`.
    Entry(Entry),
    /// Done; nothing follows.
    Done(Completion),
    /// Not done; nothing follows.
    Failed(Failure),
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Completion {
    /// The process sleeps.
    Asleep(SleepReport),
    /// The process runs.
    Awake(WakeReport),
    /// All entries were sent.
    Listed,
}
