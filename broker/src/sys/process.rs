//! What the kernel tells of processes through calls that have no safe wrapper.

use nix::errno::Errno;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// A descriptor that names the process for good, close-on-exec.
///
/// # Errors
/// What pidfd_open(2) says: `ESRCH` for no such process, `EINVAL` (or `ENOENT`) for a thread that isn't a process.
pub(crate) fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call reads two integers and touches no memory of ours.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let number = RawFd::try_from(number).map_err(|_| io::ErrorKind::InvalidData)?;
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whether this program got rights that its caller does not have (AT_SECURE): from file
/// capabilities or set-user-id bits.
pub(crate) fn has_more_rights_than_its_caller() -> bool {
    // SAFETY: getauxval reads the auxiliary vector that the kernel gave this process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Takes a capability out of the bounding set of this thread, for good.
///
/// # Errors
/// What prctl(2) says: `EPERM` without CAP_SETPCAP.
pub(crate) fn drop_from_bounding_set(capability: u8) -> Result<(), Errno> {
    // SAFETY: the call reads integers and touches no memory of ours.
    let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
    Errno::result(result).map(drop)
}
