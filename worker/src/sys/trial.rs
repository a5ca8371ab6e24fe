//! For tests: one system call under a filter, in a process of its own.

use memcr_filter::trial::{Attempt, End};
use nix::errno::Errno;
use seccompiler::{BpfProgram, apply_filter};

/// Exit status for "no such call".
const ABSENT: i32 = 38;
/// Exit status for a filter that can't be installed.
const NOT_INSTALLED: i32 = 99;

/// Forks, installs the filter there, makes the call.
pub(crate) fn end_of(programs: &[BpfProgram], attempt: &Attempt) -> End {
    // SAFETY: the child makes system calls only, on memory that the parent has made before, and never returns
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "cannot fork: {}", Errno::last());
    if child == 0 {
        make(programs, attempt);
    }
    let mut status = 0;
    // SAFETY: the kernel writes the status
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(waited, child, "cannot wait: {}", Errno::last());
    match (libc::WIFSIGNALED(status), libc::WTERMSIG(status), libc::WEXITSTATUS(status)) {
        (true, libc::SIGSYS, _) => End::Forbidden,
        (true, signal, _) => End::Killed(signal),
        (false, _, ABSENT) => End::Absent,
        (false, _, NOT_INSTALLED) => panic!("the filter can't be installed"),
        (false, ..) => End::Lived,
    }
}

fn make(programs: &[BpfProgram], attempt: &Attempt) -> ! {
    let no_dump = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // a register each
    let [a, b, c, d, e, f] = attempt.arguments.map(|argument| argument as usize);
    let number: libc::c_long = attempt.number.try_into().expect("numbers of calls are small");
    // SAFETY: what the call may do it does to this process, which is about to end anyhow
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const no_dump);
        if !programs.iter().all(|program| apply_filter(program).is_ok()) {
            libc::_exit(NOT_INSTALLED);
        }
        let result = libc::syscall(number, a, b, c, d, e, f);
        libc::_exit(if result == -1 && *libc::__errno_location() == libc::ENOSYS { ABSENT } else { 0 })
    }
}
