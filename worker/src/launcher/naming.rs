//! Naming programs: only the privileged side can read which one a stranger's process runs.

use crate::confine;
use crate::error::Result;
use crate::sys::pidfd;
use crate::target::facts;
use crate::target::proc_directory::ProcDirectory;
use memcr_protocol::subject::Peer;
use std::os::fd::{AsFd as _, OwnedFd};

/// The peer of a client's socket; `None` if the kernel doesn't name one.
///
/// # Errors
/// When CAP_SYS_PTRACE could not be put out of effect again: nothing may go on then.
pub(super) fn peer(client: &OwnedFd) -> Result<Option<Peer>> {
    with_ptrace(|| facts::peer(client.as_fd()).ok().flatten())
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
