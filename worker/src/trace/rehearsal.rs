//! A target with a seccomp filter of its own, which a rule permits: the calls that memcr makes in it are tried before
//! anything depends on them. What the filter answers with an error, or with SIGSYS, is found here; a filter that kills can't be
//! survived (kernel fact 23).

use crate::error::{Error, Result};
use crate::trace::puppet::Puppet;
use crate::trace::tracees::Tracees;
use nix::errno::Errno;

/// No descriptor.
const NONE: u64 = u32::MAX as u64;
/// As the parasite's code is mapped.
const CODE: u64 = (libc::PROT_READ | libc::PROT_EXEC) as u64;

/// Calls that do nothing, and what the kernel says of them: 0, or an error number.
const CALLS: [(&str, i64, [u64; 6], i32); 9] = [
    (
        "mmap",
        libc::SYS_mmap,
        [0, 0, CODE, (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64, u64::MAX, 0],
        libc::EINVAL,
    ),
    ("munmap", libc::SYS_munmap, [0; 6], libc::EINVAL),
    ("madvise", libc::SYS_madvise, [0, 0, libc::MADV_DONTNEED as u64, 0, 0, 0], 0),
    ("openat", libc::SYS_openat, [NONE, 0, 0, 0, 0, 0], libc::EFAULT),
    ("ioctl", libc::SYS_ioctl, [NONE, 0, 0, 0, 0, 0], libc::EBADF),
    ("close", libc::SYS_close, [NONE, 0, 0, 0, 0, 0], libc::EBADF),
    ("recvmsg", libc::SYS_recvmsg, [NONE, 0, 0, 0, 0, 0], libc::EBADF),
    ("sendmsg", libc::SYS_sendmsg, [NONE, 0, 0, 0, 0, 0], libc::EBADF),
    ("prctl", libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u64, 3, 0, 0, 0, 0], libc::EINVAL),
];

/// Tries them in the thread that will work for us.
///
/// # Errors
/// [`Error::Refused`] with the name of the first call that its filter doesn't let through.
pub(crate) fn rehearse(puppet: &mut Puppet, tracees: &mut Tracees) -> Result<()> {
    if puppet.has_trap()? {
        return Err(Error::Refused {
            pid: tracees.pid().as_raw(),
            reason:
                "it has a seccomp filter, and a SIGSYS that waits for it can't be told from an answer of that"
                    .into(),
        });
    }
    puppet.expect_traps();
    for (name, number, arguments, expected) in CALLS {
        let answer = puppet.call(tracees, number, arguments)?;
        if answer != -i64::from(expected) {
            puppet.take_trap(tracees)?;
            let error = i32::try_from(-answer).map_or(Errno::UnknownErrno, Errno::from_raw);
            let said = match error {
                Errno::UnknownErrno => "does something else instead".to_owned(),
                error => format!("answers it with: {}", error.desc()),
            };
            return Err(Error::Refused {
                pid: tracees.pid().as_raw(),
                reason: format!("memcr needs {name}(2) in it, and its seccomp filter {said}"),
            });
        }
    }
    Ok(())
}
