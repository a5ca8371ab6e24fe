//! The system calls of the broker once it serves. Any other kills it, and then every worker restores
//! its target by itself.
//!
//! The list is data for review: each entry says what needs it. Nothing here can make a process, a
//! thread, a socket that reaches anybody, executable memory, or a file.

use super::failed;
use crate::arch::{SYSTEM_CALLS, TARGET};
use crate::error::BrokerError;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;

/// What the process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It serves clients.
    Serve,
    /// It puts one process to sleep, for a person at a terminal perhaps.
    OneShot,
}

/// One system call that is allowed.
struct Allowed {
    call: libc::c_long,
    only: Only,
    #[allow(dead_code, reason = "for whoever reviews the list")]
    reason: &'static str,
}

/// With which arguments.
#[derive(Clone, Copy)]
enum Only {
    Any,
    /// Argument number, value.
    Is(u8, u32),
    /// Argument number, bits that must all be clear.
    Clear(u8, u32),
    /// Two arguments, each number and value.
    Both((u8, u32), (u8, u32)),
}

const fn allowed(call: libc::c_long, only: Only, reason: &'static str) -> Allowed {
    Allowed { call, only, reason }
}

/// The same bits; the standard library's own conversion is too new.
const fn bits(value: libc::c_int) -> u32 {
    u32::from_ne_bytes(value.to_ne_bytes())
}

/// What makes openat(2) more than opening for reading what exists.
const MAKES_OR_WRITES: u32 =
    bits(libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_TMPFILE & !libc::O_DIRECTORY);

const SERVE: &[Allowed] = &[
    allowed(libc::SYS_read, Only::Any, "signals, /proc files, Enter on standard input"),
    allowed(libc::SYS_write, Only::Any, "the two logs, the service manager, output of one shot"),
    allowed(libc::SYS_close, Only::Any, "connections, pidfds, channels"),
    allowed(libc::SYS_recvmsg, Only::Any, "clients, launcher, workers"),
    allowed(libc::SYS_sendmsg, Only::Any, "clients, launcher, workers"),
    allowed(libc::SYS_accept4, Only::Any, "clients"),
    allowed(
        libc::SYS_getsockopt,
        Only::Both((1, bits(libc::SOL_SOCKET)), (2, bits(libc::SO_PEERCRED))),
        "who a client is",
    ),
    allowed(
        libc::SYS_setsockopt,
        Only::Both((1, bits(libc::SOL_SOCKET)), (2, bits(libc::SO_LINGER))),
        "closing what a client sent must not wait for its peer",
    ),
    allowed(libc::SYS_shutdown, Only::Any, "a connection takes no more before it is closed"),
    allowed(libc::SYS_socketpair, Only::Is(0, bits(libc::AF_UNIX)), "a control channel for each worker"),
    allowed(
        libc::SYS_fcntl,
        Only::Is(1, bits(libc::F_DUPFD_CLOEXEC)),
        "a client's socket for launcher and worker",
    ),
    allowed(
        libc::SYS_fcntl,
        Only::Is(1, bits(libc::F_GETFD)),
        "the standard library's check before closing, where debug assertions are on",
    ),
    allowed(libc::SYS_epoll_ctl, Only::Any, "the event loop"),
    allowed(libc::SYS_epoll_pwait, Only::Any, "the event loop waits"),
    allowed(
        libc::SYS_ppoll,
        Only::Any,
        "whether the process behind a pidfd lives, and standard error is read",
    ),
    allowed(libc::SYS_openat, Only::Clear(2, MAKES_OR_WRITES), "/proc files; landlock allows no other"),
    allowed(libc::SYS_unlinkat, Only::Is(2, 0), "remove the name of our socket at the end"),
    allowed(libc::SYS_brk, Only::Any, "memory"),
    allowed(libc::SYS_mmap, Only::Clear(2, bits(libc::PROT_EXEC)), "memory, never executable"),
    allowed(libc::SYS_mprotect, Only::Clear(2, bits(libc::PROT_EXEC)), "memory, never executable"),
    allowed(libc::SYS_munmap, Only::Any, "memory"),
    allowed(libc::SYS_mremap, Only::Any, "memory that grows"),
    allowed(libc::SYS_madvise, Only::Any, "memory that is given back"),
    allowed(libc::SYS_futex, Only::Any, "wake the thread that closes, and its waiting"),
    allowed(libc::SYS_clock_gettime, Only::Any, "times, where the vDSO can't tell them"),
    allowed(libc::SYS_getrandom, Only::Any, "seeds of hash tables"),
    allowed(libc::SYS_restart_syscall, Only::Any, "waiting goes on after a stop and continue"),
    allowed(libc::SYS_sigaltstack, Only::Any, "the standard library's end of main"),
    allowed(libc::SYS_exit_group, Only::Any, "the end"),
];

