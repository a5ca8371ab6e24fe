//! kcmp(2): whether two processes share something in the kernel.

use nix::errno::Errno;
use nix::unistd::Pid;

const KCMP_VM: libc::c_int = 1;

/// Whether two processes share their memory.
pub(crate) fn share_memory(one: Pid, other: Pid) -> Result<bool, Errno> {
    // SAFETY: takes numbers only
    let result = unsafe { libc::syscall(libc::SYS_kcmp, one.as_raw(), other.as_raw(), KCMP_VM, 0, 0) };
    Errno::result(result).map(|order| order == 0)
}
