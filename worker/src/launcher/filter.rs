//! What the launcher may call, and so what a worker may until it is confined, and why: this, and what a
//! confined worker may.

use crate::arch::{LAUNCHER_CALLS, SYSTEM_CALLS};
use crate::confine::CONFINED_WORKER;
use crate::sys::kcmp::{KCMP_FILE, KCMP_VM};
use crate::sys::pidfd::PIDFD_THREAD;
use crate::sys::ptrace::PTRACE_GET_RSEQ_CONFIGURATION;
use crate::sys::socket::SO_PEERPIDFD;
use crate::sys::userfaultfd::UFFDIO_API;
use crate::trace::rendezvous::Way;
use memcr_filter::Condition::{Has, Is, Tracee, Whole, Within};
use memcr_filter::{Entry, Filter, allow, allow_if, bits, call, request};

/// Flags of openat(2) for reading what exists.
const LOOKS: u32 =
    bits(libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK)
        | LARGE_FILE;
/// Flags of openat(2) that make an image, and nothing else.
const MAKES: u32 = bits(libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC);
/// What some C libraries set besides; the kernel does so itself.
const LARGE_FILE: u32 = bits(libc::O_LARGEFILE);
/// Flags of a clone(2) that forks: what the child's end sends, and what the C library wants to know.
const FORK: u32 = bits(libc::SIGCHLD);
const FORK_OF_LIBRARY: u32 = FORK | bits(libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID);

/// A request of ptrace(2), on whatever thread: which process may be touched is decided by policy, not by
/// numbers.
macro_rules! ptrace {
    ($request:expr, $name:literal, $reason:literal) => {
        allow_if(call!(SYS_ptrace), $name, &[Whole(0, $request as u64), Tracee(1)], $reason)
    };
}

/// An option of prctl(2).
macro_rules! control {
    ($option:ident, $reason:literal $(, $argument:expr)?) => {
        allow_if(call!(SYS_prctl), stringify!($option), &[Is(0, bits(libc::$option)) $(, $argument)?], $reason)
    };
}

