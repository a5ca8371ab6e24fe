//! pidfds (pidfd_open(2), pidfd_getfd(2)).

use crate::sys::{poll, status};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::unistd::Pid;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::time::Duration;

/// The pidfd is one of a thread.
pub(crate) const PIDFD_THREAD: libc::c_int = libc::O_EXCL;

/// A duplicate of another process's file descriptor.
pub(crate) fn duplicate_descriptor(pidfd: BorrowedFd<'_>, number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: takes numbers only
    let result = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
    let descriptor = RawFd::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it for us
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Inode of the file behind another process's file descriptor, if it can be had.
pub(crate) fn inode_of_descriptor(pidfd: BorrowedFd<'_>, number: RawFd) -> Option<u64> {
    let copy = duplicate_descriptor(pidfd, number).ok()?;
    status::of(copy).ok().map(|status| status.st_ino)
}

/// A pidfd of a process, which the number of one of its other threads does not name.
pub(crate) fn of_process(pid: Pid) -> Result<OwnedFd, Errno> {
    open(pid, 0)
}

/// Whether the kernel has that call, and no sandbox around us forbids it.
pub(crate) fn can_duplicate_descriptors() -> bool {
    // SAFETY: takes numbers only, the first of which is no descriptor
    let result = unsafe { libc::syscall(libc::SYS_pidfd_getfd, -1, 0, 0) };
    Errno::result(result) == Err(Errno::EBADF)
}

/// A pidfd of one thread (Linux 6.9): readable once that has exited.
pub(crate) fn of_thread(tid: Pid) -> Result<OwnedFd, Errno> {
    open(tid, PIDFD_THREAD)
}

fn open(id: Pid, flags: libc::c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: takes numbers only
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, id.as_raw(), flags) };
    let descriptor = RawFd::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it for us
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Whether the process has exited. Fails when the descriptor is no pidfd that can be polled.
pub(crate) fn has_exited(pidfd: impl AsFd) -> Result<bool, Errno> {
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll::wait(&mut polled, Some(Duration::ZERO))?;
    Ok(polled.iter().any(|one| one.any().unwrap_or(true)))
}

/// Whether the process exits within this time.
pub(crate) fn ends_within(pidfd: impl AsFd, time: Duration) -> bool {
    let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll::wait(&mut polled, Some(time)).is_ok_and(|ready| ready > 0)
}
