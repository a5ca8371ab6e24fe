//! What can't be put to sleep safely (kernel facts 23 and 28). Looked at on the frozen target.

use crate::error::{Error, Result};
use crate::sys::kcmp;
use crate::target::mappings::Mapping;
use crate::target::proc_directory::ProcDirectory;
use crate::target::status::{Stat, Status};
use nix::errno::Errno;
use nix::unistd::{Pid, getpid, getppid};

fn refuse<T>(pid: Pid, reason: impl Into<String>) -> Result<T> {
    Err(Error::Refused { pid: pid.as_raw(), reason: reason.into() })
}

/// Before anything is attached: what must not even be frozen.
pub(crate) fn before_attaching(pid: Pid, directory: &ProcDirectory) -> Result<()> {
    if pid == Pid::from_raw(1) {
        return refuse(pid, "it is process 1, on which the system depends");
    }
    if is_ours(pid, directory)? {
        return refuse(pid, "it is a process of memcr itself");
    }
    if Stat::read(directory)?.is_kernel_thread {
        return refuse(pid, "it is a kernel thread");
    }
    let status = Status::read(directory)?;
    if status.tracer != 0 {
        return refuse(pid, format!("it is being traced by process {}; detach that first", status.tracer));
    }
    if matches!(status.state, 'Z' | 'X') && directory.numbers("task")?.len() <= 1 {
        return Err(Error::NoSuchProcess { pid: pid.as_raw() });
    }
    Ok(())
}

/// This worker, its launcher, the broker, and the launcher's other workers.
fn is_ours(pid: Pid, directory: &ProcDirectory) -> Result<bool> {
    let launcher = getppid();
    let parent = Pid::from_raw(Stat::read(directory)?.parent);
    let broker = Stat::read(&ProcDirectory::open(launcher)?)?.parent;
    Ok(pid == getpid() || pid == launcher || pid.as_raw() == broker || parent == launcher)
}

/// On the frozen target, from its mappings and `tid`, a thread that is there.
pub(crate) fn on_frozen(pid: Pid, tid: Pid, directory: &ProcDirectory, mappings: &[Mapping]) -> Result<()> {
    let live = &directory.thread(tid)?;
    let status = Status::read(live)?;
    if status.pinned > 0 {
        return refuse(
            pid,
            "it has memory pinned for the kernel or a device, which would go on writing to lost pages",
        );
    }
    if mappings.iter().any(Mapping::is_aio_ring) {
        return refuse(pid, "it uses kernel asynchronous IO (io_setup), which could write to lost pages");
    }
    if has_registered_ring_buffers(live)? {
        return refuse(
            pid,
            "it uses io_uring with registered buffers, to which the kernel would go on writing",
        );
    }
    if let Some(other) = memory_sharer(pid, tid)? {
        return refuse(
            pid,
            format!("it shares its memory with process {other}, which is not frozen (CLONE_VM or vfork)"),
        );
    }
    Ok(())
}

/// No thread may run under a filter that could forbid the parasite's system calls.
pub(crate) fn seccomp_of_thread(pid: Pid, thread: &ProcDirectory) -> Result<()> {
    match Status::read(thread)?.seccomp {
        0 => Ok(()),
        _ => refuse(
            pid,
            "it runs under a seccomp filter, which could kill it for the calls that free its memory",
        ),
    }
}

/// What prctl(PR_GET_DUMPABLE) says: only 1 lets others read its memory.
pub(crate) fn dumpable(pid: Pid, value: i64) -> Result<()> {
    match value {
        1 => Ok(()),
        _ => refuse(pid, "it is not dumpable: it protects its memory from being read by others"),
    }
}

/// Whether one of its io_uring instances has registered buffers.
fn has_registered_ring_buffers(directory: &ProcDirectory) -> Result<bool> {
    for number in directory.numbers("fdinfo")? {
        let text = match directory.text(&format!("fdinfo/{number}")) {
            Ok(text) => text,
            Err(Error::System { cause: Errno::ENOENT, .. }) => continue,
            Err(error) => return Err(error),
        };
        if ring_has_buffers(&text) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Parses an fdinfo text: that of an io_uring has a line `UserBufs:` and their number, older ones list them.
fn ring_has_buffers(fdinfo: &str) -> bool {
    let count = fdinfo.lines().find_map(|line| line.strip_prefix("UserBufs:"));
    count.is_some_and(|count| count.trim() != "0")
}

/// A process outside the thread group that uses the memory of this thread.
fn memory_sharer(pid: Pid, tid: Pid) -> Result<Option<Pid>> {
    let everyone = ProcDirectory::open_all()?;
    for other in everyone.numbers(".")?.into_iter().map(Pid::from_raw).filter(|&other| other != pid) {
        match kcmp::share_memory(tid, other) {
            Ok(true) => return Ok(Some(other)),
            // it has just exited, or has no memory, or is beyond us and so no relative of the target
            Ok(false) | Err(Errno::ESRCH | Errno::EPERM) => {}
            Err(cause) => {
                return Err(Error::System {
                    operation: "comparing memory with",
                    object: format!("process {other}"),
                    cause,
                });
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::ring_has_buffers;

    #[test]
    fn an_io_uring_without_registered_buffers_is_harmless() {
        assert!(ring_has_buffers("pos:\t0\nUserFiles:\t0\nUserBufs:\t2\n"));
        assert!(!ring_has_buffers("pos:\t0\nUserFiles:\t0\nUserBufs:\t0\n"));
        assert!(!ring_has_buffers("pos:\t0\nflags:\t02\n"));
    }
}
