//! What this kernel has, found by trying: `memcr --probe`, and the start record of the audit log.
//!
//! Nothing here decides anything. Each step of the work finds out for itself what it can use, and falls back as it is said
//! here; so what is said stays true when a sandbox around memcr takes something away.

mod show;

pub(crate) use show::run;

use crate::sys::{attempts, process};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use std::os::fd::AsFd as _;

/// The interface of landlock that has all that the sandbox uses.
const LANDLOCK: u32 = 6;
/// UFFD_USER_MODE_ONLY (include/uapi/linux/userfaultfd.h).
const USER_MODE_ONLY: libc::c_int = 1;
/// MADV_POPULATE_WRITE (include/uapi/asm-generic/mman-common.h).
const POPULATE_WRITE: libc::c_int = 23;
/// PAGEMAP_SCAN (include/uapi/linux/fs.h): `_IOWR('f', 16, struct pm_scan_arg)`, which has twelve words.
const PAGEMAP_SCAN: libc::Ioctl = nix::request_code_readwrite!(b'f', 16, 96) as libc::Ioctl;

/// Something that a kernel has, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Feature {
    /// Its name in tables, JSON and the audit log.
    pub(crate) name: &'static str,
    /// Whether it is there.
    pub(crate) found: bool,
    /// More about that: an interface, or the error.
    pub(crate) detail: String,
    /// What memcr does without it.
    pub(crate) instead: &'static str,
}

/// All that matters to memcr, tried now. Only while there is one thread.
pub(crate) fn features() -> Vec<Feature> {
    let landlock = process::landlock_abi();
    vec![
        feature(
            "seccomp",
            yes(process::has_seccomp()),
            "--sandbox best-effort only: no filters of system calls",
        ),
        Feature {
            name: "landlock",
            found: landlock >= LANDLOCK,
            detail: if landlock == 0 { "none".into() } else { format!("interface {landlock}") },
            instead: "--sandbox best-effort only: what the interface has, of 6 that are wanted",
        },
        feature(
            "open-fdinfo",
            yes(process::has_open_fdinfo()),
            "--sandbox best-effort only: broker and launcher stay dumpable",
        ),
        feature("userfaultfd-device", device(), "a target makes its guard by userfaultfd(2)"),
        feature(
            "userfaultfd-for-all",
            yes(is_userfaultfd_for_all()),
            "without the device the guard is for user mode only: who dies asleep takes its target along",
        ),
        feature(
            "userfaultfd-user-mode-only",
            attempts::userfaultfd(USER_MODE_ONLY),
            "without the device nobody can sleep unless userfaultfd is for all",
        ),
        feature("pagemap-scan", scan(), "every entry of the page map is read"),
        feature("populate-write", attempts::advise_nothing(POPULATE_WRITE), "nothing: it is not used"),
        feature(
            "rseq-configuration",
            attempts::rseq_configuration(),
            "memory around the thread pointer stays resident, where C libraries have the area; a process that has it elsewhere is refused",
        ),
        feature(
            "pidfd-getfd",
            known(attempts::duplicate_descriptor_of_nobody(), Errno::EBADF),
            "sockets with abstract names, as for -S",
        ),
        feature("peer-pidfd", peer_pidfd(), "clients are named by number as they connect"),
        feature(
            "thread-pidfd",
            attempts::thread_pidfd(),
            "processes whose main thread has ended are refused",
        ),
        feature("pid-namespace-lookup", lookup(), "numbers in other pid namespaces are looked for in /proc"),
        feature("forced-writes", attempts::forced_write(), "nothing: code is written by ptrace(2)"),
    ]
}

fn feature(name: &'static str, outcome: Result<(), Errno>, instead: &'static str) -> Feature {
    let detail = outcome.err().filter(|error| *error != UNSAID).map(|error| error.desc().to_owned());
    let detail = detail.unwrap_or_default();
    Feature { name, found: outcome.is_ok(), detail, instead }
}

/// There is no more to be said of it.
const UNSAID: Errno = Errno::UnknownErrno;

fn yes(found: bool) -> Result<(), Errno> {
    if found { Ok(()) } else { Err(UNSAID) }
}

/// Whether a call that can't succeed fails for the reason for which it should.
fn known(error: Errno, expected: Errno) -> Result<(), Errno> {
    if error == expected { Ok(()) } else { Err(error) }
}

fn device() -> Result<(), Errno> {
    open("/dev/userfaultfd", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map(drop)
}

/// Whether every process may make one that also guards against the kernel's own accesses (sysctl(8)), whatever this one may.
pub(crate) fn is_userfaultfd_for_all() -> bool {
    let setting = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd");
    setting.is_ok_and(|setting| setting.trim() == "1")
}

fn scan() -> Result<(), Errno> {
    let file = open("/proc/self/pagemap", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    known(attempts::empty_request(file.as_fd(), PAGEMAP_SCAN), Errno::EFAULT)
}

fn peer_pidfd() -> Result<(), Errno> {
    let (one, _other) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
    attempts::peer_pidfd(one.as_fd())
}

fn lookup() -> Result<(), Errno> {
    let namespace = open("/proc/self/ns/pid", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    // number 0 names nobody
    match attempts::empty_request(namespace.as_fd(), libc::NS_GET_PID_FROM_PIDNS as libc::Ioctl) {
        Errno::ENOTTY => Err(Errno::ENOTTY),
        _ => Ok(()),
    }
}
