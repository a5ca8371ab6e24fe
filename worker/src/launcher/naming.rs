//! Naming clients, processes and programs: only the privileged side can read which program a stranger's process
//! runs, what descriptors it has, which process has a socket, and which pid namespace it is in.

use crate::confine;
use crate::error::Result;
use crate::sys::pidfd;
use crate::target::clients::Clients;
use crate::target::facts;
use crate::target::numbers::PidNamespace;
use crate::target::orphans;
use crate::target::proc_directory::ProcDirectory;
use crate::target::socket_holder::{self, Holder};
use crate::target::tcp_clients::{Named, TcpClients};
use memcr_protocol::subject::Peer;
use nix::unistd::Pid;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

/// Time in which the process of a client over TCP is looked for, for the records.
const FOR_RECORDS: Duration = Duration::from_millis(20);
/// The same when it decides which process a number means.
const FOR_NUMBERS: Duration = Duration::from_millis(200);

/// The peer of a client's socket; `None` if the kernel doesn't name one.
///
/// # Errors
/// When CAP_SYS_PTRACE could not be put out of effect again: nothing may go on then.
pub(super) fn peer(client: &OwnedFd, clients: &Clients) -> Result<Option<Peer>> {
    match clients {
        // of sockets that are no clients' the kernel would tell, too
        Clients::AcceptedAt(_) | Clients::One { .. } => {
            with_ptrace(|| clients.peer(client.as_fd()).ok().flatten())
        }
        Clients::AcceptedOverTcp(clients) => over_tcp(client, clients, FOR_RECORDS),
    }
}

/// The peer of a client's socket over TCP, with the process that holds it if that is found in `time`.
fn over_tcp(client: &OwnedFd, clients: &TcpClients, time: Duration) -> Result<Option<Peer>> {
    let Some(named) = clients.name(client.as_fd()).ok().flatten() else { return Ok(None) };
    let holder = match named {
        Named::User { uid, inode } => with_ptrace(|| socket_holder::find(client, uid, inode, time))?,
        Named::Anonymous => None,
    };
    let peer = named.peer();
    Ok(Some(match holder {
        Some(Holder { gid, groups, pid, executable }) => Peer { gid, groups, pid, executable, ..peer },
        None => peer,
    }))
}

/// What is told of a process that is not asleep here.
pub(super) struct Program {
    /// Path of its program; `None` if the process is gone or runs none.
    pub(super) executable: Option<String>,
    /// Whether it may sleep nevertheless.
    pub(super) may_be_guarded: bool,
}

/// The program of a process.
///
/// # Errors
/// As above.
pub(super) fn program(target: &OwnedFd, clients: &Clients) -> Result<Program> {
    let found = with_ptrace(|| {
        clients.require_target(target.as_fd()).ok()?;
        let directory = ProcDirectory::open(facts::pid_of(target.as_fd()).ok()?).ok()?;
        let executable = Some(facts::executable(&directory)).filter(|program| !program.is_empty());
        let may_be_guarded = orphans::may_be_asleep(&directory);
        // it was read of this process, if that is still there
        (pidfd::has_exited(target) == Ok(false)).then_some(Program { executable, may_be_guarded })
    })?;
    Ok(found.unwrap_or(Program { executable: None, may_be_guarded: true }))
}

/// The process that has `number` in the pid namespace of a client; `None` if there is none, or the client is gone.
///
/// Of a client over TCP only the process that holds its socket can tell its namespace. If none is found the number
/// means our own, but only while no process lives in another.
///
/// # Errors
/// As above.
pub(super) fn target(client: &OwnedFd, number: i32, clients: &Clients) -> Result<Option<OwnedFd>> {
    let (is_over_tcp, named) = match clients {
        Clients::AcceptedOverTcp(clients) => (true, over_tcp(client, clients, FOR_NUMBERS)?),
        Clients::AcceptedAt(_) | Clients::One { .. } => {
            (false, clients.credentials(client.as_fd()).unwrap_or(None))
        }
    };
    let Some(named) = named else { return Ok(None) };
    with_ptrace(|| {
        let is_hidden = is_over_tcp && named.pid == 0;
        let pid = if is_hidden { Pid::this() } else { Pid::from_raw(named.pid) };
        let namespace = PidNamespace::of(pid).ok()?;
        if is_hidden && !namespace.has_everybody() {
            return None;
        }
        // it is the client's, if that is still there
        let is_there = || match clients.credentials(client.as_fd()) {
            Ok(Some(_)) => is_over_tcp || facts::is_peer_there(client.as_fd()),
            Ok(None) | Err(_) => false,
        };
        if is_there() { find(&namespace, number) } else { None }
    })
}

fn find(namespace: &PidNamespace, number: i32) -> Option<OwnedFd> {
    let here = namespace.find(number)?;
    let target = pidfd::of_process(here).ok()?;
    // since that was opened the number is its own, as long as it lives
    (namespace.names(here, number) && pidfd::has_exited(&target) == Ok(false)).then_some(target)
}

/// Has CAP_SYS_PTRACE in effect while something about a process is read.
fn with_ptrace<T>(read: impl FnOnce() -> Option<T>) -> Result<Option<T>> {
    if confine::raise_ptrace().is_err() {
        return Ok(None);
    }
    let result = read();
    confine::lower_ptrace()?;
    Ok(result)
}
