//! What can't be put to sleep safely (kernel facts 23 and 28). Looked at on the frozen target.

use crate::error::{Error, Result};
use crate::sys::{kcmp, ptrace};
use crate::target::mappings::Mapping;
use crate::target::proc_directory::ProcDirectory;
use crate::target::status::{Stat, Status};
use nix::errno::Errno;
use nix::unistd::{Pid, getpid, getppid};
use std::collections::BTreeSet;

/// What /proc shows for the mappings of an io_uring.
pub(super) const RING: &str = "anon_inode:[io_uring]";

fn refuse<T>(pid: Pid, reason: impl Into<String>) -> Result<T> {
    Err(Error::Refused { pid: pid.as_raw(), reason: reason.into() })
}

/// Before anything is attached: what must not even be frozen. A thread with a filter that waits in certain calls goes on by restart_syscall(2),
/// which that may not know.
pub(crate) fn before_attaching(pid: Pid, directory: &ProcDirectory, may_have_filter: bool) -> Result<()> {
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
    if is_frozen(directory) {
        return refuse(pid, "its cgroup is frozen, so that it can't run for memcr either; thaw it first");
    }
    let threads = directory.numbers("task")?;
    if matches!(status.state, 'Z' | 'X') && threads.len() <= 1 {
        return Err(Error::NoSuchProcess { pid: pid.as_raw() });
    }
    // those that have ended meanwhile have none
    for thread in threads.into_iter().filter_map(|tid| directory.thread(Pid::from_raw(tid)).ok()) {
        if let Err(refused @ Error::Refused { .. }) = seccomp_of_thread(pid, &thread, may_have_filter) {
            return Err(refused);
        }
    }
    Ok(())
}

/// Whether its cgroup in the version 2 hierarchy, or one above that, is frozen. Where that is mounted elsewhere it is
/// noticed by the time that steps take.
fn is_frozen(directory: &ProcDirectory) -> bool {
    let text = directory.text("cgroup").unwrap_or_default();
    let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::")) else { return false };
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().any(|mount| {
        let events = std::fs::read_to_string(format!("{mount}{path}/cgroup.events"));
        events.is_ok_and(|events| events.lines().any(|line| line == "frozen 1"))
    })
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
    // the kernel shows a program of 32 bits no more than half of the registers of another one
    if mappings.iter().any(|mapping| usize::try_from(mapping.start).is_err()) {
        return refuse(pid, "it is a program of another word size than memcr's");
    }
    if mappings.iter().any(Mapping::is_aio_ring) {
        return refuse(pid, "it uses kernel asynchronous IO (io_setup), which could write to lost pages");
    }
    if mappings.iter().any(Mapping::is_shadow_stack) {
        return refuse(pid, "it uses a shadow stack, which memcr can't keep in step yet");
    }
    if mappings.iter().any(Mapping::is_ring) || has_ring(live)? {
        return refuse(pid, "it uses io_uring, by which the kernel could go on writing to lost pages");
    }
    if let Some(other) = memory_sharer(pid, tid)? {
        return refuse(
            pid,
            format!("it shares its memory with process {other}, which is not frozen (CLONE_VM or vfork)"),
        );
    }
    Ok(())
}

/// Whether a thread runs under a filter that could forbid the parasite's system calls, if that is permitted.
pub(crate) fn seccomp_of_thread(pid: Pid, thread: &ProcDirectory, is_permitted: bool) -> Result<bool> {
    match Status::read(thread)?.seccomp {
        0 => Ok(false),
        FILTERED if is_permitted => Ok(true),
        FILTERED => refuse(
            pid,
            "it runs under a seccomp filter, which could kill it for the calls that free its memory, and the rule \
             doesn't permit `seccomp`",
        ),
        _ => {
            refuse(pid, "it runs in the strict mode of seccomp, which would kill it for any call of memcr's")
        }
    }
}

/// A SIGSYS that waits for the process or its thread could not be told from an answer of its filter.
pub(crate) fn waiting_trap(pid: Pid, tid: Pid, shared: u64) -> Result<()> {
    let own =
        ptrace::queued_signals(tid).map_err(Error::system("reading the queued signals of thread", tid))?;
    if (own | shared) & ptrace::signal_bit(libc::SIGSYS) == 0 {
        return Ok(());
    }
    refuse(
        pid,
        "it has a seccomp filter, and a SIGSYS waits for it, which can't be told from an answer of that",
    )
}

