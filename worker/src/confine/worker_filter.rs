//! What a confined worker may call, and why. The launcher may call all of this too, since a filter can only
//! be made stricter.

use crate::arch::SYSTEM_CALLS;
use crate::sys::pagemap::PAGEMAP_SCAN;
use crate::sys::ptrace::{PTRACE_GETSIGMASK, PTRACE_PEEKSIGINFO, PTRACE_SETSIGMASK};
use crate::sys::socket::SO_PEERGROUPS;
use crate::sys::userfaultfd::{UFFDIO_COPY, UFFDIO_REGISTER, UFFDIO_UNREGISTER, UFFDIO_ZEROPAGE};
use memcr_filter::Condition::{Has, Is, Tracee, Whole, Within};
use memcr_filter::{Entry, Filter, allow, allow_if, bits, call, request};
use nix::unistd::Pid;

/// Memory that is read and written, never executed.
const NOT_EXECUTED: u32 = bits(libc::PROT_READ | libc::PROT_WRITE);
/// Flags of a clone(2) that makes a thread of this process.
const THREAD: u32 = bits(
    libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_SETTLS
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_CLEARTID,
);
/// One more that musl sets; the kernel ignores it.
const THREAD_OF_MUSL: u32 = THREAD | bits(libc::CLONE_DETACHED);
/// Ways of waiting for threads.
const WAITS: u32 = bits(libc::WNOHANG | libc::__WALL);
/// In newer C libraries: makes the guard of a thread's stack.
const MADV_GUARD_INSTALL: u32 = 102;

/// A request of ptrace(2) on a thread of the target.
macro_rules! ptrace {
    ($request:expr, $name:literal, $reason:literal) => {
        allow_if(call!(SYS_ptrace), $name, &[Whole(0, $request as u64), Tracee(1)], $reason)
    };
}

/// An option of a socket.
macro_rules! socket_option {
    ($option:expr, $name:literal, $reason:literal) => {
        allow_if(
            call!(SYS_getsockopt),
            $name,
            &[Is(1, bits(libc::SOL_SOCKET)), Is(2, bits($option))],
            $reason,
        )
    };
}

/// A request of ioctl(2).
macro_rules! ioctl {
    ($request:ident, $reason:literal) => {
        allow_if(call!(SYS_ioctl), stringify!($request), &[Is(1, request!($request))], $reason)
    };
}

/// Everything that has the same name on all architectures.
pub(crate) const TABLE: &[Entry] = &[
    allow(call!(SYS_read), "the signal descriptor, smaps, status, wake-up counters"),
    allow(call!(SYS_write), "wake-up counters; a panic's message"),
    allow(call!(SYS_pread64), "the target's memory and page map; the image"),
    allow(call!(SYS_pwrite64), "the image"),
    allow(call!(SYS_lseek), "smaps and status are read again from their start"),
    allow(call!(SYS_close), "descriptors are given up as soon as they are not needed"),
    allow(call!(SYS_statx), "size of the image, whether a socket is a client's"),
    allow(
        call!(SYS_sendmsg),
        "events for the broker, deposits for the launcher, orders for the parasite, who a client is",
    ),
    allow(call!(SYS_recvmsg), "orders of the broker, answers of the parasite, who a client over TCP is"),
    allow_if(
        call!(SYS_shutdown),
        "",
        &[Is(1, bits(libc::SHUT_RDWR))],
        "telling the parasite to leave, whoever else holds the other end; so the launcher tells workers that the broker is gone",
    ),
    socket_option!(libc::SO_TYPE, "SO_TYPE", "whether the socket that comes with a restore is a stream"),
    socket_option!(libc::SO_PEERCRED, "SO_PEERCRED", "who is at its other end"),
    socket_option!(SO_PEERGROUPS, "SO_PEERGROUPS", "in which groups"),
    allow(call!(SYS_getsockname), "whether that socket was accepted at the daemon's address"),
    allow(call!(SYS_getpeername), "whether that socket is connected to a client"),
    allow(call!(SYS_ppoll), "waits"),
    allow_if(
        call!(SYS_pipe2),
        "",
        &[Is(1, bits(libc::O_CLOEXEC))],
        "a thread of our own tells that it has finished",
    ),
    allow_if(
        call!(SYS_fcntl),
        "F_DUPFD_CLOEXEC",
        &[Is(1, bits(libc::F_DUPFD_CLOEXEC))],
        "each thread has its own end of that pipe; a socket is looked at by a copy",
    ),
    #[cfg(debug_assertions)]
    allow_if(
        call!(SYS_fcntl),
        "F_GETFD",
        &[Is(1, bits(libc::F_GETFD))],
        "debug builds only: the standard library's check before closing",
    ),
    ioctl!(PAGEMAP_SCAN, "which pages there are"),
    ioctl!(UFFDIO_REGISTER, "the guard"),
    ioctl!(UFFDIO_UNREGISTER, "the guard ends"),
    ioctl!(UFFDIO_COPY, "restore"),
    ioctl!(UFFDIO_ZEROPAGE, "restore"),
    ptrace!(libc::PTRACE_CONT, "PTRACE_CONT", "the parasite runs"),
    ptrace!(libc::PTRACE_SYSCALL, "PTRACE_SYSCALL", "a thread makes one call for us"),
    ptrace!(libc::PTRACE_INTERRUPT, "PTRACE_INTERRUPT", "the parasite is taken home"),
    ptrace!(libc::PTRACE_DETACH, "PTRACE_DETACH", "the target goes on"),
    ptrace!(libc::PTRACE_GETREGSET, "PTRACE_GETREGSET", "results of calls"),
    ptrace!(libc::PTRACE_SETREGSET, "PTRACE_SETREGSET", "calls, and the way back"),
    ptrace!(libc::PTRACE_SETOPTIONS, "PTRACE_SETOPTIONS", "exit-kill"),
    ptrace!(PTRACE_PEEKSIGINFO, "PTRACE_PEEKSIGINFO", "whether a signal will end the target"),
    ptrace!(PTRACE_GETSIGMASK, "PTRACE_GETSIGMASK", "a thread that works for us keeps its signals"),
    ptrace!(PTRACE_SETSIGMASK, "PTRACE_SETSIGMASK", "a thread that works for us gets no signal"),
    allow_if(
        call!(SYS_wait4),
        "",
        &[Is(0, u32::MAX), Within(2, WAITS), Whole(3, 0)],
        "stops of the traced threads",
    ),
    allow_if(call!(SYS_clone), "thread", &[Has(0, THREAD), Within(0, THREAD_OF_MUSL)], "threads of our own"),
    allow(call!(SYS_futex), "threads of our own"),
    allow(call!(SYS_sched_getaffinity), "how many threads of our own are worth it"),
    allow(call!(SYS_set_robust_list), "threads of our own"),
    allow(call!(SYS_rseq), "threads of our own"),
    allow(call!(SYS_sigaltstack), "threads of our own"),
    allow(call!(SYS_rt_sigprocmask), "threads of our own"),
    allow(call!(SYS_gettid), "the message of a panic names its thread"),
    allow(call!(SYS_exit), "threads of our own"),
    allow_if(call!(SYS_mprotect), "", &[Within(2, NOT_EXECUTED)], "memory of our own, never executable"),
    allow(call!(SYS_munmap), "memory of our own"),
    allow_if(call!(SYS_mremap), "", &[Whole(3, libc::MREMAP_MAYMOVE as u64)], "memory of our own that grows"),
    allow_if(
        call!(SYS_madvise),
        "MADV_DONTNEED",
        &[Is(2, bits(libc::MADV_DONTNEED))],
        "memory of our own that is given back",
    ),
    allow_if(
        call!(SYS_madvise),
        "MADV_GUARD_INSTALL",
        &[Is(2, MADV_GUARD_INSTALL)],
        "threads of our own, where the C library is of 2025 or later",
    ),
    allow(call!(SYS_brk), "memory of our own"),
    allow(call!(SYS_mlock), "the key stays out of swap"),
    allow(call!(SYS_clock_gettime), "times, where the vDSO can't tell them"),
    allow(call!(SYS_getrandom), "seeds of hash tables"),
    allow(call!(SYS_exit_group), "the end"),
];

