//! The system calls of the broker once it serves. Any other kills it, and then every worker restores
//! its target by itself.
//!
//! The list is data for review: each entry says what needs it. Nothing here can make a process, a
//! thread, a socket that reaches anybody, executable memory, or a file.

use super::failed;
use crate::arch::{REOPEN_CALLS, SYSTEM_CALLS};
use crate::error::BrokerError;
use memcr_filter::Condition::{Has, Is, Whole, Within};
use memcr_filter::{Architecture, Entry, Filter, allow, allow_if, bits, call, request};
use std::hash::RandomState;

/// What the process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It serves clients.
    Serve,
    /// It puts one process to sleep, for a person at a terminal perhaps.
    OneShot,
}

/// Flags of openat(2) for reading what exists.
const LOOKS: u32 = bits(libc::O_CLOEXEC) | LARGE_FILE;
/// Flags of openat(2) for the audit log.
const APPEND: u32 = bits(crate::audit::file::APPEND.bits());
/// What some C libraries set besides; the kernel does so itself.
const LARGE_FILE: u32 = bits(libc::O_LARGEFILE);

const SERVE: &[Entry] = &[
    allow(call!(SYS_read), "signals, /proc files, Enter on standard input"),
    allow(call!(SYS_write), "the two logs, the service manager, output of one shot"),
    allow(call!(SYS_close), "connections, pidfds, channels"),
    allow(call!(SYS_recvmsg), "clients, launcher, workers"),
    allow(call!(SYS_sendmsg), "clients, launcher, workers"),
    allow_if(call!(SYS_accept4), "", &[Is(3, bits(libc::SOCK_CLOEXEC))], "clients"),
    allow_if(
        call!(SYS_getsockopt),
        "SO_PEERCRED",
        &[Is(1, bits(libc::SOL_SOCKET)), Is(2, bits(libc::SO_PEERCRED))],
        "who a client is",
    ),
    allow_if(
        call!(SYS_setsockopt),
        "SO_LINGER",
        &[Is(1, bits(libc::SOL_SOCKET)), Is(2, bits(libc::SO_LINGER))],
        "closing what a client sent must not wait for its peer",
    ),
    allow_if(
        call!(SYS_shutdown),
        "",
        &[Is(1, bits(libc::SHUT_RDWR))],
        "a connection takes no more before it is closed",
    ),
    allow_if(
        call!(SYS_socketpair),
        "",
        &[Is(0, bits(libc::AF_UNIX)), Is(1, bits(libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC)), Is(2, 0)],
        "a control channel for each worker",
    ),
    allow_if(
        call!(SYS_fcntl),
        "F_DUPFD_CLOEXEC",
        &[Is(1, bits(libc::F_DUPFD_CLOEXEC))],
        "a client's socket for launcher and worker",
    ),
    #[cfg(debug_assertions)]
    allow_if(
        call!(SYS_fcntl),
        "F_GETFD",
        &[Is(1, bits(libc::F_GETFD))],
        "debug builds only: the standard library's check before closing",
    ),
    allow(call!(SYS_epoll_ctl), "the event loop"),
    allow_if(call!(SYS_openat), "look", &[Within(2, LOOKS)], "/proc files; landlock allows no other"),
    allow_if(call!(SYS_unlinkat), "", &[Is(2, 0)], "remove the name of our socket at the end"),
    allow(call!(SYS_brk), "memory"),
    allow(call!(SYS_munmap), "memory"),
    allow_if(call!(SYS_mremap), "", &[Whole(3, libc::MREMAP_MAYMOVE as u64)], "memory that grows"),
    allow(call!(SYS_futex), "wake the thread that closes, and its waiting"),
    allow(call!(SYS_clock_gettime), "times, where the vDSO can't tell them"),
    allow(call!(SYS_restart_syscall), "waiting goes on after a stop and continue"),
    allow(call!(SYS_sigaltstack), "the standard library's end of main"),
    allow(call!(SYS_gettid), "the message of a panic names its thread"),
    allow(call!(SYS_exit_group), "the end"),
];

