//! kcmp(2): whether two processes share something in the kernel.

use nix::errno::Errno;
use nix::unistd::{Pid, getpid};
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};

/// Open files are compared.
pub(crate) const KCMP_FILE: libc::c_int = 0;
/// Memories are compared.
pub(crate) const KCMP_VM: libc::c_int = 1;

/// Whether a descriptor of another process and one of ours are of the same open file.
pub(crate) fn same_file(other: Pid, number: RawFd, own: BorrowedFd<'_>) -> Result<bool, Errno> {
    let (us, ours) = (getpid().as_raw(), own.as_raw_fd());
    // SAFETY: takes numbers only
    let result = unsafe { libc::syscall(libc::SYS_kcmp, other.as_raw(), us, KCMP_FILE, number, ours) };
    Errno::result(result).map(|order| order == 0)
}

/// Whether two processes share their memory.
pub(crate) fn share_memory(one: Pid, other: Pid) -> Result<bool, Errno> {
    // SAFETY: takes numbers only
    let result = unsafe { libc::syscall(libc::SYS_kcmp, one.as_raw(), other.as_raw(), KCMP_VM, 0, 0) };
    Errno::result(result).map(|order| order == 0)
}
