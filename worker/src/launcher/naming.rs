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
use crate::target::tcp_clients::Named;
use memcr_protocol::subject::Peer;
use nix::unistd::Pid;
use std::os::fd::{AsFd as _, OwnedFd};

/// The peer of a client's socket; `None` if the kernel doesn't name one.
///
/// # Errors
/// When CAP_SYS_PTRACE could not be put out of effect again: nothing may go on then.
pub(super) fn peer(client: &OwnedFd, clients: &Clients) -> Result<Option<Peer>> {
    match clients {
        Clients::AcceptedAt(_) | Clients::One { .. } => {
            with_ptrace(|| facts::peer(client.as_fd()).ok().flatten())
        }
        Clients::AcceptedOverTcp(clients) => {
            let Some(named) = clients.name(client.as_fd()).ok().flatten() else { return Ok(None) };
            let holder = match named {
                Named::User { uid, inode } => with_ptrace(|| socket_holder::find(client, uid, inode))?,
                Named::Anonymous => None,
            };
            let peer = named.peer();
            Ok(Some(match holder {
                Some(Holder { gid, groups, pid, executable }) => {
                    Peer { gid, groups, pid, executable, ..peer }
                }
                None => peer,
            }))
        }
    }
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
pub(super) fn program(target: &OwnedFd) -> Result<Program> {
    let found = with_ptrace(|| {
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
/// Of a client over TCP only the process that holds its socket could tell its namespace. If none is found the
/// number means our own: whoever hides there is judged by its user all the same.
///
/// # Errors
/// As above.
pub(super) fn target(client: &OwnedFd, number: i32, clients: &Clients) -> Result<Option<OwnedFd>> {
    let is_over_tcp = matches!(clients, Clients::AcceptedOverTcp(_));
    // of sockets that are no clients' the kernel would tell, too
    let named = if is_over_tcp {
        peer(client, clients)?
    } else {
        clients.credentials(client.as_fd()).unwrap_or(None)
    };
    let Some(named) = named else { return Ok(None) };
    with_ptrace(|| {
        let pid = if is_over_tcp && named.pid == 0 { Pid::this().as_raw() } else { named.pid };
        let namespace = PidNamespace::of(Pid::from_raw(pid)).ok()?;
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