/// Ranges that thread ids are put together to, so that the filter stays short.
const TID_RANGES: usize = 256;

/// The filter of a worker that traces `tids`.
pub(super) fn filter(tids: &[Pid]) -> Filter {
    Filter::new().and(TABLE).and(SYSTEM_CALLS).for_tracees(ranges(tids))
}

/// The thread ids as at most [`TID_RANGES`] ranges; the smallest gaps are closed first. What lies in a
/// closed gap is not traced by us, so the kernel refuses requests for it.
fn ranges(tids: &[Pid]) -> Vec<(u32, u32)> {
    let mut tids: Vec<u32> = tids.iter().filter_map(|tid| u32::try_from(tid.as_raw()).ok()).collect();
    tids.sort_unstable();
    let mut gaps: Vec<u32> = tids.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    // wider gaps than this one separate ranges
    let limit = gaps.get(TID_RANGES - 1).copied().unwrap_or(1).max(1);
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for tid in tids {
        match ranges.last_mut() {
            Some((_, last)) if tid - *last <= limit => *last = tid,
            _ => ranges.push((tid, tid)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::NEVER_SHOWN;
    use crate::sys::trial::end_of;
    use memcr_filter::Architecture;

    #[test]
    fn every_altered_argument_and_every_other_call_ends_the_worker() {
        // of no thread that there is
        let tids = pids([i32::MAX, i32::MAX - 1, i32::MAX - 9]);
        let filter = filter(&tids).answering_absent(call!(SYS_clone3));
        for architecture in Architecture::all() {
            let programs = filter.programs(architecture).unwrap();
            let (complaints, count) = filter.tried(NEVER_SHOWN, |attempt| end_of(&programs, attempt));
            assert!(complaints.is_empty(), "{architecture:?}: {complaints:#?}");
            assert!(count > 1000, "only {count} calls were tried");
        }
    }

    fn pids(numbers: impl IntoIterator<Item = i32>) -> Vec<Pid> {
        numbers.into_iter().map(Pid::from_raw).collect()
    }

    #[test]
    fn nothing_can_be_connected_to_opened_or_taken_out_of_a_process() {
        let filter = filter(&pids([5]));
        for never in [
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_pidfd_getfd,
            libc::SYS_execve,
            libc::SYS_clone3,
        ] {
            assert!(!filter.knows(never), "{never}");
        }
    }

    #[test]
    fn few_threads_are_named_exactly() {
        assert_eq!(ranges(&pids([7, 5, 6, 100])), [(5, 7), (100, 100)]);
    }

    #[test]
    fn many_scattered_threads_make_a_bounded_number_of_ranges_that_hold_them_all() {
        let tids = pids((0..3000).map(|n| n * 7 + n % 5));
        let ranges = ranges(&tids);
        assert!(ranges.len() <= TID_RANGES, "{}", ranges.len());
        for tid in &tids {
            let tid = u32::try_from(tid.as_raw()).unwrap();
            assert!(ranges.iter().any(|&(first, last)| (first..=last).contains(&tid)));
        }
        for architecture in Architecture::all() {
            assert!(filter(&tids).programs(architecture).is_ok(), "{architecture:?}");
        }
    }
}
