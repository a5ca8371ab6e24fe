//! Naming a process for good: a pidfd, opened in the namespaces of the caller.

use crate::Error;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::OwnedFd;

/// A pidfd of the process that has this number in the caller's pid namespace.
///
/// # Errors
/// [`Error::NotAProcess`] for numbers below 1 and threads that lead no process,
/// [`Error::NoSuchProcess`] if there is none, else [`Error::OpenTarget`].
pub fn open_target(pid: i32) -> Result<OwnedFd, Error> {
    // from_raw() panics below zero
    let number = Pid::from_raw(pid.max(0)).ok_or(Error::NotAProcess { pid })?;
    pidfd_open(number, PidfdFlags::empty()).map_err(|cause| match cause {
        Errno::SRCH => Error::NoSuchProcess { pid },
        // what the kernel says about a thread that is no leader: EINVAL, since 6.9 ENOENT
        Errno::INVAL | Errno::NOENT => Error::NotAProcess { pid },
        cause => Error::OpenTarget { pid, cause: cause.into() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_names_no_process_is_refused_before_anything_is_sent() {
        for pid in [0, -1, i32::MIN] {
            assert!(matches!(open_target(pid), Err(Error::NotAProcess { .. })), "{pid}");
        }
        assert!(matches!(open_target(i32::MAX), Err(Error::NoSuchProcess { .. })));
    }
}
