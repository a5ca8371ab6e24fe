//! Processes of our own: fork, flags, limits.

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Forks; only ever called while this process has one thread.
pub(crate) fn fork_single_threaded() -> Result<ForkResult, Errno> {
    // SAFETY: with one thread no lock can be held by a thread that the child lacks
    unsafe { fork() }
}

/// Exit status of a process of ours that met a fault of its own: it is as good as killed.
pub(crate) const PANICKED: i32 = 101;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It said so.
    ByItself,
    /// By a fault of its own.
    Fault,
    /// The kernel killed it for a system call that its filter does not have.
    Forbidden,
    /// By whatever signal else, real-time ones too.
    Killed,
}

/// The next child that has ended, and how.
pub(crate) fn next_end() -> Result<Option<(Pid, End)>, Errno> {
    let mut status = 0;
    // SAFETY: the kernel writes the status
    match Errno::result(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) }) {
        Ok(0) | Err(Errno::ECHILD) => Ok(None),
        Ok(pid) => {
            let end = if !libc::WIFEXITED(status) {
                if libc::WTERMSIG(status) == libc::SIGSYS { End::Forbidden } else { End::Killed }
            } else if libc::WEXITSTATUS(status) == PANICKED {
                End::Fault
            } else {
                End::ByItself
            };
            Ok(Some((Pid::from_raw(pid), end)))
        }
        Err(cause) => Err(cause),
    }
}

/// Does the work of a forked process and ends that with the status that it gives, or with [`PANICKED`]: a fault must not
/// unwind into what was inherited from the parent. Its message is on standard error by then.
pub(crate) fn run_to_end(work: impl FnOnce() -> i32) -> ! {
    // whatever a fault leaves half done is gone with this process, or left to a successor
    let status = catch_unwind(AssertUnwindSafe(work)).unwrap_or(PANICKED);
    exit_now(status)
}

/// Ends this process at once, without running anything that was inherited from its parent.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: always sound
    unsafe { libc::_exit(status) }
}

fn control(option: libc::c_int, argument: libc::c_ulong) -> Result<(), Errno> {
    // SAFETY: the options used here take a number
    Errno::result(unsafe { libc::prctl(option, argument, 0, 0, 0) }).map(drop)
}

/// If not: no core dump, no ptrace by others of our uid, /proc/PID owned by root.
pub(crate) fn set_dumpable(dumpable: bool) -> Result<(), Errno> {
    control(libc::PR_SET_DUMPABLE, dumpable.into())
}

/// Has the kernel send a signal when the thread that started this process ends.
pub(crate) fn signal_when_parent_dies(signal: Signal) -> Result<(), Errno> {
    control(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong)
}

/// No privilege can be gained by exec any more.
pub(crate) fn set_no_new_privileges() -> Result<(), Errno> {
    control(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Whether the kernel has filters of system calls, with the action that they use.
pub(crate) fn has_seccomp() -> bool {
    let action = libc::SECCOMP_RET_KILL_PROCESS;
    // SAFETY: the kernel reads the action
    let answer =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    answer == 0
}

/// Whether a process may read about its own descriptors though it is not dumpable (Linux 5.14): then the files that tell of
/// them may be read by everybody who may look into their directory.
pub(crate) fn has_open_fdinfo() -> bool {
    let Ok(directory) = std::fs::File::open("/proc/self/fdinfo") else { return false };
    let path = format!("/proc/self/fdinfo/{}", directory.as_raw_fd());
    std::fs::metadata(path).is_ok_and(|status| status.permissions().mode() & 0o004 != 0)
}

/// The interface of landlock that the kernel has; 0 if it has none, or if it is not enabled.
pub(crate) fn landlock_abi() -> u32 {
    /// LANDLOCK_CREATE_RULESET_VERSION (include/uapi/linux/landlock.h).
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the kernel makes nothing and reads nothing
    let answer = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, VERSION)
    };
    u32::try_from(answer).unwrap_or(0)
}