/// Where the audit log can be opened anew.
const REOPEN: &[Entry] = &[
    allow_if(
        call!(SYS_openat),
        "append",
        &[Has(2, APPEND), Within(2, APPEND | LARGE_FILE)],
        "the audit log, to append; landlock allows that in its directory only",
    ),
    allow(call!(SYS_fstat), "whether what was opened is nobody else's"),
    allow_if(
        call!(SYS_fcntl),
        "F_OFD_SETLK",
        &[Is(1, bits(libc::F_OFD_SETLK))],
        "that nobody else goes on in the new file: two would make one chain of two",
    ),
];

const ONE_SHOT: &[Entry] = &[
    allow_if(
        call!(SYS_ioctl),
        "TIOCGWINSZ",
        &[Is(1, request!(libc::TIOCGWINSZ))],
        "width of the progress bar",
    ),
    allow_if(
        call!(SYS_ioctl),
        "TCGETS",
        &[Is(1, request!(libc::TCGETS))],
        "whether standard error is a terminal",
    ),
];

/// Installs the filter for `mode` in every thread of this process; whether the audit log may be opened anew.
pub(super) fn apply(mode: Mode, reopens: bool) -> Result<(), BrokerError> {
    // seeds of hash tables are asked of the kernel once in a thread, and not any more behind the filter
    std::hint::black_box(RandomState::new());
    let filter = filter(mode, reopens);
    #[cfg(feature = "drill")]
    let filter = memcr_drill::Role::removed("broker").into_iter().fold(filter, Filter::without);
    let programs = Architecture::here().and_then(|architecture| filter.programs(architecture));
    let programs = programs.map_err(|cause| failed("build the system call filter", &cause))?;
    programs.iter().try_for_each(|program| {
        seccompiler::apply_filter_all_threads(program)
            .map_err(|cause| failed("install the system call filter", &cause))
    })
}

fn filter(mode: Mode, reopens: bool) -> Filter {
    let filter = Filter::new().and(SYSTEM_CALLS).and(SERVE);
    let filter = if reopens { filter.and(REOPEN).and(REOPEN_CALLS) } else { filter };
    match mode {
        Mode::Serve => filter,
        Mode::OneShot => filter.and(ONE_SHOT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::NEVER_SHOWN;
    use crate::sys::trial::end_of;

    #[test]
    fn every_altered_argument_and_every_other_call_ends_the_broker() {
        let filter = filter(Mode::OneShot, true);
        for architecture in Architecture::all() {
            let programs = filter.programs(architecture).unwrap();
            let (complaints, count) = filter.tried(NEVER_SHOWN, |attempt| end_of(&programs, attempt));
            assert!(complaints.is_empty(), "{architecture:?}: {complaints:#?}");
            assert!(count > 1000, "only {count} calls were tried");
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
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_kill,
        ] {
            assert!(!filter(Mode::OneShot, true).knows(call), "{call}");
        }
    }

    // other builds lack a row or two
    #[cfg(debug_assertions)]
    #[test]
    fn the_document_shows_the_tables_as_they_are() {
        use memcr_filter::describe::{table, table_under};
        let document = include_str!("../../../doc/confinement.md");
        for (heading, entries) in [
            ("### The broker", SERVE),
            ("### The broker on x86-64", SYSTEM_CALLS),
            ("### Where the audit log can be opened anew", REOPEN),
            ("### One shot", ONE_SHOT),
        ] {
            let table = table(entries);
            assert_eq!(table_under(document, heading), table, "below {heading} there should be:\n{table}");
        }
    }

    #[test]
    fn the_tables_have_no_flaws() {
        for mode in [Mode::Serve, Mode::OneShot] {
            let filter = filter(mode, true);
            assert!(filter.flaws().is_empty(), "{:?}", filter.flaws());
        }
    }
}