/// Besides what a confined worker may.
const TABLE: &[Entry] = &[
    ptrace!(libc::PTRACE_SEIZE, "PTRACE_SEIZE", "attach"),
    ptrace!(libc::PTRACE_POKEDATA, "PTRACE_POKEDATA", "the parasite's code, which is not writable to others"),
    ptrace!(
        PTRACE_GET_RSEQ_CONFIGURATION,
        "PTRACE_GET_RSEQ_CONFIGURATION",
        "the rseq area of the thread that works for us"
    ),
    allow_if(
        call!(SYS_process_vm_readv),
        "",
        &[Whole(2, 1), Whole(4, 1), Whole(5, 0)],
        "looking for a system call instruction, reading the rseq area",
    ),
    allow_if(
        call!(SYS_process_vm_writev),
        "",
        &[Whole(2, 1), Whole(4, 1), Whole(5, 0)],
        "preparing the parasite's memory",
    ),
    allow_if(call!(SYS_kcmp), "KCMP_VM", &[Is(2, bits(KCMP_VM))], "whether the target shares its memory"),
    allow_if(call!(SYS_kcmp), "KCMP_FILE", &[Is(2, bits(KCMP_FILE))], "whether a descriptor is the guard"),
    allow_if(call!(SYS_pidfd_open), "process", &[Is(1, 0)], "the target of a client of the original"),
    allow_if(
        call!(SYS_pidfd_open),
        "PIDFD_THREAD",
        &[Is(1, bits(PIDFD_THREAD))],
        "a thread of a target whose first one has ended",
    ),
    allow_if(call!(SYS_clone), "fork", &[Has(0, FORK), Within(0, FORK_OF_LIBRARY)], "a worker is a fork"),
    allow_if(call!(SYS_openat), "look", &[Within(2, LOOKS)], "/proc"),
    allow_if(call!(SYS_openat), "make", &[Has(2, MAKES), Within(2, MAKES | LARGE_FILE)], "the image"),
    allow_if(call!(SYS_ioctl), "UFFDIO_API", &[Is(1, request!(UFFDIO_API))], "the guard is made ready"),
    allow_if(
        call!(SYS_getsockopt),
        "SO_PEERPIDFD",
        &[Is(1, bits(libc::SOL_SOCKET)), Is(2, bits(SO_PEERPIDFD))],
        "whether the client that is named still lives",
    ),
    allow(call!(SYS_restart_syscall), "a wait with a limit goes on after a stop and a continue"),
    allow(call!(SYS_sched_yield), "the library's channels, when somebody has just stopped to listen"),
    allow(call!(SYS_rt_sigaction), "the C library, with the first thread"),
    allow(call!(SYS_getpid), "who a violation is on record for"),
    allow(call!(SYS_getdents64), "threads and descriptors of the target, all processes"),
    allow(call!(SYS_readlinkat), "executables"),
    allow(call!(SYS_fstat), "descriptors of the target, namespaces, executables, the policy file"),
    allow_if(
        call!(SYS_prlimit64),
        "RLIMIT_FSIZE",
        &[Is(0, 0), Is(1, libc::RLIMIT_FSIZE)],
        "confining a worker: the limit can only be lowered",
    ),
    allow_if(call!(SYS_unlinkat), "", &[Is(2, 0)], "removing an image"),
    allow_if(call!(SYS_close_range), "", &[Is(2, 0)], "descriptors of the launcher, in a worker"),
    allow_if(
        call!(SYS_fcntl),
        "F_GETFL",
        &[Is(1, bits(libc::F_GETFL))],
        "the C library looks at a descriptor before it lists a directory",
    ),
    allow_if(
        call!(SYS_fcntl),
        "F_SETFD",
        &[Is(1, bits(libc::F_SETFD)), Is(2, bits(libc::FD_CLOEXEC))],
        "the C library marks it close-on-exec, as it is already",
    ),
    allow_if(
        call!(SYS_ioctl),
        "NS_GET_PARENT",
        &[Is(1, request!(libc::NS_GET_PARENT))],
        "pid namespaces of clients",
    ),
    allow_if(
        call!(SYS_ioctl),
        "NS_GET_PID_FROM_PIDNS",
        &[Is(1, request!(libc::NS_GET_PID_FROM_PIDNS))],
        "numbers in pid namespaces of clients",
    ),
    allow_if(
        call!(SYS_socketpair),
        "",
        &[Is(0, bits(libc::AF_UNIX)), Is(1, bits(libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC)), Is(2, 0)],
        "the deposit socket",
    ),
    allow_if(
        call!(SYS_signalfd4),
        "",
        &[Is(0, u32::MAX), Is(3, bits(libc::SFD_NONBLOCK | libc::SFD_CLOEXEC))],
        "ends of workers, stops of threads",
    ),
    control!(PR_SET_DUMPABLE, "not dumpable, never dumpable", Whole(1, 0)),
    control!(PR_SET_NO_NEW_PRIVS, "confining a worker"),
    allow_if(
        call!(SYS_prctl),
        "PR_CAP_AMBIENT_IS_SET",
        &[Is(0, bits(libc::PR_CAP_AMBIENT)), Whole(1, libc::PR_CAP_AMBIENT_IS_SET as u64)],
        "capabilities, read back",
    ),
    allow_if(
        call!(SYS_prctl),
        "PR_CAP_AMBIENT_CLEAR_ALL",
        &[Is(0, bits(libc::PR_CAP_AMBIENT)), Whole(1, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64)],
        "confining a worker",
    ),
    control!(PR_CAPBSET_READ, "the library asks which capabilities this kernel has"),
    allow(call!(SYS_capget), "capabilities, read back"),
    allow(call!(SYS_capset), "CAP_SYS_PTRACE takes effect, and is given up"),
    allow(call!(SYS_landlock_create_ruleset), "confining a worker"),
    allow(call!(SYS_landlock_restrict_self), "confining a worker"),
    allow_if(call!(SYS_seccomp), "", &[Is(0, libc::SECCOMP_SET_MODE_FILTER), Is(1, 0)], "confining a worker"),
    allow(call!(SYS_geteuid), "whether an image is ours"),
    allow(call!(SYS_getppid), "whether the broker lives"),
];

/// Where an end of a socketpair is taken out of the target.
const TAKING: &[Entry] =
    &[allow_if(call!(SYS_pidfd_getfd), "", &[Is(2, 0)], "taking a socket out of the target")];

