//! Pid namespaces (pid_namespaces(7), ioctl_nsfs(2)), each by a descriptor of its file in /proc/PID/ns.

use nix::errno::Errno;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// The namespace in which this one was made; EPERM if that is ours or above.
pub(crate) fn parent(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // SAFETY: takes no argument, and makes a descriptor
    let result = unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_PARENT) };
    // SAFETY: the kernel has just made it for us
    Errno::result(result).map(|number| unsafe { OwnedFd::from_raw_fd(number) })
}

/// The number in our namespace of the one that has `number` in this one (Linux 6.11; ENOTTY before); ESRCH
/// if there is none.
pub(crate) fn number_here(namespace: BorrowedFd<'_>, number: i32) -> Result<i32, Errno> {
    // SAFETY: takes a number
    let result = unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_PID_FROM_PIDNS, number) };
    Errno::result(result)
}
