//! Requests on their way, and what is said to those that go nowhere.

use crate::audit::record::Wire;
use memcr_protocol::client::CheckpointOptions;
use memcr_protocol::code::{Code, Failure};
use memcr_protocol::subject::{Action, Peer};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

/// A client, as far as it has a name.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) peer: Peer,
    /// Whether the kernel can name its user and process here (over TCP its user), or it is known that nobody can;
    /// else it may nothing.
    pub(crate) known: bool,
    /// Whether the launcher was asked about it: `peer` has its groups and its program.
    pub(crate) looked_up: bool,
    /// Where it comes from, over TCP.
    pub(crate) address: Option<SocketAddr>,
}

/// A request that has not been answered yet.
#[derive(Debug)]
pub(crate) struct Pending {
    /// Number in the audit log.
    pub(crate) number: u64,
    /// Which connection it came from; it may be closed by now.
    pub(crate) connection: u64,
    /// The client's id of it; clients of the original have none.
    pub(crate) id: u32,
    /// What the client speaks.
    pub(crate) wire: Wire,
    /// Who asks.
    pub(crate) asker: Rc<Asker>,
    /// What for.
    pub(crate) action: Action,
    /// The target; 0 if there is none, or it is not known.
    pub(crate) pid: i32,
    /// When it came.
    pub(crate) since: Instant,
}

/// A checkpoint, with what the worker will need.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) pending: Pending,
    pub(crate) options: CheckpointOptions,
    pub(crate) pidfd: OwnedFd,
    pub(crate) client: OwnedFd,
}

/// A restore, with what the worker will need.
#[derive(Debug)]
pub(crate) struct Restore {
    pub(crate) pending: Pending,
    pub(crate) client: OwnedFd,
}

/// The answer to a restore of a process that runs.
pub(crate) fn not_asleep(pid: i32) -> Failure {
    Failure::new(Code::NotAsleep, format!("process {pid} is not asleep"))
}

/// What a denied client is told, in the worker's words: the rule, and nothing about the target.
pub(crate) fn denial(action: Action, pid: i32, rule: &str) -> Failure {
    let what = match action {
        Action::Checkpoint | Action::Restore => format!("{} process {pid}", action.name()),
        Action::Status => format!("see the state of process {pid}"),
        Action::List => "list processes".to_owned(),
    };
    let message = format!("the policy does not allow this client to {what} (rule: {rule})");
    Failure::new(Code::Denied, message)
}