/// What the kernel shows of a thread with a filter (prctl(2), SECCOMP_MODE_FILTER).
const FILTERED: u32 = 2;

/// Whether its memory is protected from others, if that is permitted, by what prctl(PR_GET_DUMPABLE) says: only 1 lets others
/// read it, and 2 (of programs that changed their rights, with fs.suid_dumpable 2) can't be set again.
pub(crate) fn is_protected(pid: Pid, value: i64, is_permitted: bool) -> Result<bool> {
    match value {
        1 => Ok(false),
        0 if is_permitted => Ok(true),
        0 => refuse(
            pid,
            "it is not dumpable: it protects its memory from being read by others, and the rule doesn't permit \
             `non-dumpable`",
        ),
        _ => refuse(
            pid,
            "it changed its rights (it was started setuid, or with capabilities), and could not be made what it was \
             (fs.suid_dumpable is 2)",
        ),
    }
}

/// Whether it has an io_uring: the kernel completes its operations in the context of a thread of ours, too.
fn has_ring(live: &ProcDirectory) -> Result<bool> {
    let numbers = match live.numbers("fdinfo") {
        // before Linux 5.14 nobody else may look; a ring without a mapping came later
        Err(Error::System { cause: Errno::EACCES, .. }) => return Ok(false),
        numbers => numbers?,
    };
    for number in numbers {
        match live.text(&format!("fdinfo/{number}")) {
            Ok(text) if is_ring(&text) => return Ok(true),
            Ok(_) | Err(Error::System { cause: Errno::ENOENT, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Whether an fdinfo text is that of an io_uring: since Linux 5.12 it tells of the submission queue, before of
/// registered files.
fn is_ring(fdinfo: &str) -> bool {
    fdinfo.lines().any(|line| line.starts_with("SqMask:") || line.starts_with("UserFiles:"))
}

/// Looks at the list of processes, at most, until nobody new is in it who was gone before it could be compared.
const LOOKS: usize = 256;
/// Looks in a row that must have seen everybody.
const SURE_LOOKS: usize = 2;

/// A process outside the thread group that uses the memory of this thread.
///
/// The frozen target makes none, but one that is there can make another one and end, again and again. So there is
/// a second look at those that are new since the first, newest first, and more while some of these were gone
/// before they could be compared. Whoever gets through all that has changed its number each time between the list
/// and the look. Processes of others that come and go do not keep the target from sleep.
fn memory_sharer(pid: Pid, tid: Pid) -> Result<Option<Pid>> {
    let everyone = ProcDirectory::open_all()?;
    let mut seen = BTreeSet::new();
    let mut sure_looks = 0;
    for look in 0..LOOKS {
        let mut is_sure = look > 0;
        let listed: BTreeSet<Pid> = everyone.numbers(".")?.into_iter().map(Pid::from_raw).collect();
        let new = listed.iter().rev().filter(|&other| *other != pid && !seen.contains(other));
        for &other in new {
            match kcmp::share_memory(tid, other) {
                // without memory, which it has not when it is being killed, it is like others without
                Ok(true) if has_memory(tid) => return Ok(Some(other)),
                Ok(true) => return Ok(None),
                // what has ended may have left a child
                Ok(false) if look == 0 || has_memory(other) => {}
                Ok(false) | Err(Errno::ESRCH) => is_sure = false,
                // it is beyond us, and so no relative of the target
                Err(Errno::EPERM) => {}
                Err(cause) => {
                    return Err(Error::System {
                        operation: "comparing memory with",
                        object: format!("process {other}"),
                        cause,
                    });
                }
            }
        }
        // one that went from the highest number to the lowest in the middle of a list is in none: the next one has it
        sure_looks = if is_sure { sure_looks + 1 } else { 0 };
        if sure_looks == SURE_LOOKS {
            break;
        }
        seen = listed;
    }
    Ok(None)
}

fn has_memory(pid: Pid) -> bool {
    ProcDirectory::open(pid)
        .and_then(|directory| Status::read(&directory))
        .is_ok_and(|status| status.has_memory)
}

#[cfg(test)]
mod tests {
    use super::is_ring;

    #[test]
    fn an_io_uring_is_known_by_its_queue() {
        assert!(is_ring("pos:\t0\nflags:\t02\nSqMask:\t0x7\nUserFiles:\t0\n"));
        assert!(is_ring("pos:\t0\nUserFiles:\t0\nUserBufs:\t2\n"));
        assert!(!is_ring("pos:\t0\nflags:\t02\nmnt_id:\t9\n"));
    }
}