/// Where the parasite has a socket with a name.
const CONNECTING: &[Entry] = &[
    allow(call!(SYS_connect), "connecting to the parasite"),
    allow_if(
        call!(SYS_socket),
        "AF_UNIX",
        &[Is(0, bits(libc::AF_UNIX)), Is(1, SEQPACKET), Is(2, 0)],
        "connecting to the parasite; no other sockets",
    ),
];

/// How those are made.
const SEQPACKET: u32 = bits(libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);

/// Where that socket is in a directory.
const ENTERING: &[Entry] = &[allow(call!(SYS_openat2), "the directory, as the target finds it")];

/// Where clients come over TCP.
const ASKING: &[Entry] = &[allow_if(
    call!(SYS_socket),
    "NETLINK_SOCK_DIAG",
    &[
        Is(0, bits(libc::AF_NETLINK)),
        Is(1, bits(libc::SOCK_RAW | libc::SOCK_CLOEXEC)),
        Is(2, bits(libc::NETLINK_SOCK_DIAG)),
    ],
    "who a client is; every worker has a socket of its own for that",
)];

/// The launcher's filter, where workers meet their parasites in this way; whether clients come over TCP.
pub(super) fn filter(way: &Way, over_tcp: bool) -> Filter {
    let mut filter = Filter::new().and(CONFINED_WORKER).and(SYSTEM_CALLS).and(TABLE).and(LAUNCHER_CALLS);
    if over_tcp {
        filter = filter.and(ASKING);
    }
    match way {
        Way::Taken => filter.and(TAKING),
        Way::Abstract => filter.and(CONNECTING),
        Way::Named { .. } => filter.and(CONNECTING).and(ENTERING),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::NEVER_SHOWN;
    use crate::sys::trial::end_of;
    use memcr_filter::Architecture;

    #[test]
    fn every_altered_argument_and_every_other_call_ends_the_launcher() {
        // entries that no daemon needs together don't make each other void (the_tables_have_no_flaws)
        let named = Way::Named { directory: "/run".into(), group: None };
        let filter = filter(&named, true).and(TAKING).answering_absent(call!(SYS_clone3));
        for architecture in Architecture::all() {
            let programs = filter.programs(architecture).unwrap();
            let (complaints, count) = filter.tried(NEVER_SHOWN, |attempt| end_of(&programs, attempt));
            assert!(complaints.is_empty(), "{architecture:?}: {complaints:#?}");
            assert!(count > 1000, "only {count} calls were tried");
        }
    }

    // other builds lack a row or two
    #[cfg(debug_assertions)]
    #[test]
    fn the_document_shows_the_tables_as_they_are() {
        use memcr_filter::describe::{table, table_under};
        let document = include_str!("../../../doc/confinement.md");
        for (heading, entries) in [
            ("### A confined worker", CONFINED_WORKER),
            ("### A confined worker on x86-64", SYSTEM_CALLS),
            ("### The launcher, and a worker that attaches", TABLE),
            ("### The launcher on x86-64", LAUNCHER_CALLS),
            ("### Where a socket is taken out of the target", TAKING),
            ("### Where the parasite has a socket with a name", CONNECTING),
            ("### Where that socket is in a directory", ENTERING),
            ("### Where clients come over TCP", ASKING),
        ] {
            let table = table(entries);
            assert_eq!(table_under(document, heading), table, "below {heading} there should be:\n{table}");
        }
    }

    #[test]
    fn the_tables_have_no_flaws() {
        let named = Way::Named { directory: "/run".into(), group: None };
        for way in [Way::Taken, Way::Abstract, named] {
            let filter = filter(&way, true);
            assert!(filter.flaws().is_empty(), "{:?}", filter.flaws());
        }
    }

    #[test]
    fn only_where_the_parasite_has_a_socket_with_a_name_anything_may_be_connected_to() {
        let named = Way::Named { directory: "/run".into(), group: None };
        for (way, takes, connects, enters) in [
            (Way::Taken, true, false, false),
            (Way::Abstract, false, true, false),
            (named, false, true, true),
        ] {
            let filter = filter(&way, false);
            assert_eq!(filter.knows(libc::SYS_pidfd_getfd), takes);
            assert_eq!(filter.knows(libc::SYS_connect), connects);
            assert_eq!(filter.knows(libc::SYS_socket), connects);
            assert_eq!(filter.knows(libc::SYS_openat2), enters);
            for never in [libc::SYS_bind, libc::SYS_execve, libc::SYS_kill] {
                assert!(!filter.knows(never));
            }
        }
    }
}