/// Where the audit log can be opened anew.
const REOPEN: &[Allowed] = &[
    allowed(
        libc::SYS_openat,
        Only::Is(2, bits(crate::audit::file::APPEND.bits())),
        "the audit log, to append; landlock allows that in its directory only",
    ),
    allowed(libc::SYS_fstat, Only::Any, "whether what was opened is nobody else's"),
    allowed(
        libc::SYS_fcntl,
        Only::Is(1, bits(libc::F_OFD_SETLK)),
        "that nobody else goes on in the new file: two would make one chain of two",
    ),
];

const ONE_SHOT: &[Allowed] = &[
    allowed(libc::SYS_ioctl, Only::Is(1, truncated(libc::TIOCGWINSZ)), "width of the progress bar"),
    allowed(libc::SYS_ioctl, Only::Is(1, truncated(libc::TCGETS)), "whether standard error is a terminal"),
];

/// The kernel looks at the low 32 bits of an ioctl's request only.
#[allow(clippy::cast_possible_truncation, reason = "see above")]
const fn truncated(request: libc::Ioctl) -> u32 {
    request as u32
}

/// Installs the filter for `mode` in every thread of this process.
pub(super) fn apply(mode: Mode, reopens: bool) -> Result<(), BrokerError> {
    let filter = filter(mode, reopens).map_err(|cause| failed("build the system call filter", &cause))?;
    seccompiler::apply_filter_all_threads(&filter)
        .map_err(|cause| failed("install the system call filter", &cause))
}

fn filter(mode: Mode, reopens: bool) -> Result<BpfProgram, seccompiler::BackendError> {
    let extra = match mode {
        Mode::Serve => &[],
        Mode::OneShot => ONE_SHOT,
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for (call, _reason) in SYSTEM_CALLS {
        rules.insert(*call, Vec::new());
    }
    let reopen = if reopens { REOPEN } else { &[] };
    for entry in SERVE.iter().chain(extra).chain(reopen) {
        let alternatives = rules.entry(entry.call).or_default();
        // no rule at all stands for any arguments
        if let Some(conditions) = conditions(entry.only)? {
            alternatives.push(SeccompRule::new(conditions)?);
        }
    }
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, TARGET)?;
    filter.try_into()
}

fn conditions(only: Only) -> Result<Option<Vec<SeccompCondition>>, seccompiler::BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq};
    let condition = |argument, operator, value| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, u64::from(value))
    };
    Ok(match only {
        Only::Any => None,
        Only::Is(argument, value) => Some(vec![condition(argument, Eq, value)?]),
        Only::Clear(argument, bits) => Some(vec![condition(argument, MaskedEq(u64::from(bits)), 0)?]),
        Only::Both((first, first_value), (second, second_value)) => {
            Some(vec![condition(first, Eq, first_value)?, condition(second, Eq, second_value)?])
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_entry_has_a_reason_and_none_undoes_the_arguments_of_another() {
        let any: HashSet<_> =
            SERVE.iter().filter(|entry| matches!(entry.only, Only::Any)).map(|entry| entry.call).collect();
        for entry in SERVE.iter().chain(ONE_SHOT).chain(REOPEN) {
            assert!(!entry.reason.is_empty());
            assert!(matches!(entry.only, Only::Any) || !any.contains(&entry.call), "{}", entry.call);
        }
        for (call, reason) in SYSTEM_CALLS {
            assert!(!reason.is_empty());
            assert!(SERVE.iter().all(|entry| entry.call != *call), "{call} is in both lists");
        }
    }

    #[test]
    fn nothing_that_makes_processes_or_programs_is_allowed() {
        for call in [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_ptrace,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_kill,
        ] {
            assert!(SERVE.iter().chain(ONE_SHOT).all(|entry| entry.call != call), "{call}");
        }
    }

    #[test]
    fn both_filters_can_be_built() {
        assert!(filter(Mode::Serve, true).is_ok() && filter(Mode::OneShot, false).is_ok());
    }
}
