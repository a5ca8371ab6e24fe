//! Naming clients and programs: only the privileged side can read which program a stranger's process runs, and
//! which process has a socket.

use crate::confine;
use crate::error::Result;
use crate::sys::pidfd;
use crate::target::clients::Clients;
use crate::target::facts;
use crate::target::proc_directory::ProcDirectory;
use crate::target::socket_holder::{self, Holder};
use crate::target::tcp_clients::Named;
use memcr_protocol::subject::Peer;
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

/// Path of the program of a process; `None` if the process is gone or runs none.
///
/// # Errors
/// As above.
pub(super) fn program(target: &OwnedFd) -> Result<Option<String>> {
    with_ptrace(|| {
        let pid = facts::pid_of(target.as_fd()).ok()?;
        let program = facts::executable(&ProcDirectory::open(pid).ok()?);
        // it was read of this process, if that is still there
        (pidfd::has_exited(target) == Ok(false) && !program.is_empty()).then_some(program)
    })
}

/// Has CAP_SYS_PTRACE in effect while the link to a program is read.
fn with_ptrace<T>(read: impl FnOnce() -> Option<T>) -> Result<Option<T>> {
    if confine::raise_ptrace().is_err() {
        return Ok(None);
    }
    let result = read();
    confine::lower_ptrace()?;
    Ok(result)
}
