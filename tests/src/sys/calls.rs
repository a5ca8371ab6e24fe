//! System calls of a traced process.

use nix::sys::ptrace;
use nix::unistd::Pid;

/// The system call at whose entry a traced process is stopped, as number and first two arguments;
/// `None` at any other stop.
pub fn entered_call(pid: Pid) -> Option<[u64; 3]> {
    let stop = ptrace::syscall_info(pid).ok()?;
    if stop.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return None;
    }
    // SAFETY: `op` says that this is the part that the kernel has filled.
    let entry = unsafe { stop.u.entry };
    Some([entry.nr, entry.args[0], entry.args[1]])
}
