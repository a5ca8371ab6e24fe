//! What a confined worker may call, and why.

use crate::confine::{Condition, Filter};
use crate::sys::pagemap::PAGEMAP_SCAN;
use crate::sys::ptrace::{PTRACE_GETSIGMASK, PTRACE_PEEKSIGINFO, PTRACE_SETSIGMASK};
use crate::sys::userfaultfd::{UFFDIO_API, UFFDIO_COPY, UFFDIO_REGISTER, UFFDIO_UNREGISTER, UFFDIO_ZEROPAGE};
use nix::unistd::Pid;

/// Allowed with any argument.
const ALLOWED: &[(i64, &str)] = &[
    (libc::SYS_read, "the signal descriptor, smaps, status, wake-up counters"),
    (libc::SYS_write, "wake-up counters; a panic's message"),
    (libc::SYS_pread64, "the target's memory and page map; the image"),
    (libc::SYS_pwrite64, "the image"),
    (libc::SYS_lseek, "smaps and status are read again from their start"),
    (libc::SYS_close, "descriptors are given up as soon as they are not needed"),
    (libc::SYS_fstat, "size of the image"),
    (libc::SYS_statx, "size of the image, whether a socket is a client's"),
    (libc::SYS_ftruncate, "the image is cut to its length"),
    (
        libc::SYS_sendmsg,
        "events for the broker, deposits for the launcher, orders for the parasite, who a client is",
    ),
    (libc::SYS_recvmsg, "orders of the broker, answers of the parasite, who a client over TCP is"),
    (libc::SYS_getsockopt, "who is at the other end of a socket that comes with a restore"),
    (libc::SYS_getsockname, "whether that socket was accepted at the daemon's address"),
    (libc::SYS_getpeername, "whether that socket is connected to a client"),
    (libc::SYS_ppoll, "waits"),
    (libc::SYS_pipe2, "a thread of our own tells that it has finished"),
    (libc::SYS_fcntl, "each thread has its own end of that pipe; a socket is looked at by a copy"),
    (libc::SYS_fadvise64, "a frame that fails authentication is read again from the disk"),
    (libc::SYS_wait4, "stops of the traced threads"),
    (libc::SYS_futex, "threads of our own"),
    (libc::SYS_munmap, "memory of our own"),
    (libc::SYS_mremap, "memory of our own"),
    (libc::SYS_madvise, "memory of our own"),
    (libc::SYS_brk, "memory of our own"),
    (libc::SYS_mlock, "the key stays out of swap"),
    (libc::SYS_munlock, "the key stays out of swap"),
    (libc::SYS_sched_yield, "threads of our own"),
    (libc::SYS_sched_getaffinity, "how many threads of our own are worth it"),
    (libc::SYS_set_robust_list, "threads of our own"),
    (libc::SYS_rseq, "threads of our own"),
    (libc::SYS_sigaltstack, "threads of our own"),
    (libc::SYS_rt_sigprocmask, "threads of our own"),
    (libc::SYS_rt_sigaction, "the runtime looks at what a signal does"),
    (libc::SYS_rt_sigreturn, "the way out of a signal handler of the runtime"),
    (libc::SYS_gettid, "threads of our own"),
    (libc::SYS_getpid, "the library's abort"),
    (libc::SYS_clock_gettime, "times, where the vDSO can't tell them"),
    (libc::SYS_clock_nanosleep, "none of ours; the library's locks"),
    (libc::SYS_getrandom, "seeds of hash tables"),
    (libc::SYS_restart_syscall, "the kernel's own way to go on with a wait"),
    (libc::SYS_exit, "threads of our own"),
    (libc::SYS_exit_group, "the end"),
];

/// Flags of a clone that makes a thread, without which it would make a process.
const CLONE_THREAD: u64 = libc::CLONE_THREAD as u64;

/// ptrace requests on stopped threads.
const PTRACE_REQUESTS: &[(u64, &str)] = &[
    (libc::PTRACE_CONT as u64, "the parasite runs"),
    (libc::PTRACE_SYSCALL as u64, "a thread makes one call for us"),
    (libc::PTRACE_INTERRUPT as u64, "the parasite is taken home"),
    (libc::PTRACE_DETACH as u64, "the target goes on"),
    (libc::PTRACE_GETREGSET as u64, "results of calls"),
    (libc::PTRACE_SETREGSET as u64, "calls, and the way back"),
    (libc::PTRACE_SETOPTIONS as u64, "exit-kill"),
    (PTRACE_PEEKSIGINFO as u64, "whether a signal will end the target"),
    (PTRACE_GETSIGMASK as u64, "a thread that works for us keeps its signals"),
    (PTRACE_SETSIGMASK as u64, "a thread that works for us gets no signal"),
];

/// ioctl requests.
const IOCTLS: &[(u64, &str)] = &[
    (PAGEMAP_SCAN, "which pages there are"),
    (UFFDIO_API, "the guard"),
    (UFFDIO_REGISTER, "the guard"),
    (UFFDIO_UNREGISTER, "the guard ends"),
    (UFFDIO_COPY, "restore"),
    (UFFDIO_ZEROPAGE, "restore"),
];

/// Ranges that thread ids are put together to, so that the filter stays short.
const TID_RANGES: usize = 48;

/// The filter of a worker that traces `tids`.
pub(super) fn filter(tids: &[Pid]) -> Filter {
    let mut filter = Filter::default();
    filter.allow(ALLOWED);
    // memory of our own, never to be executed
    let no_execute = Condition::Lacks(2, libc::PROT_EXEC as u64);
    filter.allow_if(libc::SYS_mmap, &[no_execute]);
    filter.allow_if(libc::SYS_mprotect, &[no_execute]);
    filter.allow_if(libc::SYS_clone, &[Condition::Has(0, CLONE_THREAD)]);
    // names of threads
    filter.allow_if(libc::SYS_prctl, &[Condition::Is(0, libc::PR_SET_NAME as u64)]);
    // the runtime's limit of memory to lock is looked at, never changed
    filter.allow_if(libc::SYS_prlimit64, &[Condition::Is(0, 0)]);
    for &(request, _reason) in IOCTLS {
        filter.allow_if(libc::SYS_ioctl, &[Condition::Is(1, request)]);
    }
    for (first, last) in ranges(tids) {
        for &(request, _reason) in PTRACE_REQUESTS {
            filter
                .allow_if(libc::SYS_ptrace, &[Condition::Is(0, request), Condition::Between(1, first, last)]);
        }
    }
    filter
}

/// The thread ids as at most [`TID_RANGES`] ranges; the smallest gaps are closed first. What lies in a
/// closed gap is not traced by us, so the kernel refuses requests for it.
fn ranges(tids: &[Pid]) -> Vec<(u64, u64)> {
    let mut tids: Vec<u64> = tids.iter().filter_map(|tid| u64::try_from(tid.as_raw()).ok()).collect();
    tids.sort_unstable();
    let mut gaps: Vec<u64> = tids.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable_by(|a, b| b.cmp(a));
    // wider gaps than this one separate ranges
    let limit = gaps.get(TID_RANGES - 1).copied().unwrap_or(1).max(1);
    let mut ranges: Vec<(u64, u64)> = Vec::new();
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
        ] {
            assert!(!filter.allows(never), "{never}");
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
        for tid in tids {
            let tid = u64::try_from(tid.as_raw()).unwrap();
            assert!(ranges.iter().any(|&(first, last)| (first..=last).contains(&tid)));
        }
    }
}
