//! File descriptors as a whole.

use nix::errno::Errno;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

/// Closes every descriptor that is not in `keep`.
pub(crate) fn close_all_but(keep: &[RawFd]) -> Result<(), Errno> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|&number| u32::try_from(number).ok()).collect();
    keep.sort_unstable();
    let mut first = 0;
    for number in keep {
        if number > first {
            close_range(first, number - 1)?;
        }
        first = number + 1;
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: the owners of what is closed are gone or never look at it again
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Another descriptor for what is open at this number.
#[cfg(feature = "drill")]
pub(crate) fn duplicate(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: takes numbers only
    let duplicate = Errno::result(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) })?;
    // SAFETY: it was just made for us
    Ok(unsafe { OwnedFd::from_raw_fd(duplicate) })
}

/// Takes over a descriptor that this process was started with.
pub(crate) fn inherited(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: takes a number only
    Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: it is open, and nobody else in this process knows of it
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
