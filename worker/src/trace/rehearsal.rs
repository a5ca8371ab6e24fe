//! A target with a seccomp filter of its own, which a rule permits: the calls that memcr makes in it are tried before
//! anything depends on them, with the arguments that filters look at. What the filter answers with an error, or with SIGSYS, is
//! found here; a filter that kills can't be survived (kernel fact 23).

use crate::arch::MMAP;
use crate::error::{Error, Result};
use crate::sys::error_of;
use crate::trace::puppet::Puppet;
use crate::trace::tracees::Tracees;
use nix::errno::Errno;

/// No descriptor.
const NONE: u64 = u32::MAX as u64;
/// As the parasite's code and its memory are mapped.
const CODE: u64 = (libc::PROT_READ | libc::PROT_EXEC) as u64;
const DATA: u64 = (libc::PROT_READ | libc::PROT_WRITE) as u64;
const PRIVATE: u64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
/// As the parasite opens files.
const READ: u64 = (libc::O_RDONLY | libc::O_CLOEXEC) as u64;
const WRITE: u64 = (libc::O_RDWR | libc::O_CLOEXEC) as u64;
const PACKETS: u64 = (libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC) as u64;
const UNIX: u64 = libc::AF_UNIX as u64;
/// A value that prctl(PR_SET_DUMPABLE) knows nothing of.
const NOTHING: u64 = 7;
/// USERFAULTFD_IOC_NEW (linux/userfaultfd.h).
const NEW_GUARD: u64 = 0xAA00;
/// UFFD_USER_MODE_ONLY, and a flag that there isn't.
const NO_GUARD: u64 = 1 | 1 << 30;

/// A call that does nothing: its name, number, arguments, and what the kernel says: 0, or an error number.
type Attempt = (&'static str, libc::c_long, [u64; 6], i32);

const ALWAYS: [Attempt; 12] = [
    ("mmap", MMAP, [0, 0, CODE, PRIVATE, u64::MAX, 0], libc::EINVAL),
    ("mmap", MMAP, [0, 0, DATA, PRIVATE, u64::MAX, 0], libc::EINVAL),
    ("munmap", libc::SYS_munmap, [0; 6], libc::EINVAL),
    ("madvise", libc::SYS_madvise, [0, 0, libc::MADV_DONTNEED as u64, 0, 0, 0], 0),
    ("openat", libc::SYS_openat, [NONE, 0, READ, 0, 0, 0], libc::EFAULT),
    ("openat", libc::SYS_openat, [NONE, 0, WRITE, 0, 0, 0], libc::EFAULT),
    ("ioctl", libc::SYS_ioctl, [NONE, NEW_GUARD, 0, 0, 0, 0], libc::EBADF),
    ("close", libc::SYS_close, [NONE, 0, 0, 0, 0, 0], libc::EBADF),
    ("recvmsg", libc::SYS_recvmsg, [NONE, 0, 0, 0, 0, 0], libc::EBADF),
    ("sendmsg", libc::SYS_sendmsg, [NONE, 0, 0, 0, 0, 0], libc::EBADF),
    ("socketpair", libc::SYS_socketpair, [UNIX, PACKETS, 0, 0, 0, 0], libc::EFAULT),
    ("prctl", libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u64, NOTHING, 0, 0, 0, 0], libc::EINVAL),
];
/// Where there is no /dev/userfaultfd.
const WITHOUT_DEVICE: Attempt =
    ("userfaultfd", libc::SYS_userfaultfd, [NO_GUARD, 0, 0, 0, 0, 0], libc::EINVAL);

/// Tries them in the thread that will work for us.
///
/// # Errors
/// [`Error::Refused`] with the name of the first call that its filter doesn't let through.
pub(crate) fn rehearse(puppet: &mut Puppet, tracees: &mut Tracees, has_device: bool) -> Result<()> {
    puppet.expect_traps();
    let without_device = (!has_device).then_some(WITHOUT_DEVICE);
    for (name, number, arguments, expected) in ALWAYS.into_iter().chain(without_device) {
        let said = match puppet.try_call(tracees, number, arguments)? {
            Some(answer) if answer == -i64::from(expected) => continue,
            None => "answers it with a trap".to_owned(),
            Some(answer) => match error_of(answer) {
                Errno::UnknownErrno => "does something else instead".to_owned(),
                error => format!("answers it with: {}", error.desc()),
            },
        };
        return Err(Error::Refused {
            pid: tracees.pid().as_raw(),
            reason: format!("memcr needs {name}(2) in it, and its seccomp filter {said}"),
        });
    }
    Ok(())
}
