//! Naming processes: only the privileged side can read which program a stranger's process runs, what descriptors
//! it has, and which pid namespace it is in.

use crate::confine;
use crate::error::Result;
use crate::sys::{pidfd, socket};
use crate::target::clients::Clients;
use crate::target::facts;
use crate::target::numbers::PidNamespace;
use crate::target::orphans;
use crate::target::proc_directory::ProcDirectory;
use memcr_protocol::subject::Peer;
use nix::unistd::Pid;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// The peer of a client's socket; `None` if the kernel doesn't name one.
///
/// # Errors
/// When CAP_SYS_PTRACE could not be put out of effect again: nothing may go on then.
pub(super) fn peer(client: &OwnedFd) -> Result<Option<Peer>> {
    with_ptrace(|| facts::peer(client.as_fd()).ok().flatten())
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
/// # Errors
/// As above.
pub(super) fn target(client: &OwnedFd, number: i32, clients: &Clients) -> Result<Option<OwnedFd>> {
    // of others the kernel would tell, too
    if clients.require(client.as_fd()).is_err() {
        return Ok(None);
    }
    with_ptrace(|| find(client.as_fd(), number))
}

fn find(client: BorrowedFd<'_>, number: i32) -> Option<OwnedFd> {
    let pid = socket::peer_credentials(client).ok()?.pid();
    let namespace = PidNamespace::of(Pid::from_raw(pid)).ok()?;
    // it is the client's, if that is still there
    if !facts::is_peer_there(client) {
        return None;
    }
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
