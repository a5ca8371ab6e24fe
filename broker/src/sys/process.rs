//! What the kernel tells of processes through calls that have no safe wrapper.

use nix::errno::Errno;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt as _;

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

/// Overwrites the environment that this process was started with, which its /proc/PID/environ shows as long as it runs,
/// and forgets it. Only while there is one thread, and while /proc can be read.
///
/// # Errors
/// When /proc/self/stat can't be read, or doesn't say where it is.
pub(crate) fn wipe_environment() -> io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (start, end) = environment_in(&stat).ok_or(io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel laid the environment out there, in writable memory of this process. There is one thread, and
    // nobody uses the variables in place: the standard library copies what it gives, and they are forgotten below.
    unsafe {
        std::ptr::write_bytes(
            std::ptr::with_exposed_provenance_mut::<u8>(start),
            0,
            end.saturating_sub(start),
        );
        libc::clearenv();
    }
    Ok(())
}

/// Where the environment begins and ends (proc_pid_stat(5), fields 50 and 51). Variables that were taken out of it meanwhile
/// are still there.
fn environment_in(stat: &str) -> Option<(usize, usize)> {
    // the name before may hold anything, and is the second field
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(47);
    let (start, end) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (start > 0 && start <= end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_found_in_stat_whatever_the_process_is_called() {
        let fields =
            |name: &str| format!("7 ({name}) S {}", (4..=52).map(|n| format!("{n} ")).collect::<String>());
        assert_eq!(environment_in(&fields("memcr")), Some((50, 51)));
        assert_eq!(environment_in(&fields(") 1 2 (")), Some((50, 51)));
        assert_eq!(environment_in("7 (memcr) S 1 2"), None);
        let own = std::fs::read_to_string("/proc/self/stat").unwrap();
        let (start, end) = environment_in(&own).unwrap();
        assert_eq!(end - start, std::fs::read("/proc/self/environ").unwrap().len());
    }
}
