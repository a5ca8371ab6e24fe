//! What the launcher may call, and so what a worker may until it is confined, and why.

use crate::confine::{Condition, Filter};
use crate::trace::rendezvous::Way;

/// Allowed with any argument: which process may be touched is decided by policy, not by numbers.
const ALLOWED: &[(i64, &str)] = &[
    (libc::SYS_ptrace, "attach"),
    (libc::SYS_process_vm_readv, "looking for a system call instruction, reading the rseq area"),
    (libc::SYS_process_vm_writev, "preparing the parasite's memory"),
    (libc::SYS_kcmp, "whether the target shares its memory"),
    (
        libc::SYS_pidfd_open,
        "a thread of a target whose first one has ended, the target of a client of the original",
    ),
    (libc::SYS_wait4, "stops of threads, ends of workers"),
    (libc::SYS_clone, "a worker is a fork; its threads"),
    (libc::SYS_openat, "/proc, the image"),
    (libc::SYS_getdents64, "threads and descriptors of the target, all processes"),
    (libc::SYS_readlinkat, "executables"),
    (libc::SYS_newfstatat, "the image, descriptors of the target"),
    (libc::SYS_fstat, "the image, descriptors of the target"),
    (libc::SYS_statx, "files, by the standard library"),
    (libc::SYS_unlinkat, "removing an image"),
    (libc::SYS_read, "/proc"),
    (libc::SYS_write, "messages on standard error"),
    (libc::SYS_pread64, "the target's page map and memory, the image"),
    (libc::SYS_pwrite64, "the image"),
    (libc::SYS_lseek, "/proc files that are read again"),
    (libc::SYS_ftruncate, "the image"),
    (libc::SYS_fadvise64, "the image"),
    (libc::SYS_close, "descriptors"),
    (libc::SYS_close_range, "descriptors of the launcher, in a worker"),
    (libc::SYS_fcntl, "descriptors"),
    (libc::SYS_pipe2, "threads of a worker"),
    (libc::SYS_ioctl, "the guard, the page map, pid namespaces"),
    (libc::SYS_socketpair, "the deposit socket"),
    (libc::SYS_sendmsg, "reports, deposits, events, questions about sockets"),
    (libc::SYS_recvmsg, "jobs, deposits, orders, answers about sockets"),
    (libc::SYS_getsockopt, "who a client is"),
    (libc::SYS_getsockname, "whether a socket is a client's"),
    (libc::SYS_getpeername, "whether a socket is a client's"),
    (libc::SYS_shutdown, "telling workers that the broker is gone, whoever else holds its end"),
    (libc::SYS_ppoll, "waits"),
    (libc::SYS_signalfd4, "ends of workers, stops of threads"),
    (libc::SYS_rt_sigprocmask, "signals of the runtime"),
    (libc::SYS_rt_sigaction, "signals of the runtime"),
    (libc::SYS_rt_sigreturn, "signals of the runtime"),
    (libc::SYS_sigaltstack, "signals of the runtime"),
    (libc::SYS_prctl, "capabilities, flags, names of threads"),
    (libc::SYS_capget, "capabilities, read back"),
    (libc::SYS_capset, "capabilities"),
    (libc::SYS_landlock_create_ruleset, "confining a worker"),
    (libc::SYS_landlock_add_rule, "confining a worker"),
    (libc::SYS_landlock_restrict_self, "confining a worker"),
    (libc::SYS_seccomp, "confining a worker"),
    (libc::SYS_prlimit64, "limits are looked at"),
    (libc::SYS_geteuid, "whether an image is ours"),
    (libc::SYS_getpid, "which process is ours"),
    (libc::SYS_getppid, "which process is ours"),
    (libc::SYS_gettid, "threads of a worker"),
    (libc::SYS_mmap, "memory of our own"),
    (libc::SYS_mprotect, "memory of our own"),
    (libc::SYS_munmap, "memory of our own"),
    (libc::SYS_mremap, "memory of our own"),
    (libc::SYS_madvise, "memory of our own"),
    (libc::SYS_brk, "memory of our own"),
    (libc::SYS_mlock, "keys stay out of swap"),
    (libc::SYS_munlock, "keys stay out of swap"),
    (libc::SYS_futex, "threads of a worker"),
    (libc::SYS_set_robust_list, "threads of a worker"),
    (libc::SYS_rseq, "threads of a worker"),
    (libc::SYS_sched_getaffinity, "threads of a worker"),
    (libc::SYS_sched_yield, "threads of a worker"),
    (libc::SYS_clock_gettime, "times, where the vDSO can't tell them"),
    (libc::SYS_clock_nanosleep, "the library's locks"),
    (libc::SYS_getrandom, "keys"),
    (libc::SYS_restart_syscall, "the kernel's own way to go on with a wait"),
    (libc::SYS_exit, "threads of a worker"),
    (libc::SYS_exit_group, "the end"),
];

/// Where an end of a socketpair is taken out of the target.
const TAKING: &[(i64, &str)] = &[(libc::SYS_pidfd_getfd, "taking a socket out of the target")];

/// Where the parasite has a socket with a name; UNIX sockets only.
const CONNECTING: &[(i64, &str)] = &[(libc::SYS_connect, "connecting to the parasite")];

/// Where that socket is in a directory.
const ENTERING: &[(i64, &str)] = &[(libc::SYS_openat2, "the directory, as the target finds it")];

/// The launcher's filter, where workers meet their parasites in this way; whether clients come over TCP.
pub(super) fn filter(way: &Way, over_tcp: bool) -> Filter {
    let mut filter = Filter::default();
    filter.allow(ALLOWED);
    if over_tcp {
        // who a client is; every worker has a socket of its own for that
        let (netlink, sock_diag) = (libc::AF_NETLINK as u64, libc::NETLINK_SOCK_DIAG as u64);
        filter.allow_if(libc::SYS_socket, &[Condition::Is(0, netlink), Condition::Is(2, sock_diag)]);
    }
    match way {
        Way::Taken => filter.allow(TAKING),
        Way::Abstract | Way::Named { .. } => {
            filter.allow(CONNECTING);
            filter.allow_if(libc::SYS_socket, &[Condition::Is(0, libc::AF_UNIX as u64)]);
        }
    }
    if let Way::Named { .. } = way {
        filter.allow(ENTERING);
    }
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_the_parasite_has_a_socket_with_a_name_anything_may_be_connected_to() {
        let named = Way::Named { directory: "/run".into(), group: None };
        for (way, takes, connects, enters) in [
            (Way::Taken, true, false, false),
            (Way::Abstract, false, true, false),
            (named, false, true, true),
        ] {
            let filter = filter(&way, false);
            assert_eq!(filter.allows(libc::SYS_pidfd_getfd), takes);
            assert_eq!(filter.allows(libc::SYS_connect), connects);
            assert_eq!(filter.allows(libc::SYS_socket), connects);
            assert_eq!(filter.allows(libc::SYS_openat2), enters);
            for never in [libc::SYS_bind, libc::SYS_execve, libc::SYS_kill] {
                assert!(!filter.allows(never));
            }
        }
    }
}
